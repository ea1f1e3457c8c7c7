"""FastAPI, with asynchronous endpoints and synchronous ones, which it runs on its thread pool: for uvicorn or hypercorn (fastapi_app:app)."""

from contextlib import asynccontextmanager

import aio
from calls import all_calls
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse


@asynccontextmanager
async def lifespan(app):
    aio.start_poller()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/sync/{ident}")
def sync_endpoint(ident: str, calls: int, ms: int):
    all_calls("close", ident, calls, ms)
    return PlainTextResponse(f"{ident}\n")


@app.get("/session/{ident}")
def sync_session(ident: str, calls: int, ms: int):
    """requests, with a pool of connections that all threads share."""
    all_calls("session", ident, calls, ms)
    return PlainTextResponse(f"{ident}\n")


@app.websocket("/ws/{ident}")
async def talk(socket: WebSocket, ident: str, calls: int, ms: int):
    """A call for each message. The session began with a request, whose calls they are; those of others at the same time are not."""
    await socket.accept()
    for number in range(calls):
        await socket.receive_text()
        await aio.one(aio.by_httpx, f"/{ident}/{number}", ms)
        await socket.send_text(f"{ident}/{number}")
    await socket.close()


@app.get("/after/{ident}")
async def after(ident: str, calls: int, ms: int, background: BackgroundTasks):
    """FastAPI's own background task: it runs when the response has been sent."""
    background.add_task(aio.work, "httpx", ident, calls, ms)
    return PlainTextResponse(f"{ident}\n")


@app.get("/stream/{ident}")
async def stream(ident: str, calls: int, ms: int):
    """The calls are made between pieces of the response."""

    async def pieces():
        for number in range(calls):
            yield f"{number}\n"
            await aio.one(aio.by_httpx, f"/{ident}/{number}", ms)
        yield f"{ident}\n"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/{kind}/{ident}")
async def async_endpoint(kind: str, ident: str, calls: int, ms: int):
    await aio.work(kind, ident, calls, ms)
    return PlainTextResponse(f"{ident}\n")
