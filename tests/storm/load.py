"""The storm itself: clients that send requests, each with an id of its own, on connections that they keep and on others.

Requests of the kind "ws" ask for a WebSocket, on a connection of their own: the client says something for each call that it wants to be made,
and is answered when it was.

A client that keeps its connection may find that the server has ended it in the meantime: that id is given up, and a new one takes its
place. Each answer must be good and be the one that was asked for."""

import asyncio
import os
import random
import re
import time
from dataclasses import dataclass, field


@dataclass
class Outcome:
    answered: dict = field(default_factory=dict)  # id -> (kind, how many clients there were)
    stale: int = 0
    failures: list = field(default_factory=list)
    seconds: float = 0.0
    next_id: int = 0


class Storm:
    """`paths`: {kind: path with ID to be replaced}; so many requests of each kind, from so many clients, for so many seconds at most. Adds
    to an outcome."""

    def __init__(self, outcome, port, paths, clients, requests, seconds, tls=None):
        self.outcome, self.port, self.paths, self.clients, self.seconds, self.tls = outcome, port, paths, clients, seconds, tls
        self.todo = [kind for kind in paths for _ in range(requests)]
        random.Random(1).shuffle(self.todo)

    def run(self):
        asyncio.run(self.storm())

    async def storm(self):
        start = time.monotonic()
        self.deadline = start + self.seconds
        await asyncio.gather(*(self.client(keep=n % 2 == 0) for n in range(self.clients)))
        self.outcome.seconds += time.monotonic() - start

    async def client(self, keep):
        await asyncio.sleep(random.random() * 0.05)
        stream = None
        while self.todo and time.monotonic() < self.deadline and len(self.outcome.failures) < 20:
            kind = self.todo.pop()
            ident = f"r{self.outcome.next_id:06}"
            self.outcome.next_id += 1
            talks = kind == "ws"
            reused = stream is not None and not talks
            try:
                if talks:
                    await asyncio.wait_for(self.talk(ident), 30)
                else:
                    stream = await asyncio.wait_for(self.ask(stream, kind, ident, keep), 30)
                self.outcome.answered[ident] = kind, self.clients
            except Stale as e:
                if stream is not None:
                    stream[1].close()
                stream = None
                if reused:
                    self.outcome.stale += 1
                    self.todo.append(kind)
                else:
                    self.outcome.failures.append(f"{ident} ({kind}): the connection ended before the answer: {e}")
            except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError) as e:
                self.outcome.failures.append(f"{ident} ({kind}): {type(e).__name__} {e}")
                stream = None
            if random.random() < 0.3:
                await asyncio.sleep(random.random() * 0.01)
        if stream is not None:
            stream[1].close()

    async def talk(self, ident):
        """One WebSocket, from its request to its end."""
        path = self.paths["ws"].replace("ID", ident)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.split()[1] != "101":
                raise ValueError(head.splitlines()[0])
            for number in range(int(re.search(r"calls=(\d+)", path)[1])):
                writer.write(frame(str(number).encode()))
                if await read_frame(reader) != f"{ident}/{number}".encode():
                    raise ValueError("the WebSocket said something else")
        finally:
            writer.close()

    async def ask(self, stream, kind, ident, keep):
        """One request; the stream for the next one, or None."""
        reader, writer = stream or await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        path = self.paths[kind].replace("ID", ident)
        kept = "keep-alive" if keep else "close"
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: {kept}\r\n\r\n".encode())
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (ConnectionError, asyncio.IncompleteReadError) as e:
            if isinstance(e, asyncio.IncompleteReadError) and e.partial:
                raise
            raise Stale(str(e)) from e
        body = await read_body(reader, head)
        if head.split()[1] != "200" or ident not in body.decode(errors="replace"):
            writer.close()
            raise ValueError(f"{head.splitlines()[0]}: {body[:200]!r}")
        if keep and head.startswith("HTTP/1.1") and not re.search(r"\r\nconnection: *close", head, re.I):
            return reader, writer
        writer.close()
        return None


def frame(text):
    """A text frame of a client (RFC 6455 5.2), of less than 126 bytes."""
    mask = os.urandom(4)
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))


async def read_frame(reader):
    """The content of a server's short text frame."""
    kind, length = await reader.readexactly(2)
    if kind != 0x81 or length > 125:
        raise ValueError(f"a WebSocket frame of type {kind:#x} and length {length}")
    return await reader.readexactly(length)


class Stale(Exception):
    """The server ended a connection that was kept, before it said anything in answer."""


async def read_body(reader, head):
    length = re.search(r"\r\ncontent-length: *(\d+)", head, re.I)
    if length:
        return await reader.readexactly(int(length[1]))
    if not re.search(r"\r\ntransfer-encoding: *chunked", head, re.I):
        return await reader.read()
    body = b""
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        body += await reader.readexactly(size)
        await reader.readline()
        if size == 0:
            return body
