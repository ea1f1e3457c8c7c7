"""asyncio.start_server and what the standard library has for calling out, in all the ways in which contextvars travel. Argument: the port.

    /KIND/ID?url=URL&url=URL    await, gather, task, to_thread: how the calls are made
    /executor/ID?...            loop.run_in_executor, where contextvars do not travel
    /resolve/ID?...             the host's name is looked up, which the loop does on a thread of its own
    /own_pool/ID?...            a pool of the program's own, of which every call is a job that submits another one
    /thread/ID?...              a thread started for it, which starts another one
    /subprocess/ID?...          a curl started for it
    /late/ID?...                all calls on a thread, after the response
    /behind/ID?...              the same task makes all calls, after the response"""

import asyncio
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit


tasks = set()  # of connections: asyncio itself may forget them (until 3.8)
own_pool = ThreadPoolExecutor(64)


async def ask(url):
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()


def ask_blocking(url):
    urllib.request.urlopen(url, timeout=10).read()


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def two_jobs(url):
    return own_pool.submit(ask_blocking, url).result()


async def ask_curl(url):
    curl = await asyncio.create_subprocess_exec("curl", "-sS", "-o", "/dev/null", url)
    assert await curl.wait() == 0


def ask_later(urls):
    time.sleep(0.05)
    for url in urls:
        ask_blocking(url)


async def by_thread(url):
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def run():
        in_thread(ask_blocking, url)
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run).start()
    await done.wait()


async def work(kind, urls):
    if kind == "late":
        threading.Thread(target=ask_later, args=(urls,)).start()
        return
    if kind == "gather":
        await asyncio.gather(*(ask(url) for url in urls))
        return
    for url in urls:
        await asyncio.sleep(0.005)
        if kind == "await":
            await ask(url)
        elif kind == "task":
            await asyncio.create_task(ask(url))
        elif kind == "to_thread":
            await asyncio.to_thread(ask_blocking, url)
        elif kind == "resolve":
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            await ask(url)
        elif kind == "thread":
            await by_thread(url)
        elif kind == "subprocess":
            await ask_curl(url)
        elif kind == "own_pool":
            await asyncio.get_running_loop().run_in_executor(own_pool, two_jobs, url)
        else:
            await asyncio.get_running_loop().run_in_executor(None, ask_blocking, url)


async def serve(reader, writer):
    tasks.add(asyncio.current_task())
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            parts = urlsplit(head.split()[1])
            kind, urls = parts.path.split("/")[1], parse_qs(parts.query)["url"]
            if kind != "behind":
                await work(kind, urls)
            close = "connection: close" in head.lower()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\nok\n".encode())
            await writer.drain()
            if kind == "behind":
                await asyncio.sleep(0.15)
                await work("await", urls)
            if close:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        tasks.discard(asyncio.current_task())
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=128)
    async with server:
        await server.serve_forever()


asyncio.run(main())
