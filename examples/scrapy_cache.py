"""A crawl by Scrapy that keeps every response in lsmdbm: the second one asks the site for nothing.

    pip install scrapy
    python scrapy_cache.py URL [CACHE]      the directory ./cache if none is given

The spider goes through the site of the URL and prints the title of each page.  Scrapy's own storage takes
the name of a `dbm` module, so a few settings are all it needs.  A crawl that is killed keeps what it has.
"""

import os
import sys
from urllib.parse import urlsplit

import scrapy
from scrapy.crawler import CrawlerProcess

import lsmdbm


class Titles(scrapy.Spider):
    name = "titles"

    async def start(self):
        yield scrapy.Request(self.url)

    def parse(self, response):
        print(response.url, response.css("title::text").get(), "from the", end=" ")
        print("cache" if "cached" in response.flags else "site")
        for link in response.css("a::attr(href)").getall():
            target = response.urljoin(link)
            if urlsplit(target).netloc == urlsplit(self.url).netloc:
                yield scrapy.Request(target)


def main(url, cache="cache"):
    process = CrawlerProcess(
        {
            "HTTPCACHE_ENABLED": True,
            "HTTPCACHE_STORAGE": "scrapy.extensions.httpcache.DbmCacheStorage",
            "HTTPCACHE_DBM_MODULE": "lsmdbm",
            "HTTPCACHE_DIR": os.path.abspath(cache),  # a relative one is below the project
            "LOG_LEVEL": "WARNING",
            "REMOTE_CONTROL_ENABLED": False,
            "TELNETCONSOLE_ENABLED": False,
        }
    )
    process.crawl(Titles, url=url)
    process.start()
    with lsmdbm.open(f"{cache}/titles.db") as db:  # <address>_data and <address>_time of each response
        print(f"{len(db) // 2} responses, {db.approximate_size():,} bytes in tables")


if __name__ == "__main__":
    main(*sys.argv[1:])
