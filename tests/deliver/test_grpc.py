"""OTLP over gRPC, against grpcio's server, and against HTTP/2 and TCP that no decent server would send."""

import time

import grpc
import peers
import pytest
from peers import GrpcPeer, RawPeer

CODE = grpc.StatusCode


def url(peer):
    return f"http://127.0.0.1:{peer.port}"


def grpc_env(**more):
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **more}


def lines(result, text):
    return [line for line in result["log"] if text in line]


def test_everything_arrives_once_over_kept_connections(send):
    with GrpcPeer() as peer:
        result = send(url(peer), 6000, 1, 300, **grpc_env())
        ids = peer.span_ids()
        assert result["exported"] == 6000 and result["failures"] == 0
        assert len(ids) == 6000 and len(set(ids)) == 6000
        assert max(sum(len(s.spans) for r in q.resource_spans for s in r.scope_spans) for _, q, _ in peer.requests) <= 512
        assert len(peer.peers) <= 2, "connections were not kept"
        metadata = peer.requests[0][2]
        assert metadata["user-agent"].startswith("OTel-OTLP-Exporter-otshim/")
        assert result["log"] == []


def test_a_span_arrives_as_it_was(send):
    with GrpcPeer() as peer:
        send(url(peer), 8, **grpc_env())
        assert len(peer.requests[0][1].resource_spans) == 2
        resource, root = next(pair for pair in peer.spans if pair[1].name == "GET /orders/{id}")
        assert resource["service.name"].string_value == "sender-a" and resource["process.pid"].int_value == 4711
        assert root.kind == 2 and root.parent_span_id == b"" and len(root.trace_id) == 16 and len(root.span_id) == 8
        assert root.trace_state == "vendor=value" and root.flags == 0x101
        values = {a.key: a.value for a in root.attributes}
        assert values["http.request.method"].string_value == "GET"
        assert values["http.response.status_code"].int_value == 200
        assert values["otshim.flag"].bool_value is True
        assert values["otshim.ratio"].double_value == 0.25
        assert values["url.path"].string_value == "/grüße"
        assert [v.string_value for v in values["http.request.header.accept"].array_value.values] == ["text/html", "gzip"]
        assert root.events[0].name == "first byte" and root.events[0].attributes[1].value.int_value == 200
        assert root.end_time_unix_nano - root.start_time_unix_nano == 20_000_000
        child = [span for _, span in peer.spans if span.trace_id == root.trace_id and span.parent_span_id == root.span_id]
        assert len(child) == 3
        failed = [span for span in child if span.status.code == 2]
        assert [span.status.message for span in failed] == ["connection refused"]
        scope = peer.requests[0][1].resource_spans[0].scope_spans[0].scope
        assert scope.name == "otshim" and scope.version


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_gzip(send, compression):
    with GrpcPeer(compression=compression, script=[peers.partial(1, "x" * 2000)]) as peer:
        result = send(url(peer), 1000, **grpc_env(OTEL_EXPORTER_OTLP_COMPRESSION="gzip"))
        assert len(set(peer.span_ids())) == 1000
        assert result["dropped_partial"] == 1 and result["requests"] == 2


def test_headers(send):
    with GrpcPeer() as peer:
        send(url(peer), 1, **grpc_env(OTEL_EXPORTER_OTLP_HEADERS="X-Scope-OrgID=team%20a, Authorization=Basic%20Zm9vOmJhcg=="))
        metadata = peer.requests[0][2]
        assert metadata["x-scope-orgid"] == "team a" and metadata["authorization"] == "Basic Zm9vOmJhcg=="


@pytest.mark.parametrize("code", [CODE.CANCELLED, CODE.DEADLINE_EXCEEDED, CODE.ABORTED, CODE.OUT_OF_RANGE, CODE.UNAVAILABLE,
                                  CODE.DATA_LOSS])
def test_codes_that_are_tried_again(send, code):
    with GrpcPeer(script=[code]) as peer:
        result = send(url(peer), 100, **grpc_env())
        assert (result["exported"], result["requests"], result["retries"], result["failures"]) == (100, 2, 1, 1)
        assert peer.gaps()[0] >= 0.45, "the first wait is a second, less at most half of it"
        assert peer.requests[0][1] == peer.requests[1][1], "not the same bytes"
        assert code.name in result["last_error"] and "as the script says" in result["last_error"]


@pytest.mark.parametrize("code", [CODE.UNKNOWN, CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.ALREADY_EXISTS, CODE.PERMISSION_DENIED,
                                  CODE.RESOURCE_EXHAUSTED, CODE.FAILED_PRECONDITION, CODE.UNIMPLEMENTED, CODE.INTERNAL,
                                  CODE.UNAUTHENTICATED])
def test_codes_that_are_final(send, code):
    with GrpcPeer(script=[code]) as peer:
        result = send(url(peer), 100, **grpc_env())
        assert (result["dropped_refused"], result["requests"], result["retries"], result["failures"]) == (100, 1, 0, 1)
        assert code.name in lines(result, "traces are not getting through")[0]


def test_backoff_grows_and_one_line_says_so(send):
    with GrpcPeer(script=[CODE.UNAVAILABLE] * 4) as peer:
        result = send(url(peer), 100, **grpc_env())
        gaps = peer.gaps()
        assert len(gaps) == 4 and result["exported"] == 100
        for gap, base in zip(gaps, (1, 1.5, 2.25, 3.375)):
            assert base * 0.5 - 0.05 <= gap <= base * 1.5 + 3, gaps
        assert len(lines(result, "not getting through")) == 1
        assert len(lines(result, "getting through to http://127.0.0.1")) == 1
        assert len(result["log"]) == 2  # and nothing was lost: no sum at the end


def test_retry_info_is_obeyed(send):
    with GrpcPeer(script=[(CODE.RESOURCE_EXHAUSTED, "slow down", peers.retry_info(2))]) as peer:
        result = send(url(peer), 100, **grpc_env())
        assert result["exported"] == 100 and 1.95 <= peer.gaps()[0] < 8
        assert "RESOURCE_EXHAUSTED" in result["last_error"]


def test_refusal_names_the_remedy_once(send):
    with GrpcPeer(script=[(CODE.UNAUTHENTICATED, "no token\n\x1b[31m")] * 6) as peer:
        result = send(url(peer), 3072, **grpc_env())
        said = lines(result, "not getting through")
        assert result["dropped_refused"] == 3072 and len(said) == 1
        assert f"http://127.0.0.1:{peer.port} answered UNAUTHENTICATED: no token" in said[0]
        assert "OTEL_EXPORTER_OTLP_HEADERS" in said[0] and "512 spans dropped" in said[0] and "\x1b" not in said[0]


def test_partial_success_is_counted_and_never_sent_again(send):
    with GrpcPeer(script=[peers.partial(3, "trace too large")]) as peer:
        result = send(url(peer), 100, **grpc_env())
        assert (result["exported"], result["dropped_partial"], result["requests"]) == (97, 3, 1)
        assert "rejected 3 spans" in result["log"][0] and "trace too large" in result["log"][0]


def test_partial_success_that_lies(send):
    with GrpcPeer(script=[peers.partial(10**15, ""), peers.partial(-5, "warning")]) as peer:
        result = send(url(peer), 1000, **grpc_env())
        assert (result["exported"], result["dropped_partial"]) == (488, 512)


def test_slow_backend_is_tried_again_after_the_timeout(send):
    with GrpcPeer(script=[1.5]) as peer:
        result = send(url(peer), 10, **grpc_env(OTEL_EXPORTER_OTLP_TIMEOUT=400))
        assert result["exported"] == 10 and result["requests"] == 2
        assert "within 0.4 s" in result["last_error"] or "DEADLINE_EXCEEDED" in result["last_error"]
        assert peer.requests[0][2].get("grpc-timeout") is None  # grpcio keeps it to itself


def test_ok_with_garbage_is_no_success(send):
    with GrpcPeer(script=[b"\xff\xff\xff\xff"]) as peer:
        result = send(url(peer), 10, **grpc_env())
        assert result["dropped_refused"] == 10 and "no OTLP answer" in result["last_error"]


def test_backend_that_comes_late(start):
    with GrpcPeer() as placeholder:
        port = placeholder.port
    sending = start(f"http://127.0.0.1:{port}", 5000, **grpc_env())
    time.sleep(1.5)
    with GrpcPeer(port=port) as peer:
        result = sending.result()
        assert result["exported"] == 5000 and len(set(peer.span_ids())) == 5000
    assert f"cannot connect to 127.0.0.1:{port}: connection refused; 5,000 spans waiting" in lines(result, "not getting through")[0]
    assert "0 spans lost meanwhile" in lines(result, "again after")[0]


def test_backend_that_restarts_in_between(start):
    with GrpcPeer() as first:
        port = first.port
        sending = start(f"http://127.0.0.1:{port}", 4000, 20, 50, **grpc_env())
        time.sleep(0.6)
    time.sleep(0.5)
    with GrpcPeer(port=port) as second:
        result = sending.result()
    assert result["exported"] == 4000, str(result)
    # A request cut off by the stop may have been taken by the first and was sent again to the second: never lost.
    assert set(first.span_ids()) | set(second.span_ids()) == {(i + 1).to_bytes(8, "little") for i in range(4000)}


def test_full_queue_drops_the_newest_counts_and_says_it_once(start):
    sending = start("http://127.0.0.1:1", 3000, **grpc_env(OTEL_BSP_MAX_QUEUE_SIZE=1000, OTSHIM_SHUTDOWN_TIMEOUT=300))
    time.sleep(1)
    sending.term()
    result = sending.result()
    assert result["dropped_queue"] == 2000 and result["dropped_shutdown"] == 1000
    assert len(lines(result, "the queue is full (1,000 spans)")) == 1
    assert "1,000 spans not delivered" in result["log"][-2]
    assert "2,000 spans lost (queue full 2000, refused 0, partial success 0, given up 0)" in result["log"][-1]


def test_retry_deadline(send):
    result = send("http://127.0.0.1:1", 100, **grpc_env(OTEL_BSP_EXPORT_TIMEOUT=2000))
    assert result["dropped_expired"] == 100 and result["requests"] >= 2
    assert len(lines(result, "given up after 2 s")) == 1


def test_unsampled_spans_stay_home(send):
    result = send("http://127.0.0.1:1", 50, **grpc_env(SEND_UNSAMPLED=1))
    assert result["unsampled"] == 50 and result["requests"] == 0


def test_shutdown_sends_what_is_left(start):
    with GrpcPeer() as peer:
        sending = start(url(peer), 400, 100, 100, **grpc_env(OTEL_BSP_SCHEDULE_DELAY=60000))
        time.sleep(0.7)
        assert peer.requests == []
        sending.term()
        assert sending.result()["exported"] == 400


BEGUN = (":status", "200"), ("content-type", "application/grpc")


@pytest.mark.parametrize("behaviour", [peers.garbage, peers.close_at_once, peers.reset, peers.http1_only,
                                       peers.http2(peers.rst_stream(7)), peers.http2(peers.goaway(0)), peers.http2(),
                                       peers.http2(peers.headers(*BEGUN, end=False)),
                                       peers.http2(peers.headers(*BEGUN, end=False), peers.data(b"\0\0\0\0\0", end=True)),
                                       peers.http2(peers.headers(*BEGUN, end=False), peers.data(b"\0\0\0\0\0"), peers.rst_stream(0))],
                         ids=["garbage", "closed", "reset", "http1", "refused-stream", "goaway", "no-answer", "headers-only",
                              "no-trailers", "no-trailers-reset"])
def test_broken_connections_are_tried_again(send, behaviour):
    with GrpcPeer() as good, RawPeer([behaviour], onward=good.port) as peer:
        result = send(url(peer), 100, **grpc_env())
        assert result["exported"] == 100 and result["failures"] <= 1  # libcurl itself sends a refused stream (RFC 9113 8.7) again
        assert len(set(good.span_ids())) == 100
        assert result["failures"] == 0 or f"127.0.0.1:{peer.port}" in result["last_error"]


@pytest.mark.parametrize("status,outcome", [("503", "exported"), ("429", "exported"), ("502", "exported"), ("504", "exported"),
                                            ("404", "dropped_refused"), ("401", "dropped_refused"), ("500", "dropped_refused"),
                                            ("200", "dropped_refused")])
def test_plain_http_from_something_in_between(send, status, outcome):
    answer = peers.http2(peers.headers((":status", status), ("content-type", "text/html")))
    with GrpcPeer() as good, RawPeer([answer], onward=good.port) as peer:
        result = send(url(peer), 10, **grpc_env())
        assert result[outcome] == 10, result
        assert status in result["last_error"]


def test_trailers_only(send):
    answer = peers.http2(peers.headers((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "7"),
                                       ("grpc-message", "nicht%20erlaubt%3A%20%C3%BC%zz")))
    with RawPeer([answer]) as peer:
        result = send(url(peer), 10, **grpc_env())
        assert result["dropped_refused"] == 10
        assert "answered PERMISSION_DENIED: nicht erlaubt: ü%zz" in result["last_error"]


def test_status_zero_with_an_empty_body(send):
    answer = peers.http2(peers.headers((":status", "200"), ("content-type", "application/grpc"), end=False),
                         peers.headers(("grpc-status", "0"),))
    with RawPeer([answer]) as peer:
        assert send(url(peer), 10, **grpc_env())["exported"] == 10


@pytest.mark.parametrize("status", ["banana", "99", "-1", "99999999999999999999"])
def test_strange_status(send, status):
    answer = peers.http2(peers.headers((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)))
    with RawPeer([answer]) as peer:
        assert send(url(peer), 10, **grpc_env())["dropped_refused"] == 10


def test_the_environments_proxy_is_not_for_loopback(send):
    with GrpcPeer() as peer:
        result = send(url(peer), 10, **grpc_env(http_proxy="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1"))
        assert result["exported"] == 10


def test_one_batch_that_always_fails_does_not_hold_up_the_rest(send):
    class Picky(GrpcPeer):
        def next(self, request, metadata, peer):
            super().next(request, metadata, peer)
            poison = any(span.span_id == (1).to_bytes(8, "little") for r in request.resource_spans for s in r.scope_spans for span in s.spans)
            return CODE.UNAVAILABLE if poison else None

    with Picky() as peer:
        result = send(url(peer), 3000, **grpc_env(OTEL_BSP_EXPORT_TIMEOUT=3000))
        assert result["exported"] == 3000 - 512 and result["dropped_expired"] == 512
