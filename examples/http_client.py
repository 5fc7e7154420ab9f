"""A client for HTTP that remembers every answer in a shelf, and asks again only when it has to.

    python http_client.py [URL ...]         without a URL, asks a server of its own; answers are in ./http.lsm

An answer is given without asking while it is fresh, by its `Cache-Control: max-age`.  Later it is asked for
by its `ETag`: the server says 304 where nothing changed, and sends no body.  The shelf outlives the program;
where a server cannot be reached, an old answer is better than none.
"""

import re
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lsmdbm


class Client:
    """Answers by their URL.

    Args:
        shelf: an open shelf, or any other mapping.
        clock: seconds, as of `time.time`.
    """

    def __init__(self, shelf, clock=time.time):
        self.shelf = shelf
        self.clock = clock

    def get(self, url):
        """Return how the answer was come by, and its body."""
        held = self.shelf.get(url)
        if held is not None and self.clock() < held["fresh_until"]:
            return "fresh", held["body"]
        request = urllib.request.Request(url)
        if held is not None and held["etag"]:
            request.add_header("If-None-Match", held["etag"])
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                how, body, headers = "fetched", answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 304:
                raise
            how, body, headers = "unchanged", held["body"], error.headers
        except OSError:
            if held is None:
                raise
            return "stale", held["body"]
        age = re.search(r"max-age=(\d+)", headers.get("Cache-Control", ""))
        until = self.clock() + int(age[1]) if age else 0.0
        self.shelf[url] = {"etag": headers.get("ETag"), "fresh_until": until, "body": body}
        return how, body


class Handler(BaseHTTPRequestHandler):
    """A page that may be kept for an hour, and one that has to be asked for each time."""

    def do_GET(self):
        etag = '"1"'
        unchanged = self.headers.get("If-None-Match") == etag
        self.send_response(304 if unchanged else 200)
        self.send_header("ETag", etag)
        self.send_header("Cache-Control", "max-age=3600" if self.path == "/kept" else "no-cache")
        self.end_headers()
        if not unchanged:
            self.wfile.write(f"the page {self.path}\n".encode() * 1000)

    def log_message(self, *arguments):
        pass


def main(urls):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        here = f"http://127.0.0.1:{server.server_port}"
        with lsmdbm.open_shelf("http.lsm") as shelf:
            client = Client(shelf)
            for url in urls or [f"{here}/kept", f"{here}/asked"] * 2:
                how, body = client.get(url)
                print(f"{url.removeprefix(here)}: {how}, {len(body):,} bytes")
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main(sys.argv[1:])
