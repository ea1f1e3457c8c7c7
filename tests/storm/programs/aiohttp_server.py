"""aiohttp's server. Argument: the port."""

import sys

import aio
from aiohttp import web


async def handle(request):
    ident = request.match_info["ident"]
    await aio.work(request.match_info["kind"], ident, int(request.query["calls"]), int(request.query["ms"]))
    return web.Response(text=f"{ident}\n")


async def start(app):
    aio.start_poller()


app = web.Application()
app.add_routes([web.get("/{kind}/{ident}", handle)])
app.on_startup.append(start)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, backlog=512)
