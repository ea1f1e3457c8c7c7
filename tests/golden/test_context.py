"""What comes in and what goes out: traceparent, sampling, and headers that are not ours to touch."""

import lab as laboratory
import pytest
import programs
import receiver
from lab import fetch

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def traceparent(flags, trace=TRACE, parent=PARENT):
    return f"00-{trace}-{parent}-{flags}"


def head_of(text, name):
    """The values of a header in the request that /headers answered with."""
    return [l.split(":", 1)[1].strip() for l in text.splitlines() if l.lower().startswith(name + ":")]


def test_traceparent_from_outside_is_continued(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.gunicorn, "front")
    lab.get(front, fetch(leaf.url("/leaf/1")), headers={"traceparent": traceparent("01")})
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200 (parent elsewhere)
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
        """
    )
    if forest:
        assert {s.trace_id for s in forest.spans} == {TRACE}
        assert forest.roots[0].parent_id == PARENT


def test_outbound_requests_carry_traceparent_and_tracestate(lab):
    echo = lab.start(programs.thread_server, "echo", traced=False)
    front = lab.start(programs.gunicorn, "front")
    text = lab.get(front, fetch(echo.url("/headers/1")), headers={"traceparent": traceparent("01"), "tracestate": "vendor=opaque,other=1"})
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200 (parent elsewhere)
          front INTERNAL tcp.connect 127.0.0.1:{echo}
          front CLIENT GET http://127.0.0.1:{echo}/headers/1 200
        """
    )
    if forest:
        client = next(s for s in forest.spans if s.kind == "CLIENT")
        assert head_of(text, "traceparent") == [traceparent("01", parent=client.span_id)]
        assert head_of(text, "tracestate") == ["vendor=opaque,other=1"]


def test_not_sampled_is_passed_on_and_not_exported(bench):
    received = bench.deliver_to(receiver.GrpcReceiver())
    echo = bench.start(programs.thread_server, "echo", traced=False)
    front = bench.start(programs.gunicorn, "front")
    text = bench.get(front, fetch(echo.url("/headers/1")), headers={"traceparent": traceparent("00")})
    if laboratory.BARE:
        return
    (sent,) = head_of(text, "traceparent")
    assert sent.startswith(f"00-{TRACE}-") and sent.endswith("-00") and PARENT not in sent
    bench.get(front, "/leaf/2")
    bench.expect("front SERVER GET /leaf/2 200", source=received.spans)
    assert bench.metrics()["otshim_exporter_spans_unsampled_total"] >= 2


def test_traceparent_of_the_program_itself_stays(lab):
    """A program that is instrumented already: its header goes out as it is, and our span joins that trace."""
    echo = lab.start(programs.thread_server, "echo", traced=False)
    front = lab.start(programs.gunicorn, "front")
    own = traceparent("01")
    text = lab.get(front, fetch(echo.url("/headers/1")) + f"&own_traceparent={own}")
    assert head_of(text, "traceparent") == [own]
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{echo}

        front CLIENT GET http://127.0.0.1:{echo}/headers/1 200 (parent elsewhere)
        """
    )
    if forest:
        client = next(s for s in forest.spans if s.kind == "CLIENT")
        assert (client.trace_id, client.parent_id) == (TRACE, PARENT)


@pytest.mark.parametrize("value", ["", "00-0-0-01", "ff" + traceparent("01")[2:], traceparent("01", trace="0" * 32), "x" * 300])
def test_invalid_traceparent_starts_a_new_trace(lab, value):
    leaf = lab.start(programs.thread_server, "leaf")
    lab.get(leaf, "/leaf/1", headers={"traceparent": value})
    forest = lab.expect("leaf SERVER GET /leaf/1 200")
    if forest:
        assert forest.spans[0].trace_id != TRACE


def test_a_head_in_pieces(lab):
    """Every byte of the request in a packet of its own."""
    leaf = lab.start(programs.thread_server, "leaf")
    request = f"GET /leaf/1 HTTP/1.1\r\nHost: here\r\ntraceparent: {traceparent('01')}\r\n\r\n".encode()
    answers = lab.converse(leaf, [request[n : n + 1] for n in range(len(request))], answers=1, pause=0.001)
    assert answers == [(200, b"ok /leaf/1\n")]
    forest = lab.expect("leaf SERVER GET /leaf/1 200 (parent elsewhere)")
    if forest:
        assert (forest.spans[0].trace_id, forest.spans[0].parent_id) == (TRACE, PARENT)


def test_always_off_traces_nothing_and_says_so_to_the_next(lab):
    echo = lab.start(programs.thread_server, "echo", traced=False)
    front = lab.start(programs.gunicorn, "front", env={"OTEL_TRACES_SAMPLER": "always_off"})
    text = lab.get(front, fetch(echo.url("/headers/1")))
    if not laboratory.BARE:
        (sent,) = head_of(text, "traceparent")
        assert sent.endswith("-00")
    assert laboratory.BARE or not [s for s in lab.spans() if s.trace_id != sent[3:35]]


def test_sdk_disabled_is_inert(lab):
    echo = lab.start(programs.thread_server, "echo", traced=False)
    front = lab.start(programs.gunicorn, "front", env={"OTEL_SDK_DISABLED": "true"})
    text = lab.get(front, fetch(echo.url("/headers/1")))
    assert head_of(text, "traceparent") == []
    lab.expect("")


def test_upgrade_ends_the_span(lab):
    """A WebSocket handshake, answered by a server of three lines."""
    front = lab.start(programs.upgrade_server, "front")
    lab.converse(front, [b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"], answers=1)
    lab.expect("front SERVER GET /socket 101")
