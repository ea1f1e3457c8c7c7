"""FastAPI on uvicorn: the ways in which an application on an event loop calls others. All calls are made by httpx.AsyncClient, to the URLs of
the request (?url=...&url=...).

    /chain/ID       one call after the other, on a client of the request's own
    /shared/ID      one after the other, on one client for all requests, whose connections are kept
    /at_once/ID     gather, each on a client of its own
    /sync/ID        not async: on a thread of the pool (httpx.get)
    /stream/ID      a call before each piece of a streaming response
    /after/ID       a background task, when the response has been sent
    /talk/ID        a WebSocket: a call for each message, whose URL it is
    /hello/ID       no call

POLL in the environment is a URL that is asked for all the time, from the start, for no request."""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import BackgroundTasks, FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

QUICK = {"timeout": 10, "verify": False}  # reading the certificates takes longer than all the rest, and there is no TLS here
shared = httpx.AsyncClient(**QUICK)


async def poll(url):
    for _ in range(1000):
        await ask([url])
        await asyncio.sleep(0.01)


@asynccontextmanager
async def lifespan(app):
    poller = asyncio.create_task(poll(os.environ["POLL"])) if "POLL" in os.environ else None
    yield
    if poller:
        poller.cancel()


app = FastAPI(lifespan=lifespan)


async def ask(urls):
    async with httpx.AsyncClient(**QUICK) as client:
        for url in urls:
            (await client.get(url)).raise_for_status()


@app.get("/hello/{ident}")
async def hello(ident: str):
    return ident


@app.get("/chain/{ident}")
async def chain(ident: str, url: list[str] = Query()):
    await ask(url)
    return ident


@app.get("/shared/{ident}")
async def by_shared(ident: str, url: list[str] = Query()):
    for one in url:
        await asyncio.sleep(0.002)
        (await shared.get(one)).raise_for_status()
    return ident


@app.get("/at_once/{ident}")
async def at_once(ident: str, url: list[str] = Query()):
    await asyncio.gather(*(ask([one]) for one in url))
    return ident


@app.get("/sync/{ident}")
def on_a_thread(ident: str, url: list[str] = Query()):
    for one in url:
        httpx.get(one, **QUICK).raise_for_status()
    return ident


@app.get("/stream/{ident}")
async def stream(ident: str, url: list[str] = Query()):
    async def pieces():
        for one in url:
            await ask([one])
            yield f"{one}\n"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/after/{ident}")
async def after(ident: str, background: BackgroundTasks, url: list[str] = Query()):
    background.add_task(ask, url)
    return ident


@app.websocket("/talk/{ident}")
async def talk(socket: WebSocket, ident: str):
    await socket.accept()
    try:
        while True:
            await ask([await socket.receive_text()])
            await socket.send_text(ident)
    except WebSocketDisconnect:
        pass
