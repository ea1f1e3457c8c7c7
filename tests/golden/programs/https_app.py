"""FastAPI over https, calls by httpx: /gather/ID two calls at once, /leaf/ID none."""

import asyncio
import os

import httpx
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/leaf/{ident}")
async def leaf(ident: str):
    return PlainTextResponse(f"ok /leaf/{ident}\n")


@app.get("/gather/{ident}")
async def gather(ident: str):
    async with httpx.AsyncClient() as client:
        for number in (1, 2):  # the second finds the connection of the first
            await client.get(f"{os.environ['NEXT_URL']}/leaf/{ident}-{number}")
        await asyncio.sleep(0)
    return PlainTextResponse("ok\n")
