"""Python: asyncio, where many requests share a thread and the interpreter's own context says whose turn it is."""

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


def both(leaf, kind, ident="ID"):
    return fetch(leaf.url(f"/leaf/{ident}"), leaf.url(f"/leaf/{ident}"), ident=ident).replace("/fetch/", f"/{kind}/")


@pytest.mark.parametrize("kind", ["await", "task", "to_thread"])
def test_each_call_is_under_its_request(lab, kind):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")
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


def test_executor_calls_stand_alone(lab):
    """The work queue of an executor does not say whose work it holds: each call is a root, and none is under another's request, although
    the same threads work by asyncio.to_thread, too."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")
    owned, alone = [f"id-{n}" for n in range(60)], [f"id-{n}" for n in range(60, 120)]
    mixed = [pair for pairs in zip(owned, alone) for pair in pairs]
    paths = [both(leaf, "to_thread" if ident in owned else "executor", ident) for ident in mixed]
    with laboratory.ThreadPoolExecutor(30) as pool:
        list(pool.map(lambda path: lab.get(front, path), paths))
    if laboratory.BARE:
        return
    laboratory.wait_for(lambda: len([s for s in lab.spans() if s.name == "GET" and s.service == "leaf"]) >= 240, 15, "all spans")
    forest = laboratory.tree.Forest(lab.spans())
    texts = [laboratory.tree.Forest(list(laboratory.spans_below(root))).render(lab.ports) for root in forest.roots]
    for text in texts:
        named = set(laboratory.re.findall(r"\bid-\d+\b", text))
        assert len(named) == 1, text
        if "/to_thread/" in text:
            assert text.count("front CLIENT") == 2, text
        if "/executor/" in text:
            assert "front CLIENT" not in text, text


def test_pipelined_requests_have_no_calls(lab):
    """Which of two unanswered requests of a connection the program has turned to cannot be told; the next one, alone again, can."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")

    def request(ident):
        return f"GET {both(leaf, 'await', ident)} HTTP/1.1\r\nHost: front\r\n\r\n".encode()

    lab.converse(front, [request("id-1") + request("id-2")], 2)
    lab.get(front, both(leaf, "await", "id-3"))
    if laboratory.BARE:
        return
    laboratory.wait_for(lambda: len([s for s in lab.spans() if s.service == "leaf"]) >= 6, 15, "all spans")
    forest = laboratory.tree.Forest(lab.spans())
    for root in forest.roots:
        text = laboratory.tree.Forest(list(laboratory.spans_below(root))).render(lab.ports)
        assert len(set(laboratory.re.findall(r"\bid-\d+\b", text))) <= 1, text
