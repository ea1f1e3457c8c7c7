"""The FastAPI application of the benchmark: an endpoint that does nothing, and one that makes a call to LEAF, with httpx. With BUSY in the
environment there is a thread beside it that computes all the time, so that the interpreter's lock has to be waited for."""
import os
import threading

import httpx
from fastapi import FastAPI

app = FastAPI()
client = httpx.AsyncClient()
LEAF = os.environ["LEAF"]


def compute():
    while True:
        sum(range(1000))


if "BUSY" in os.environ:
    threading.Thread(target=compute, daemon=True).start()


@app.get("/hello")
async def hello():
    return {"hello": "world"}


@app.get("/call")
async def call():
    return {"status": (await client.get(LEAF)).status_code}
