"""The ways in which the storm's asyncio servers call the leaf; await work(kind, ident, calls, ms) makes those of one request.

    streams     asyncio.open_connection, a connection for each call
    httpx       httpx.AsyncClient, one for all: connections are kept
    aiohttp     aiohttp.ClientSession, one for all: connections are kept
    http2       httpx.AsyncClient with HTTP/2, one for all: streams of one connection
    gather      all calls at once (httpx), gather_streams: by open_connection
    tasks       all calls at once, each in a task (aiohttp)
    group       all calls at once in a TaskGroup (httpx; Python 3.11)
    to_thread   each call on a thread, by asyncio.to_thread (urllib)
    executor    each call on a thread, by loop.run_in_executor (urllib)
    background  a task that goes on after the response (httpx)"""

import asyncio
import random

import calls

client = client2 = session = None
background_tasks = set()


async def nap(ms):
    await asyncio.sleep(random.random() * ms / 1000)


async def streams(path, ms):
    reader, writer = await asyncio.open_connection("127.0.0.1", calls.LEAF_PORT)
    writer.write(f"GET {path}?ms={ms} HTTP/1.1\r\nHost: leaf\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    calls.check(answer.split(b"\r\n\r\n", 1)[1].decode(), path)


async def by_httpx(path, ms):
    global client
    if client is None:
        import httpx

        client = httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=None, max_keepalive_connections=50))
    calls.check((await client.get(f"{calls.LEAF}{path}?ms={ms}")).text, path)


async def by_http2(path, ms):
    global client2
    if client2 is None:
        import httpx

        client2 = httpx.AsyncClient(http2=True, timeout=20)
    answer = await client2.get(f"{calls.LEAF}{path}?ms={ms}")
    if answer.http_version != "HTTP/2":
        raise RuntimeError(f"not HTTP/2: {answer.http_version}")
    calls.check(answer.text, path)


async def by_aiohttp(path, ms):
    global session
    if session is None:
        import aiohttp

        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    async with session.get(f"{calls.LEAF}{path}?ms={ms}") as answer:
        calls.check(await answer.text(), path)


async def to_thread(path, ms):
    await asyncio.to_thread(calls.close, path, ms)


async def executor(path, ms):
    await asyncio.get_running_loop().run_in_executor(None, calls.close, path, ms)


async def one(way, path, ms):
    await nap(ms)
    await way(path, ms)


async def in_turn(way, ident, count, ms):
    for number in range(count):
        await one(way, f"/{ident}/{number}", ms)


async def work(kind, ident, count, ms):
    if kind.startswith("gather"):
        way = by_httpx if kind == "gather" else streams
        await asyncio.gather(*(one(way, f"/{ident}/{number}", ms) for number in range(count)))
    elif kind == "tasks":
        for task in [asyncio.create_task(one(by_aiohttp, f"/{ident}/{number}", ms)) for number in range(count)]:
            await task
    elif kind == "group":
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(by_httpx, f"/{ident}/{number}", ms))
    elif kind == "background":
        task = asyncio.create_task(in_turn(by_httpx, ident, count, ms))
        background_tasks.add(task)
        task.add_done_callback(background_tasks.discard)
    else:
        await in_turn(WAYS[kind], ident, count, ms)


WAYS = {
    "streams": streams,
    "httpx": by_httpx,
    "http2": by_http2,
    "aiohttp": by_aiohttp,
    "gather": None,
    "gather_streams": None,
    "tasks": None,
    "group": None,
    "to_thread": to_thread,
    "executor": executor,
    "background": None,
}


async def poll():
    """Calls that no request asked for: each is a root."""
    for number in range(1_000_000):
        await asyncio.sleep(0.02)
        try:
            await streams(f"/p{number:06}/0", 1)
        except (OSError, IndexError):
            pass


def start_poller():
    background_tasks.add(asyncio.get_running_loop().create_task(poll()))
