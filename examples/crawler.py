"""A crawler: actors fetch pages side by side, and the links that they find are the next work. The site is served here."""

from __future__ import annotations

import asyncio
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

from procession.actor import Actor, endpoint, this_host

CRAWLERS, PAGES = 4, 40


class Site(BaseHTTPRequestHandler):
    """Page n links to pages 2n + 1 and 2n + 2; the last of these are missing."""

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 0)
        if number >= PAGES:
            self.send_error(404)
            return
        links = "".join(f'<a href="/{next_one}">{next_one}</a>' for next_one in (2 * number + 1, 2 * number + 2))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"<html>page {number} {links}</html>".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


class Crawler(Actor):
    @endpoint
    def links_of(self, url: str) -> list[str] | None:
        """None for a page that is not there. It blocks this actor and no other."""
        links = Links()
        try:
            with urlopen(url, timeout=10) as page:
                links.feed(page.read().decode())
        except HTTPError:
            return None
        return [urljoin(url, link) for link in links.found]


async def crawl(crawlers: Crawler, start: str) -> tuple[set[str], list[str]]:
    """All pages that can be reached, and the links that lead nowhere."""
    seen, broken = {start}, []
    running = {asyncio.ensure_future(follow(crawlers, start))}
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            url, links = task.result()
            if links is None:
                broken.append(url)
                continue
            for link in set(links) - seen:
                seen.add(link)
                running.add(asyncio.ensure_future(follow(crawlers, link)))
    return seen, broken


async def follow(crawlers: Crawler, url: str) -> tuple[str, list[str] | None]:
    return url, await crawlers.links_of.choose(url)


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with this_host().spawn_procs(per_host={"crawlers": CRAWLERS}) as procs:
        crawlers = procs.spawn("crawler", Crawler)
        seen, broken = await crawl(crawlers, f"http://127.0.0.1:{server.server_port}/0")
    server.shutdown()
    print(f"{len(seen) - len(broken)} pages, {len(broken)} broken links")


if __name__ == "__main__":
    asyncio.run(main())
