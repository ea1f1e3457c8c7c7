"""The FastAPI application of the benchmark: an endpoint that does nothing, and one that makes a call to LEAF, with httpx."""
import os

import httpx
from fastapi import FastAPI

app = FastAPI()
client = httpx.AsyncClient()
LEAF = os.environ["LEAF"]


@app.get("/hello")
async def hello():
    return {"hello": "world"}


@app.get("/call")
async def call():
    return {"status": (await client.get(LEAF)).status_code}
