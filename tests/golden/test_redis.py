"""Redis: redis-py in Flask on gunicorn, and redis-cli, against a real server that is not watched, and one that is."""

import lab as laboratory
import programs
import pytest
import tls

TEXT = ["db.query.text"]


def of_redis_py(name):
    """What redis-py says of itself on a new connection; not every server understands it."""
    return name == "HELLO" or name.startswith("CLIENT ")


def start(lab, **options):
    server = lab.start(programs.redis_server, "server", traced=False)
    return server, lab.start(programs.redis_flask, "front", to=server.port, **options)


def commands(forest):
    """By name, of the application's own."""
    return [s for s in forest.spans if s.kind == "CLIENT" and not of_redis_py(s.name)]


def expect(lab, text):
    """Without what opens a connection, which depends on versions."""
    return lab.expect(text, show=TEXT, source=lambda: [s for s in lab.spans() if not of_redis_py(s.name)])


def wait_for_spans(lab, **counts):
    """All spans, once there are so many of each name."""
    def there():
        spans = lab.spans()
        return all(sum(s.name == name for s in spans) == count for name, count in counts.items()) and spans
    return laboratory.wait_for(there, 10, f"{counts}")


def test_commands_of_a_request(lab):
    """Two requests share the connection; each command is under its own."""
    server, front = start(lab)
    lab.get(front, "/user/1")
    lab.get(front, "/count/2")
    forest = expect(
        lab,
        """
        front SERVER GET /user/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT SET db.query.text=SET user:1 ?
          front CLIENT HSET db.query.text=HSET hash ? ? ? ?
          front CLIENT GET db.query.text=GET user:1

        front SERVER GET /count/2 200
          front CLIENT INCRBY db.query.text=INCRBY count:2 ?
        """,
    )
    if forest:
        for span in commands(forest):
            at = span.attributes
            assert (at["db.system.name"], at["db.namespace"], at["db.operation.name"]) == ("redis", "0", span.name)
            assert (at["server.address"], at["server.port"]) == ("127.0.0.1", server.port)
            assert (at["network.peer.address"], at["network.peer.port"], at["network.transport"]) == ("127.0.0.1", server.port, "tcp")
        assert "secret" not in str([s.raw for s in forest.spans])
        assert lab.metrics().get('otshim_library_events_total{event="not_injected"}', 0) == 0


def test_resp3(lab):
    server = lab.start(programs.redis_server, "server", traced=False)
    front = lab.start(programs.redis_flask, "front", to=server.port, env={"REDIS_PROTOCOL": "3"})
    lab.get(front, "/user/1")
    expect(
        lab,
        """
        front SERVER GET /user/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT SET db.query.text=SET user:1 ?
          front CLIENT HSET db.query.text=HSET hash ? ? ? ?
          front CLIENT GET db.query.text=GET user:1
        """,
    )


def test_by_unix_socket(lab):
    lab.start(programs.redis_server, "server", traced=False, flags=["--unixsocket", lab.directory / "redis.sock"])
    done = lab.run([programs.need("redis-cli"), "-s", lab.directory / "redis.sock", "set", "key", "secret"], "cli")
    assert done.stdout == b"OK\n"
    lab.expect("cli CLIENT set db.query.text=set key ?\n  cli INTERNAL unix.connect {dir}/redis.sock", show=TEXT)


def test_inside_tls(lab):
    cert = tls.files(lab.directory)
    secure = ["--tls-auth-clients", "no", "--tls-cert-file", cert.chain, "--tls-key-file", cert.key]
    server = lab.start(programs.redis_server, "server", traced=False, tls=True, flags=secure)
    front = lab.start(programs.redis_flask, "front", to=server.port, env={"REDIS_CA": str(cert.authority)})
    lab.get(front, "/user/1")
    lab.get(front, "/large/100000")
    expect(
        lab,
        """
        front SERVER GET /user/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front INTERNAL tls.handshake
          front CLIENT SET db.query.text=SET user:1 ?
          front CLIENT HSET db.query.text=HSET hash ? ? ? ?
          front CLIENT GET db.query.text=GET user:1

        front SERVER GET /large/100000 200
          front CLIENT SET db.query.text=SET large ?
          front CLIENT GET db.query.text=GET large
        """,
    )


@pytest.mark.parametrize("threads", [1, 8])
def test_a_pool_in_a_crowd(lab, threads):
    server, front = start(lab, threads=threads)
    ids = laboratory.ids(60)
    lab.storm(front, "/count/ID", ids)
    if laboratory.BARE:
        return
    spans = wait_for_spans(lab, INCRBY=60, GET=60)
    requests = {s.span_id: s.attributes["url.path"] for s in spans if s.kind == "SERVER"}
    for span in spans:
        if span.name == "INCRBY":
            assert span.attributes["db.query.text"] == "INCRBY count:" + requests[span.parent_id].split("/")[-1] + " ?"


def test_pipelines(lab):
    _, front = start(lab)
    lab.get(front, "/pipeline/3")
    lab.get(front, "/pipeline/2?transaction")
    push = "          front CLIENT LPUSH db.query.text=LPUSH list ?\n"
    expect(
        lab,
        "        front SERVER GET /pipeline/3 200\n          front INTERNAL tcp.connect 127.0.0.1:{server}\n" + 3 * push + "\n"
        "        front SERVER GET /pipeline/2 200\n          front CLIENT MULTI db.query.text=MULTI\n" + 2 * push +
        "          front CLIENT EXEC db.query.text=EXEC\n",
    )


def test_a_long_pipeline(lab):
    """What there is no room for is counted and passed over, and the connection goes on in step."""
    _, front = start(lab)
    lab.get(front, "/pipeline/200")
    lab.get(front, "/count/1")
    push = "          front CLIENT LPUSH db.query.text=LPUSH list ?\n"
    forest = expect(
        lab,
        "        front SERVER GET /pipeline/200 200\n          front INTERNAL tcp.connect 127.0.0.1:{server}\n" + 64 * push + "\n"
        "        front SERVER GET /count/1 200\n          front CLIENT INCRBY db.query.text=INCRBY count:1 ?\n",
    )
    if forest:
        dropped = [v for k, v in lab.metrics().items() if "exchange_full" in k]
        assert dropped == [136.0]


@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_large_values(lab, size):
    """More than a socket takes at once, or than is looked at before it is sent."""
    _, front = start(lab)
    assert lab.get(front, f"/large/{size}") == f"{size}\n"
    forest = expect(
        lab,
        f"""
        front SERVER GET /large/{size} 200
          front INTERNAL tcp.connect 127.0.0.1:{{server}}
          front CLIENT SET db.query.text=SET large ?
          front CLIENT GET db.query.text=GET large
        """,
    )
    assert forest is None or len(commands(forest)) == 2


def test_errors(lab):
    server, front = start(lab)
    lab.run(["redis-cli", "-p", server.port, "set", "string", "x"], "setup", env={"OTEL_SDK_DISABLED": "true"})
    assert "WRONGTYPE" in lab.get(front, "/wrong/1")
    forest = expect(
        lab,
        """
        front SERVER GET /wrong/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT LPUSH ERROR WRONGTYPE db.query.text=LPUSH string ?
          front CLIENT NONESUCH ERROR ERR db.query.text=NONESUCH ?
        """,
    )
    if forest:
        first, second = commands(forest)
        assert first.attributes["db.response.status_code"] == "WRONGTYPE"
        assert first.message == "WRONGTYPE Operation against a key holding the wrong kind of value"
        assert second.message == "ERR unknown command"
        assert first.attributes["code.function.name"].endswith("wrong")


def test_a_blocking_command(lab):
    _, front = start(lab)
    lab.get(front, "/blocking/1")
    forest = expect(
        lab,
        """
        front SERVER GET /blocking/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT BLPOP db.query.text=BLPOP empty ?
        """,
    )
    if forest:
        (span,) = commands(forest)
        assert 0.15e9 < span.end - span.start < 5e9


def test_refused(lab):
    _, front = start(lab)
    port = laboratory.free_port()
    lab.get(front, f"/down/1?port={port}", status=502)
    expect(
        lab,
        f"""
        front SERVER GET /down/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{port} ERROR ECONNREFUSED
        """,
    )


def test_the_server_dies(lab):
    server, front = start(lab)
    lab.get(front, "/count/1")
    server.stop()
    lab.get(front, "/count/2", status=500)
    if not laboratory.BARE:
        laboratory.wait_for(lambda: any(s.error and s.name.endswith(".connect") for s in lab.spans()), 5, "a refused connection")


def test_subscribed(lab):
    """From the confirmation on, the connection is nobody's; the others go on."""
    _, front = start(lab)
    assert lab.get(front, "/subscribe/1") == "subscribe message"
    expect(
        lab,
        """
        front SERVER GET /subscribe/1 200
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT SUBSCRIBE db.query.text=SUBSCRIBE ?
          front INTERNAL tcp.connect 127.0.0.1:{server}
          front CLIENT PUBLISH db.query.text=PUBLISH news ?
        """,
    )


def test_a_connection_that_requests_share(lab):
    """Node: what several have asked for goes out together, by the first of them. A command alone is its request's, one of several nobody's."""
    server = lab.start(programs.redis_server, "server", traced=False)
    front = lab.start(programs.redis_node, "front", to=server.port)
    lab.get(front, "/alone")
    lab.storm(front, "/ID", laboratory.ids(200), concurrency=12)
    if laboratory.BARE:
        return
    spans = wait_for_spans(lab, INCR=402, GET=201)
    requests = {s.span_id: s.attributes["url.path"][1:] for s in spans if s.kind == "SERVER"}
    calls = [(s.attributes["db.query.text"].split()[1], requests.get(s.parent_id)) for s in spans if s.name == "INCR"]
    wrong = [call for call in calls if call[1] not in (call[0], None)]
    lone = sum(parent is None for _, parent in calls)
    print(f"{lone} of {len(calls)} commands are nobody's")
    assert not wrong, f"{len(wrong)} of {len(calls)} commands are under another request"
    assert calls.count(("alone", "alone")) == 2 and 0 < lone < len(calls)


def test_redis_cli(lab):
    """A client that belongs to no request; the password is nowhere."""
    server = lab.start(programs.redis_server, "server", traced=False, flags=["--requirepass", "pass-word"])
    lab.run([programs.need("redis-cli"), "-p", server.port, "-a", "pass-word", "-n", "3", "set", "key", "secret"], "cli")
    forest = lab.expect(
        """
        cli CLIENT AUTH db.namespace=0 db.query.text=AUTH
          cli INTERNAL tcp.connect 127.0.0.1:{server}

        cli CLIENT SELECT db.namespace=0 db.query.text=SELECT ?

        cli CLIENT set db.namespace=3 db.query.text=set key ?
        """,
        show=["db.namespace", *TEXT],
    )
    if forest:
        assert "pass-word" not in str([s.raw for s in forest.spans]) and "secret" not in str([s.raw for s in forest.spans])


def test_a_watched_server(lab):
    """What a database is asked is no request of its own: no spans, and nothing counted as lost."""
    server = lab.start(programs.redis_server, "server")
    done = lab.run([programs.need("redis-cli"), "-p", server.port, "set", "key", "secret"], "cli")
    assert done.stdout == b"OK\n"
    lab.expect("cli CLIENT set\n  cli INTERNAL tcp.connect 127.0.0.1:{server}")
