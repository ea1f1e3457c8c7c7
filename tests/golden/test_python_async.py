"""Python: asyncio, where many requests share a thread and the interpreter's own context says whose turn it is."""

import http.client
import random
import time
from pathlib import Path

import lab as laboratory
import programs
import pytest
from lab import fetch

ONE = """
    front SERVER GET /KIND/ID 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
        leaf SERVER GET /leaf/ID 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
        leaf SERVER GET /leaf/ID 200
"""


def server(lab, name, port):
    return [programs.SYSTEM_PYTHON, laboratory.PROGRAMS / "asyncio_server.py", port]


LOOKED_UP = ONE.replace("      front INTERNAL tcp", "      front INTERNAL dns.lookup localhost\n      front INTERNAL tcp")


def both(leaf, kind, ident="ID"):
    return fetch(leaf.url(f"/leaf/{ident}"), leaf.url(f"/leaf/{ident}"), ident=ident).replace("/fetch/", f"/{kind}/")


@pytest.mark.parametrize("kind", ["await", "task", "to_thread"])
def test_each_call_is_under_its_request(lab, kind):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")
    ids = laboratory.ids(150)
    lab.storm(front, both(leaf, kind), ids, concurrency=50)
    lab.expect_each(ONE.replace("KIND", kind), ids)


@pytest.mark.parametrize("kind", ["plain", "fresh"])
def test_task_for_each_request(lab, kind):
    """Also where the task is made in an empty context, so that no context of the request's is copied."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(lambda lab, name, port: [programs.SYSTEM_PYTHON, laboratory.PROGRAMS / "protocol_server.py", port], "front")
    ids = laboratory.ids(150)
    lab.storm(front, both(leaf, kind), ids, concurrency=50)
    lab.expect_each(ONE.replace("KIND", kind), ids)


def test_gather(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")
    ids = laboratory.ids(100)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID").replace("/fetch/", "/gather/"), ids, concurrency=50)
    lab.expect_each(
        """
        front SERVER GET /gather/ID 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
        """,
        ids,
    )


def pythons():
    """Debian's, and what pyenv has of those that are known."""
    versions = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    known = [p for p in versions if p.parts[-3].split(".")[1] in ("8", "9", "10", "11", "12", "13")]
    return {"debian": programs.SYSTEM_PYTHON} | {p.parts[-3]: str(p) for p in known}


@pytest.mark.parametrize("version", pythons())
def test_work_that_changes_threads(lab, version):
    """... or the process, where contextvars do not travel: each call is under its request all the same."""

    def of_version(lab, name, port):
        return [pythons()[version], *server(lab, name, port)[1:]]

    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(of_version, "front")
    kinds = ["executor", "own_pool", "thread", "late", "resolve", "subprocess"]
    idents = {kind: [f"id-{n}" for n in range(100 * at, 100 * at + (6 if kind == "subprocess" else 16))] for at, kind in enumerate(kinds)}
    paths = [both(leaf, kind, ident) for kind in kinds for ident in idents[kind]]
    random.Random(1).shuffle(paths)
    with laboratory.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: lab.get(front, path), paths))
    trees = {"resolve": LOOKED_UP}
    lab.expect_each_of([(trees.get(kind, ONE).replace("KIND", kind), ident) for kind in kinds for ident in idents[kind]])


def test_pipelined_requests_have_no_calls(lab):
    """Which of two unanswered requests of a connection the program has turned to cannot be told; the next one, alone again, can."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")

    def request(ident):
        return f"GET {both(leaf, 'await', ident)} HTTP/1.1\r\nHost: front\r\n\r\n".encode()

    lab.converse(front, [request("id-1") + request("id-2")], 2)
    lab.get(front, both(leaf, "await", "id-3"))
    traces = one_id_a_trace(lab, requests=3)
    if traces:
        assert sum(t.startswith("front SERVER") and t.count("CLIENT") == 2 for t in traces) == 1


def one_id_a_trace(lab, requests):
    """The traces of so many requests of two calls: none mixes requests."""
    if laboratory.BARE:
        return []
    laboratory.wait_for(lambda: len([s for s in lab.spans() if s.kind == "SERVER"]) == 3 * requests, 15, "all spans")
    forest = laboratory.tree.Forest(lab.spans())
    traces = [laboratory.tree.Forest(list(laboratory.spans_below(root))).render(lab.ports) for root in forest.roots]
    for text in traces:
        assert len(set(laboratory.re.findall(r"\bid-\d+\b", text))) <= 1, text
    return traces


@pytest.mark.parametrize("version", pythons())
def test_calls_after_the_response_while_the_next_request_waits(lab, version):
    """The task that was made with the connection is still at the first request when the second is read. The third one it waits for."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(lambda lab, name, port: [pythons()[version], *server(lab, name, port)[1:]], "front")
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
    for kind, ident in (("behind", "id-1"), ("await", "id-2"), ("await", "id-3")):
        connection.request("GET", both(leaf, kind, ident))
        assert connection.getresponse().read() == b"ok\n"
        if ident == "id-2":
            time.sleep(0.2)  # by then the task waits
    connection.close()
    traces = one_id_a_trace(lab, requests=3)
    assert not traces or [t.count("front CLIENT") for t in traces if "/await/id-3" in t] == [2], traces
