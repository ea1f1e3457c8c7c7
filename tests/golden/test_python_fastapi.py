"""FastAPI on uvicorn, on asyncio's own loop with h11 and on uvloop with httptools: one request, one tree."""

import socket
import struct
import threading
import time

import lab as laboratory
import programs
import pytest
from lab import fetch

LOOPS = {"asyncio": "h11", "uvloop": "httptools"}
CALL = """
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
        leaf SERVER GET /leaf/ID 200"""


def uvicorn(lab, name, port, loop):
    programs.need(str(programs.VENV / "uvicorn"))
    return [programs.VENV / "uvicorn", "--app-dir", laboratory.PROGRAMS, "--port", port, "--log-level", "warning", "--no-access-log",
            f"--loop={loop}", f"--http={LOOPS[loop]}", "fastapi_app:app"]


@pytest.fixture(params=LOOPS)
def loop(request):
    return request.param


def asks(kind, *urls, ident="ID"):
    return fetch(*urls, ident=ident).replace("/fetch/", f"/{kind}/")


def test_chain_of_services_is_one_tree(lab, loop):
    """Itself, then two others, the second of which goes on to a third."""
    leaf = lab.start(programs.thread_server, "leaf")
    front, second, third = (lab.start(uvicorn, name, loop=loop) for name in ("front", "second", "third"))
    lab.get(front, asks("chain", front.url("/hello/1"), second.url("/hello/1"),
                        third.url(asks("chain", leaf.url("/leaf/1"), ident="1")), second.url("/hello/2"), ident="1"))
    lab.expect(
        """
        front SERVER GET /chain/1 200
          front INTERNAL tcp.connect 127.0.0.1:{front}
          front CLIENT GET http://127.0.0.1:{front}/hello/1 200
            front SERVER GET /hello/1 200
          front INTERNAL tcp.connect 127.0.0.1:{second}
          front CLIENT GET http://127.0.0.1:{second}/hello/1 200
            second SERVER GET /hello/1 200
          front INTERNAL tcp.connect 127.0.0.1:{third}
          front CLIENT GET http://127.0.0.1:{third}/chain/1 200
            third SERVER GET /chain/1 200
              third INTERNAL tcp.connect 127.0.0.1:{leaf}
              third CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
                leaf SERVER GET /leaf/1 200
          front CLIENT GET http://127.0.0.1:{second}/hello/2 200
            second SERVER GET /hello/2 200
        """
    )


def one_request(kind, ident):
    return laboratory.tree.dedent(f"\n    front SERVER GET /{kind}/ID 200{CALL}\n").replace("ID", ident)


def test_each_call_is_under_its_request_and_a_pollers_under_none(lab, loop):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(uvicorn, "front", loop=loop, env={"POLL": leaf.url("/leaf/poll")})
    kinds = dict(zip(laboratory.ids(75), 15 * ["chain", "at_once", "sync", "stream", "after"]))
    with laboratory.ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda ident: lab.get(front, asks(kinds[ident], leaf.url("/leaf/ID")).replace("ID", ident)), kinds))
    if laboratory.BARE:
        return
    laboratory.wait_for(lambda: len([s for s in lab.spans() if s.service == "leaf" and "/leaf/id-" in s.what()]) == len(kinds), 15, "all spans")
    front.stop()
    polls = [s for s in lab.spans() if s.service == "front" and s.kind == "CLIENT" and "/leaf/poll" in s.what()]
    assert len(polls) >= 5
    assert not [p.what() for p in polls if p.parent_id]
    trees = [laboratory.tree.Forest(list(laboratory.spans_below(root))).render(lab.ports) for root in laboratory.tree.Forest(lab.spans()).roots]
    assert sorted(t for t in trees if "/leaf/poll" not in t and "id-" in t) == sorted(one_request(kind, ident) for ident, kind in kinds.items())


def test_connections_that_are_shared_belong_to_nobody(lab, loop):
    """Whoever sends has the call, whoever opened the connection that it is sent on."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(uvicorn, "front", loop=loop)
    ids = laboratory.ids(60)
    lab.storm(front, asks("shared", leaf.url("/leaf/ID"), leaf.url("/leaf/ID")), ids, concurrency=20)
    call = "\n".join(CALL.split("\n")[2:])
    lab.expect_each(f"\n    front SERVER GET /shared/ID 200\n{call}\n{call}\n", ids, without=("tcp.connect",))


class Talk:
    """A WebSocket of a client, as far as the test needs it."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: front\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def say(self, text):
        """And waits for the answer, which is a short text."""
        text = text.encode()
        self.socket.sendall(struct.pack(">BB4x", 0x81, 0x80 | len(text)) + text)  # the mask is zero
        kind, length = self.socket.recv(2, socket.MSG_WAITALL)
        assert kind == 0x81
        return self.socket.recv(length, socket.MSG_WAITALL).decode()

    def close(self):
        self.socket.sendall(struct.pack(">BB4xH", 0x88, 0x82, 1000))
        self.socket.close()


def test_websocket_has_its_own_calls_only(lab, loop):
    """Two sessions are open all the time. What they do is under the requests that began them; a request that comes meanwhile has its own."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(uvicorn, "front", loop=loop)
    ids = ["id-1", "id-2"]
    talks = [Talk(front.port, f"/talk/{ident}") for ident in ids]
    for _ in range(2):
        for talk, ident in zip(talks, ids):
            assert talk.say(leaf.url(f"/leaf/{ident}")) == ident
        lab.get(front, asks("chain", leaf.url("/leaf/id-3"), ident="id-3"))
    for talk in talks:
        talk.close()
    call = CALL.replace("\n      ", "\n  ")
    talked = [f"front SERVER GET /talk/ID 101{call}{call}".replace("ID", ident) for ident in ids]
    lab.expect("\n\n".join([*talked, *2 * [f"front SERVER GET /chain/ID 200{call}".replace("ID", "id-3")]]))
