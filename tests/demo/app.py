"""One of three services: an ordinary FastAPI application that knows nothing of tracing.

The routes are those of the well-known observability demos: / and /io_task and /cpu_task and /random_status, and /chain, which calls
itself, the two others and somebody else's service, some of them one after the other and some at once. PEERS is
"http://host:port,http://host:port,http://host:port": itself, then the others; RATES is that somebody else."""

import asyncio
import os
import random

import httpx
from fastapi import FastAPI, Response

app = FastAPI()
ME, *OTHERS = os.environ["PEERS"].split(",")
RATES = os.environ["RATES"]


@app.get("/")
async def index():
    return {"hello": "world"}


@app.get("/io_task")
async def io_task():
    await asyncio.sleep(0.12)  # a disk, a queue
    return "IO bound task finished"


@app.get("/cpu_task")
def cpu_task():
    """Not async: FastAPI runs it on a thread of its pool."""
    sum(n * n for n in range(400_000))
    return "CPU bound task finished"


@app.get("/random_status")
async def random_status(response: Response):
    response.status_code = random.choice([200, 200, 300, 400, 500])
    return {"status": response.status_code}


@app.get("/error")
async def error():
    raise ValueError("this one fails on purpose")


async def ask(client, url):
    return await client.get(url)


async def exchange_rate(client, currency):
    answer = await client.get(f"{RATES}/rates/{currency}")
    return answer.json()["rate"]


@app.get("/chain")
async def chain():
    async with httpx.AsyncClient(timeout=10) as client:
        await client.get(f"{ME}/")
        await asyncio.gather(ask(client, f"{OTHERS[0]}/io_task"), ask(client, f"{OTHERS[1]}/cpu_task"))
        rate = await exchange_rate(client, "SEK")
        await client.get(f"{OTHERS[1]}/error")
    return {"path": "/chain", "rate": rate}
