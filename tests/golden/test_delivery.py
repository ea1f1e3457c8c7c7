"""The whole path, to a backend that takes OTLP: the same trees out of what arrived there."""

import lab as laboratory
import pytest
import programs
import receiver
from lab import fetch

RECEIVERS = {"grpc": receiver.GrpcReceiver, "http": receiver.HttpReceiver}


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_arrives_over(bench, protocol):
    if laboratory.BARE:
        pytest.skip("needs the exporter")
    received = bench.deliver_to(RECEIVERS[protocol]())
    leaf = bench.start(programs.thread_server, "leaf")
    front = bench.start(programs.gunicorn, "front")
    bench.get(front, fetch(leaf.url("/leaf/1")))
    tree = """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
        """
    bench.expect(tree, last=False)
    bench.expect(tree, source=received.spans)
    assert received.repeated == 0


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_storm_arrives_once(bench, protocol):
    if laboratory.BARE:
        pytest.skip("needs the exporter")
    received = bench.deliver_to(RECEIVERS[protocol]())
    leaf = bench.start(programs.thread_server, "leaf")
    edge = bench.start(programs.nginx_proxy, "edge", upstreams=[leaf], workers=2)
    bench.storm(edge, "/leaf/ID", laboratory.ids(400))
    laboratory.wait_for(lambda: len(received.spans()) >= 1600, 15, "1,600 spans")
    bench.stop_programs()
    bench.exporter.stop()
    assert len(received.spans()) == 1600
    assert received.repeated == 0
    assert received.requests < 400, "spans are sent in batches"
