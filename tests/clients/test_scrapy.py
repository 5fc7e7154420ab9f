"""Scrapy keeps the responses of a crawl in lsmdbm: HTTPCACHE_DBM_MODULE = "lsmdbm"."""

import ast
import http.server
import json
import os
import re
import threading
from pathlib import Path

import pytest

import lsmdbm
from support.clients import client, finish, shown

client("scrapy")

SETTINGS = {
    name: ast.literal_eval(value)
    for name, value in (line.split(" = ") for line in shown("Scrapy").splitlines())
}
PAGES = 12  # each links to the next one
BODY = "caf\u00e9 \u20ac".encode() + bytes(range(256)) * 40

SPIDER = """
import scrapy

class Pages(scrapy.Spider):
    name = "pages"
    handle_httpstatus_list = [404]

    async def start(self):
        yield scrapy.Request(self.url + "/0")

    def parse(self, response):
        yield {
            "url": response.url,
            "status": response.status,
            "header": response.headers["X-Page"].decode(),
            "body": response.body.hex(),
            "cached": "cached" in response.flags,
        }
        if "Next" in response.headers:
            yield response.follow(response.headers["Next"].decode())
"""


class Site:
    """A web site on 127.0.0.1: pages 0, 1, ... of which one redirects and the last one says 404."""

    def __init__(self):
        self.asked = []
        self.held = None  # the page that is not answered
        self.holding, self.release = threading.Event(), threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.answer(self)

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, request):
        self.asked.append(request.path)
        name = request.path[1:]
        if name == self.held:
            self.holding.set()
            self.release.wait()
            return
        if name == "3":
            request.send_response(302)
            request.send_header("Location", "/moved")
        else:
            request.send_response(404 if name == str(PAGES - 1) else 200)
        request.send_header("X-Page", name)
        if name != str(PAGES - 1):
            request.send_header("Next", "/4" if name == "moved" else f"/{int(name) + 1}")
        request.end_headers()
        request.wfile.write(BODY + name.encode())

    def close(self):
        self.release.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture
def begin(tmp_path, start):
    """Start a crawl of a site."""
    (tmp_path / "pages.py").write_text(SPIDER)

    def begin_one(site, **settings):
        settings = {
            **SETTINGS,
            "HTTPCACHE_DIR": os.fspath(tmp_path / "cache"),
            "CONCURRENT_REQUESTS": "1",
            "LOG_LEVEL": "WARNING",  # what goes wrong, and little enough for a pipe that nobody reads
            "REMOTE_CONTROL_ENABLED": "0",
            "RETRY_ENABLED": "0",
            "TELNETCONSOLE_ENABLED": "0",
            **settings,
        }
        pairs = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
        crawl = ["-m", "scrapy", "runspider", "pages.py", "-a", f"url={site.url}", "-O", "items.json"]
        return start(*crawl, *pairs)

    return begin_one


@pytest.fixture
def crawl(tmp_path, begin):
    """Crawl a site to the end, and return the items."""

    def crawl_all(site, **settings):
        assert (0, "") == finish(begin(site, **settings))
        return json.loads((tmp_path / "items.json").read_text() or "[]")

    return crawl_all


def names(first, last):
    """What is asked for, in order, from one page to before another."""
    return ["moved" if name == 3.5 else str(name) for name in sorted([*range(first, last), 3.5])]


def items(site, pages, cached):
    return [
        {
            "url": f"{site.url}/{name}",
            "status": 404 if name == str(PAGES - 1) else 200,
            "header": name,
            "body": (BODY + name.encode()).hex(),
            "cached": cached,
        }
        for name in pages
        if name != "3"
    ]


def database(tmp_path):
    return lsmdbm.open(tmp_path / "cache/pages.db")


def test_second_crawl_gets_every_response_from_the_cache(tmp_path, site, crawl):
    pages = names(0, PAGES)

    assert items(site, pages, cached=False) == crawl(site)
    assert [f"/{name}" for name in pages] == site.asked
    site.close()
    assert items(site, pages, cached=True) == crawl(site)
    with database(tmp_path) as db:
        assert 2 * len(pages) == len(db)
        assert {b"data", b"time"} == {key.partition(b"_")[2] for key in db}
        assert all(float(value) > 1.6e9 for key, value in db.items() if key.endswith(b"_time"))


def test_responses_of_a_crawl_that_was_killed_stay_in_the_cache(tmp_path, site, begin):
    site.held = "8"
    process = begin(site)
    assert site.holding.wait(60)

    process.kill()  # no signal handler, no close: the crawl never knew
    process.wait()
    assert [f"/{name}" for name in names(0, 9)] == site.asked
    site.close()
    with database(tmp_path) as db:
        assert 2 * len(names(0, 8)) == len(db)

    status, log = finish(begin(site))  # the page that never came is refused now, and no item
    assert (0, True) == (status, "refused" in log), log
    assert items(site, names(0, 8), cached=True) == json.loads((tmp_path / "items.json").read_text())


def test_expired_responses_are_fetched_again_and_replaced(tmp_path, site, crawl):
    crawl(site)
    with lsmdbm.open(tmp_path / "cache/pages.db", "w") as db:
        times = [key for key in db if key.endswith(b"_time")]
        expired = times[::2]
        db.update((key, str(float(db[key]) - 7200)) for key in expired)
        before = dict(db)
    site.asked.clear()

    seen = crawl(site, HTTPCACHE_EXPIRATION_SECS=3600)
    assert len(expired) == len(site.asked)
    assert [item["url"] for item in seen if not item["cached"]] == [
        f"{site.url}{page}" for page in site.asked if page != "/3"
    ]
    with database(tmp_path) as db:
        assert before.keys() == set(db)
        assert set(expired) == {key for key in times if db[key] != before[key]}
        assert all(float(db[key]) > float(before[key]) + 7000 for key in expired)


def test_a_crawl_beside_another_one_loses_what_it_fetches_and_says_why(tmp_path, site, begin):
    """Scrapy takes no error of a cache for a reason to stop."""
    module = "import lsmdbm\ndef open(*args):\n    return lsmdbm.open(*args, timeout=0)\n"
    (tmp_path / "at_once.py").write_text(module)
    (tmp_path / "cache").mkdir()
    with lsmdbm.open(tmp_path / "cache/pages.db", "c") as db:
        status, log = finish(begin(site, HTTPCACHE_DBM_MODULE="at_once"))

        assert (0, True) == (status, f"writer lock held by pid {os.getpid()}" in log), log
        assert ["/0"] == site.asked
        assert [] == json.loads((tmp_path / "items.json").read_text())
        assert 0 == len(db)


def test_example_asks_the_site_for_each_page_once(tmp_path, start):
    """examples/scrapy_cache.py, on a site of two pages that link to each other, and to another site."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            links = '<a href="/">a</a> <a href="/b">b</a> <a href="http://192.0.2.1/">no</a> <a>none</a>'
            self.wfile.write(f"<title>page {self.path}</title>{links}".encode())

        def log_message(self, *arguments):
            pass

    example = Path(__file__).parents[2] / "examples/scrapy_cache.py"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        for where in ("site", "cache"):
            status, said = finish(start(os.fspath(example), url))
            assert (0, [(url, "/", where), (f"{url}b", "/b", where)]) == (
                status,
                sorted(re.findall(r"(http\S*) page (\S+) from the (\w+)", said)),
            ), said
            assert "\n2 responses, " in said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert ["/", "/b"] == asked
