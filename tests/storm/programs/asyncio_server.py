"""asyncio.start_server and nothing else. Argument: the port.

    behind   the calls are made by the connection's own task, after the response"""

import asyncio
import sys

import aio
import calls


async def serve(reader, writer):
    # until 3.9 nothing else holds the task of a connection, and it could be collected while it waits
    task = asyncio.current_task()
    aio.background_tasks.add(task)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            kind, ident, count, ms = calls.parse(head.split()[1])
            if kind != "behind":
                await aio.work(kind, ident, count, ms)
            keep = "connection: close" not in head.lower()
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(ident) + 1}\r\n"
                f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n{ident}\n".encode()
            )
            await writer.drain()
            if kind == "behind":
                await aio.work("streams", ident, count, ms)
            if not keep:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        aio.background_tasks.discard(task)
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512)
    aio.start_poller()
    await server.serve_forever()


asyncio.run(main())
