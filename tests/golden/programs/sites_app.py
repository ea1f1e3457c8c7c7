"""FastAPI that calls out in the ways whose call sites are looked for, on uvicorn, started by a main program, which is the call site of none of
them. Arguments: the port, and uvicorn's loop. Lines that matter are marked."""

import asyncio
import sys
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests
import uvicorn
from fastapi import FastAPI

app = FastAPI()


class Upstream:
    async def fetch(self, client, url):
        return (await client.get(url)).status_code  # here: Upstream.fetch


def fetch_blocking(url):
    return requests.get(url, timeout=10).status_code  # here: fetch_blocking


@app.get("/httpx")
async def by_httpx(url: str):
    async with httpx.AsyncClient(timeout=10) as client:
        return await Upstream().fetch(client, url)


@app.get("/aiohttp")
async def by_aiohttp(url: str):
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as answer:  # here: by_aiohttp
            return await answer.text()


@app.get("/gather")
async def gather(url: str):
    """Of a task that is a library's from its root on, the program has no frame."""
    async with httpx.AsyncClient(timeout=10) as client:
        await asyncio.gather(client.get(url))


@app.get("/handed_over")
async def handed_over(url: str):
    """The loop sends it, from a callback of nobody's."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    asyncio.get_running_loop().call_soon(writer.write, request.encode())
    await reader.read()
    writer.close()


@app.get("/sync")
def sync_endpoint(url: str):
    return fetch_blocking(url)


@app.get("/refused")
def refused(url: str):
    try:
        fetch_blocking(url)
    except requests.ConnectionError:
        return "refused"


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop=sys.argv[2])
