"""One span of each kind in full: the attributes of OpenTelemetry's semantic conventions, and nothing that is not meant to be there."""

import lab as laboratory
import pytest
import programs
from lab import fetch


def call(bench_or_lab, **env):
    leaf = bench_or_lab.start(programs.thread_server, "leaf", traced=False)
    front = bench_or_lab.start(programs.thread_server, "front", env=env)
    return leaf, front


def the(forest, kind):
    (span,) = [s for s in forest.spans if s.kind == kind and "http.request.method" in s.attributes]
    return span


@pytest.fixture
def traced_call(lab):
    if laboratory.BARE:
        pytest.skip("needs the library")
    leaf, front = call(lab, OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test,team=a%2Cb")
    lab.get(front, fetch(leaf.url("/leaf/1?q=2")), headers={"User-Agent": "golden/1", "X-Forwarded-For": "203.0.113.7"})
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
        """
    )
    return forest, leaf, front


def test_server_span(traced_call):
    forest, leaf, front = traced_call
    span = the(forest, "SERVER")
    assert span.name == "GET"
    wanted = {
        "http.request.method": "GET",
        "url.path": "/fetch/1",
        "url.query": f"url=http%3A%2F%2F127.0.0.1%3A{leaf.port}%2Fleaf%2F1%3Fq%3D2",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": front.port,
        "client.address": "203.0.113.7",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "golden/1",
    }
    assert {k: span.attributes.get(k) for k in wanted} == wanted
    assert "error.type" not in span.attributes and "http.route" not in span.attributes


def test_client_span(traced_call):
    forest, leaf, front = traced_call
    span = the(forest, "CLIENT")
    assert span.name == "GET"
    wanted = {
        "http.request.method": "GET",
        "url.full": f"http://127.0.0.1:{leaf.port}/leaf/1?q=2",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": leaf.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": leaf.port,
        "network.protocol.version": "1.1",
    }
    assert {k: span.attributes.get(k) for k in wanted} == wanted


def test_resource(traced_call):
    forest, leaf, front = traced_call
    resource = forest.spans[0].resource
    wanted = {
        "service.name": "front",
        "deployment.environment": "test",
        "team": "a,b",
        "process.pid": front.pid,
        "process.executable.name": "thread_server",
    }
    assert {k: resource.get(k) for k in wanted} == wanted


def test_times_contain_each_other(traced_call):
    forest, leaf, front = traced_call
    server, client = the(forest, "SERVER"), the(forest, "CLIENT")
    assert server.start < client.start < client.end < server.end
    assert server.end - server.start < 5_000_000_000


def test_slow_blocking_call_has_its_call_site(lab):
    """Slower than OTSHIM_STACK_THRESHOLD (100 ms): the function of the program that waited, by name."""
    leaf, front = call(lab)
    lab.get(front, fetch(leaf.url("/slow/1?ms=250"), leaf.url("/leaf/2")))
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/slow/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/2 200
        """
    )
    if not forest:
        return
    slow, quick = [s for s in forest.spans if s.kind == "CLIENT"]
    assert slow.attributes["code.function.name"] == "call_upstream"
    assert "handle_fetch" in slow.attributes["code.stacktrace"]
    assert slow.attributes["code.file.path"].endswith("thread_server.c")
    assert slow.attributes["code.line.number"] > 0
    assert "code.stacktrace" not in quick.attributes


def test_call_site_of_a_refused_connection(lab):
    front = lab.start(programs.thread_server, "front")
    nobody = laboratory.free_port()
    lab.ports[nobody] = "nobody"
    lab.get(front, fetch(f"http://127.0.0.1:{nobody}/"), status=502)
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{nobody} ERROR ECONNREFUSED code.function.name=dial
        """,
        show=["code.function.name"],
    )
    if forest:
        assert "call_upstream" in forest.roots[0].children[0].attributes["code.stacktrace"]


def test_upstream_that_breaks_off(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.thread_server, "front")
    lab.get(front, fetch(leaf.url("/cut/1")), status=502)
    lab.expect(
        """
        front SERVER GET /fetch/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/cut/1 200 ERROR peer_closed
            leaf SERVER GET /cut/1 200 ERROR local_closed
        """
    )


def test_unknown_host(lab):
    """A label that is too long for DNS fails at once and the same everywhere, with or without a network."""
    front = lab.start(programs.thread_server, "front")
    name = "x" * 64 + ".invalid"
    lab.get(front, fetch(f"http://{name}/"), status=502)
    lab.expect(
        f"""
        front SERVER GET /fetch/1 502 ERROR
          front INTERNAL dns.lookup {name} ERROR EAI_NONAME
        """
    )


def test_service_name_without_settings(lab):
    """For an interpreter the script, for a program its own name."""
    front = lab.start(programs.gunicorn, "front", env={"OTEL_SERVICE_NAME": ""})
    script = lab.start(programs.urllib_server, "script", env={"OTEL_SERVICE_NAME": ""})
    program = lab.start(programs.thread_server, "program", env={"OTEL_SERVICE_NAME": ""})
    for server in (front, script, program):
        lab.get(server, "/leaf/1")
    lab.expect(
        """
        gunicorn:flask_app SERVER GET /leaf/1 200

        urllib_server SERVER GET /leaf/1 200

        thread_server SERVER GET /leaf/1 200
        """
    )


def test_targets_of_every_length(lab):
    """What a connection's first bytes are must not depend on where the first few of them end."""
    front = lab.start(programs.thread_server, "front")
    paths = ["/leaf/" + "x" * length for length in range(1, 90)]
    for path in paths:
        lab.get(front, path)
    lab.expect("\n\n".join(f"front SERVER GET {path} 200" for path in paths))


def test_methods_of_every_kind(lab):
    front = lab.start(programs.thread_server, "front")
    target = "/leaf/a-target-that-does-not-fit-what-is-kept"
    pieces = [f"PROPFIND {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()]
    lab.converse(front, pieces, answers=1)
    forest = lab.expect(f"front SERVER _OTHER {target} 200")
    assert the(forest, "SERVER").attributes["http.request.method_original"] == "PROPFIND"
