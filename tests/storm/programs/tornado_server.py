"""Tornado. Argument: the port."""

import asyncio
import sys

import aio
import tornado.web


class Handler(tornado.web.RequestHandler):
    async def get(self, kind, ident):
        await aio.work(kind, ident, int(self.get_argument("calls")), int(self.get_argument("ms")))
        self.finish(f"{ident}\n")


class Application(tornado.web.Application):
    def log_request(self, handler):
        pass


async def main():
    Application([(r"/(\w+)/(\w+)", Handler)]).listen(int(sys.argv[1]), "127.0.0.1", backlog=512)
    aio.start_poller()
    await asyncio.Event().wait()


asyncio.run(main())
