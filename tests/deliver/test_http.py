"""OTLP over HTTP with protobuf, against Python's server, and against TCP that no decent server would send."""

import peers
import pytest
from peers import HttpPeer, RawPeer
from test_grpc import lines, url

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def test_everything_arrives_once_over_kept_connections(send):
    with HttpPeer() as peer:
        result = send(url(peer), 6000, 1, 300)
        ids = peer.span_ids()
        assert result["exported"] == 6000 and len(ids) == 6000 and len(set(ids)) == 6000
        assert len(peer.peers) <= 2 and set(peer.paths) == {"/v1/traces"}
        headers = peer.requests[0][2]
        assert headers["Content-Type"] == "application/x-protobuf" and "Expect" not in headers
        assert headers["User-Agent"].startswith("OTel-OTLP-Exporter-otshim/")


def test_gzip(send):
    with HttpPeer() as peer:
        send(url(peer), 1000, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
        assert len(set(peer.span_ids())) == 1000 and peer.requests[0][2]["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("base,path", [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp", "/otlp/v1/traces"), ("/otlp/", "/otlp/v1/traces")])
def test_base_address(send, base, path):
    with HttpPeer() as peer:
        send(url(peer) + base, 1)
        assert peer.paths == [path]


@pytest.mark.parametrize("given,path", [("", "/"), ("/here?tenant=1", "/here?tenant=1")])
def test_address_for_traces_is_used_as_it_is(send, given, path):
    with HttpPeer() as peer:
        send("http://127.0.0.1:1", 1, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url(peer) + given)
        assert peer.paths == [path]


def test_headers_of_the_signal_win(send):
    with HttpPeer() as peer:
        send(url(peer), 1, OTEL_EXPORTER_OTLP_HEADERS="a=1", OTEL_EXPORTER_OTLP_TRACES_HEADERS="b=2,user-agent=mine")
        headers = {k.lower(): v for k, v in peer.requests[0][2].items()}
        assert headers["b"] == "2" and "a" not in headers and headers["user-agent"] == "mine"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_statuses_that_are_tried_again(send, status):
    with HttpPeer([status]) as peer:
        result = send(url(peer), 100)
        assert (result["exported"], result["requests"], result["failures"]) == (100, 2, 1)
        assert peer.gaps()[0] >= 0.45 and str(status) in result["last_error"]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 408, 413, 415, 500, 501, 505])
def test_statuses_that_are_final(send, status):
    with HttpPeer([status]) as peer:
        result = send(url(peer), 100)
        assert (result["dropped_refused"], result["requests"]) == (100, 1)
        assert f"answered {status}" in lines(result, "not getting through")[0]


def test_retry_after_in_seconds(send):
    with HttpPeer([(429, {"Retry-After": "2"}, b"")]) as peer:
        assert send(url(peer), 10)["exported"] == 10
        assert 1.95 <= peer.gaps()[0] < 8


def test_retry_after_as_a_date(send):
    with HttpPeer([(503, {"Retry-After": peers.http_date(3)}, b"")]) as peer:
        assert send(url(peer), 10)["exported"] == 10
        assert 1.9 <= peer.gaps()[0] < 9


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "", peers.http_date(-1000)])
def test_retry_after_that_says_nothing(send, value):
    with HttpPeer([(503, {"Retry-After": value}, b"")]) as peer:
        assert send(url(peer), 10)["exported"] == 10
        assert 0.45 <= peer.gaps()[0] < 7


def test_retry_after_beyond_the_deadline_gives_up_at_once(send):
    with HttpPeer([(503, {"Retry-After": "600"}, b"")]) as peer:
        result = send(url(peer), 10)
        assert result["dropped_expired"] == 10 and len(peer.requests) == 1


def test_rate_limit_of_tempo_2_is_explained(send):
    body = b"\x08\x08\x12\x2cRATE_LIMITED: ingestion rate limit exceeded "
    with HttpPeer([(500, PROTOBUF, body)]) as peer:
        result = send(url(peer), 10)
        said = lines(result, "not getting through")[0]
        assert result["dropped_refused"] == 10
        assert "500 Internal Server Error (RESOURCE_EXHAUSTED: RATE_LIMITED" in said and "raise its ingestion limits" in said


def test_partial_success(send):
    with HttpPeer([(200, PROTOBUF, peers.partial(3, "too old").SerializeToString())]) as peer:
        result = send(url(peer), 100)
        assert (result["exported"], result["dropped_partial"], result["requests"]) == (97, 3, 1)
        assert "rejected 3 spans" in result["log"][0] and "too old" in result["log"][0]


def test_partial_success_in_json(send):
    with HttpPeer([(200, {"Content-Type": "application/json"}, peers.partial_json(3, "too old"))]) as peer:
        assert send(url(peer), 100)["dropped_partial"] == 3


def test_warning_inside_a_success(send):
    with HttpPeer([(200, PROTOBUF, peers.partial(0, "deprecated").SerializeToString())]) as peer:
        result = send(url(peer), 100)
        assert result["exported"] == 100 and "with a warning: deprecated" in result["log"][0]


@pytest.mark.parametrize("kind,body", [("text/html", b"<html>please log in</html>"), ("application/x-protobuf", b"\xff" * 50),
                                       ("application/json", b"[1]")])
def test_200_with_something_else_is_no_success(send, kind, body):
    with HttpPeer([(200, {"Content-Type": kind}, body)]) as peer:
        result = send(url(peer), 10)
        assert result["dropped_refused"] == 10 and "no OTLP answer" in result["last_error"] and kind in result["last_error"]


def test_endless_answer_is_cut(send):
    with HttpPeer([(200, PROTOBUF, b"\x1a\x7f" + b"x" * (9 << 20))]) as peer:
        assert send(url(peer), 10)["dropped_refused"] == 10


def test_slow_backend(send):
    with HttpPeer([1.5]) as peer:
        result = send(url(peer), 10, OTEL_EXPORTER_OTLP_TIMEOUT=400)
        assert result["exported"] == 10 and result["requests"] == 2
        assert "gave no answer within 0.4 s" in result["last_error"]


def test_backend_that_closes_instead_of_answering(send):
    with HttpPeer(["close"]) as peer:
        result = send(url(peer), 10)
        assert result["exported"] == 10 and "closed the connection without an answer" in result["last_error"]


def test_backend_that_closes_after_each_answer(send):
    closing = (200, {"Content-Type": "application/x-protobuf", "Connection": "close"}, b"")
    with HttpPeer([closing] * 6) as peer:
        result = send(url(peer), 3072)
        assert result["exported"] == 3072 and result["failures"] == 0


@pytest.mark.parametrize("behaviour", [peers.garbage, peers.close_at_once, peers.reset], ids=["garbage", "closed", "reset"])
def test_broken_connections_are_tried_again(send, behaviour):
    with HttpPeer() as good, RawPeer([behaviour], onward=good.port) as peer:
        result = send(url(peer), 100)
        assert result["exported"] == 100 and result["failures"] == 1 and len(set(good.span_ids())) == 100


def test_the_environments_proxy_is_not_for_loopback(send):
    with HttpPeer() as peer:
        assert send(url(peer), 10, http_proxy="http://127.0.0.1:1")["exported"] == 10


def test_large_batches_stay_below_a_mebibyte(send):
    with HttpPeer() as peer:
        send(url(peer), 20000, OTEL_BSP_MAX_EXPORT_BATCH_SIZE=20000, OTEL_BSP_MAX_QUEUE_SIZE=20000)
        assert len(set(peer.span_ids())) == 20000 and len(peer.requests) > 5
        assert max(request.ByteSize() for _, request, _ in peer.requests) < 4 << 20
