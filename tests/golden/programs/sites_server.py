"""asyncio.start_server, and calls out by what the standard library has, for any Python from 3.8 on. Argument: the port. Lines that matter are
marked.

    /KIND?url=URL    streams, thread, refused, handed_over, vanished"""

import asyncio
import gc
import sys
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit


class Streams:
    @staticmethod
    async def ask(url):
        reader, writer = await connect(url)
        writer.write(request_for(url))  # here: Streams.ask
        await reader.read()
        writer.close()


def ask_blocking(url):
    return urllib.request.urlopen(
        url,  # a call goes over lines
        timeout=10,
    ).read()


async def connect(url):
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)  # here: connect


def request_for(url):
    parts = urlsplit(url)
    return f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()


async def in_a_thread(url):
    await asyncio.get_running_loop().run_in_executor(None, ask_blocking, url)


async def refused(url):
    try:
        await connect(url)
    except ConnectionRefusedError:
        pass


async def handed_over(url):
    """The loop itself sends it, from a callback of nobody's: the main program is no call site of it."""
    reader, writer = await connect(url)
    asyncio.get_running_loop().call_soon(writer.write, request_for(url))
    await reader.read()
    writer.close()


async def vanished(url):
    """The code that sent the request is gone when the answer comes, and much like it was made since, in the same memory perhaps."""
    space = {}
    reader, writer = await connect(url)
    exec(compile("def ghost(writer, request):\n    writer.write(request)\n", "/srv/ghost.py", "exec"), space)
    space["ghost"](writer, request_for(url))
    space.clear()
    gc.collect()
    impostors = [compile("def impostor(writer, request):\n    writer.write(request)\n", "/srv/impostor.py", "exec") for _ in range(2000)]
    await reader.read()
    writer.close()
    return impostors


KINDS = {"/streams": Streams.ask, "/thread": in_a_thread, "/refused": refused, "/handed_over": handed_over, "/vanished": vanished}


async def handle(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    target = urlsplit(head.split()[1].decode())
    await KINDS[target.path](parse_qs(target.query)["url"][0])
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


asyncio.run(main())
