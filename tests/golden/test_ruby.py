"""WEBrick, which has a thread for each connection, and Puma, which reads a request on one thread and answers it on another."""

import json
import socket
import subprocess

import lab as laboratory
import programs
import pytest
from lab import fetch

ONE_CALL = """
    front SERVER GET /KIND/ID 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
        leaf SERVER GET /leaf/ID 200
"""


def one_call(ident="1", kind="fetch"):
    return ONE_CALL.replace("ID", ident).replace("KIND", kind)


def path(kind, *urls, ident="1"):
    return fetch(*urls, ident=ident).replace("/fetch/", f"/{kind}/")


@pytest.mark.parametrize("server", [programs.webrick, programs.puma], ids=["webrick", "puma"])
def test_one_call(lab, server):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front")
    lab.get(front, fetch(leaf.url("/leaf/1")))
    lab.expect(one_call())


@pytest.mark.parametrize("server, threads", [(programs.webrick, None), (programs.puma, 4), (programs.puma, 1)],
                         ids=["webrick", "puma", "puma-1-thread"])
def test_storm(lab, server, threads):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(server, "front", **({"threads": threads} if threads else {}))
    ids = laboratory.ids(100)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(one_call("ID"), ids)


def test_webrick_kept_connection(lab):
    """Two requests on one connection, with a call each."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.webrick, "front")
    asks = [f"GET {fetch(leaf.url(f'/leaf/{n}'), ident=str(n))} HTTP/1.1\r\nHost: here\r\n\r\n".encode() for n in (1, 2)]
    answers = lab.converse(front, asks, answers=2, pause=0.5)
    assert [status for status, _ in answers] == [200, 200]
    lab.expect_each(one_call("ID"), ["1", "2"])


@pytest.mark.parametrize("flags", [("--workers", "2"), ("--workers", "2", "--preload")], ids=["cluster", "preload"])
def test_puma_cluster_storm(lab, flags):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.puma, "front", threads=2, flags=flags)
    ids = laboratory.ids(60)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(one_call("ID"), ids)


def test_puma_request_that_its_reactor_reads(lab):
    """Byte for byte: no worker waits for it. Then another one on the same connection, byte for byte as well."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.puma, "front")
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ident in ("1", "2"):
            message = f"GET {fetch(leaf.url(f'/leaf/{ident}'), ident=ident)} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
            for n in range(len(message)):
                s.sendall(message[n : n + 1])
            assert f"ok /leaf/{ident}".encode() in s.recv(65536)
    lab.expect_each(one_call("ID"), ["1", "2"])


def test_puma_by_unix_socket(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.puma, "front", unix=lab.directory / "front.sock")
    for ident in ("1", "2"):
        subprocess.run([programs.need("curl"), "-sSf", "--unix-socket", lab.directory / "front.sock",
                        "http://here" + fetch(leaf.url(f"/leaf/{ident}"), ident=ident)], check=True, timeout=20, capture_output=True)
    lab.expect_each(one_call("ID"), ["1", "2"])


def test_puma_after_the_response_and_after_a_failure(lab):
    """What rack.after_reply does belongs to the request; a handler that raises leaves nothing behind for the next one."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.puma, "front", threads=1)
    lab.get(front, path("late", leaf.url("/leaf/1")))
    lab.get(front, path("fail", leaf.url("/leaf/2"), ident="2"), status=500)
    lab.get(front, fetch(leaf.url("/leaf/3"), ident="3"))
    failed = one_call("2", "fail").replace("/fail/2 200", "/fail/2 500 ERROR")
    lab.expect_each("ID", [laboratory.tree.dedent(t) for t in (one_call("1", "late"), failed, one_call("3"))])


def test_puma_child_of_a_handler(lab):
    """A shell with a pipe in it: TRACEPARENT goes through both."""
    programs.need("curl")
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.puma, "front")
    lab.get(front, path("shell", leaf.url("/leaf/1")))
    lab.expect(one_call(kind="shell"))


@pytest.mark.skipif(laboratory.BARE, reason="needs the library")
@pytest.mark.parametrize("mn_threads", ["0", "1"])
def test_puma_is_said_to_be_exact_or_not(lab, mn_threads):
    """RUBY_MN_THREADS means something since Ruby 3.3: there a thread moves from one native thread to another."""
    version = subprocess.check_output([programs.need("ruby"), "-e", "print RUBY_VERSION"], text=True)
    moves = mn_threads == "1" and tuple(map(int, version.split("."))) >= (3, 3)
    front = lab.start(programs.puma, "front", env={"RUBY_MN_THREADS": mn_threads})
    lab.get(front, "/fetch/1")
    found = laboratory.wait_for(
        lambda: [r for p in json.loads(lab.ask_exporter("/api/status"))["processes"] if p["pid"] == front.pid for r in p["runtimes"]], 10, "Puma's state"
    )
    assert [(r["name"], r["exact"]) for r in found] == [("Ruby", False) if moves else ("Puma", True)]
    assert found[0]["version"] == version if moves else found[0]["version"][0].isdigit()


def test_puma_sees_nothing_of_it(lab):
    """Ancestors, methods, a handler's backtrace, loaded features, environment, globals, constants, threads: as without the library."""
    seen = []
    for traced in (True, False):
        front = lab.start(programs.puma, f"front{traced}", traced=traced)
        text = lab.get(front, "/where/1").partition("\n")[2]
        what = json.loads(text.replace(str(front.port), "PORT"))
        what["environment"] = [name for name in what["environment"] if not name.startswith(("OTEL_", "OTSHIM_", "LD_PRELOAD"))]
        seen.append(what)
    for name in seen[0]:
        assert seen[0][name] == seen[1][name], name
