"""asyncio's protocols: a server that makes a task for each request when it has come. Argument: the port.

    /plain/ID?url=URL&url=URL    in a copy of the context that has read
    /fresh/ID?...                in a copy of an empty one, as uvicorn does since 0.36 (0.54: if it was told to)"""

import asyncio
import contextvars
import sys
from urllib.parse import parse_qs, urlsplit

tasks = set()


async def ask(url):
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()


class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.head = transport, b""

    def data_received(self, data):
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        target = urlsplit(self.head.split()[1].decode())
        self.head = b""
        make = asyncio.get_running_loop().create_task
        work = self.work(parse_qs(target.query)["url"])
        task = contextvars.Context().run(make, work) if target.path.startswith("/fresh/") else make(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def work(self, urls):
        for url in urls:
            await asyncio.sleep(0.005)
            await ask(url)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        self.transport.close()


async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(sys.argv[1]), backlog=128)
    await server.serve_forever()


asyncio.run(main())
