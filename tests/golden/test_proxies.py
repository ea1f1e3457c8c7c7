"""nginx and haproxy in between, nginx with files of its own."""

import http.client

import lab as laboratory
import pytest
import programs
from lab import fetch


def test_nginx_two_upstreams(lab):
    a = lab.start(programs.thread_server, "app-a")
    b = lab.start(programs.thread_server, "app-b")
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[a, b])
    lab.get(edge, "/leaf/1")
    lab.get(edge, "/leaf/2")
    lab.expect(
        """
        edge SERVER GET /leaf/1 200
          edge INTERNAL tcp.connect 127.0.0.1:{app-a}
          edge CLIENT GET http://backend/leaf/1 200
            app-a SERVER GET /leaf/1 200

        edge SERVER GET /leaf/2 200
          edge INTERNAL tcp.connect 127.0.0.1:{app-b}
          edge CLIENT GET http://backend/leaf/2 200
            app-b SERVER GET /leaf/2 200
        """
    )


def test_nginx_keeps_upstream_connections(lab):
    a = lab.start(programs.thread_server, "app-a")
    b = lab.start(programs.thread_server, "app-b")
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[a, b], keepalive=True)
    for n in range(1, 4):
        lab.get(edge, f"/leaf/{n}")
    lab.expect(
        """
        edge SERVER GET /leaf/1 200
          edge INTERNAL tcp.connect 127.0.0.1:{app-a}
          edge CLIENT GET http://backend/leaf/1 200
            app-a SERVER GET /leaf/1 200

        edge SERVER GET /leaf/2 200
          edge INTERNAL tcp.connect 127.0.0.1:{app-b}
          edge CLIENT GET http://backend/leaf/2 200
            app-b SERVER GET /leaf/2 200

        edge SERVER GET /leaf/3 200
          edge CLIENT GET http://backend/leaf/3 200
            app-a SERVER GET /leaf/3 200
        """
    )


@pytest.mark.parametrize("keepalive", [False, True], ids=["close", "keepalive"])
def test_nginx_proxy_storm(lab, keepalive):
    leaf = lab.start(programs.thread_server, "leaf")
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[leaf], keepalive=keepalive, workers=2)
    ids = laboratory.ids(300)
    lab.storm(edge, "/leaf/ID", ids, concurrency=16)
    lab.expect_each(
        """
        edge SERVER GET /leaf/ID 200
          edge CLIENT GET http://backend/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
        """,
        ids,
        without=["tcp.connect"],
    )


def test_nginx_bad_gateway(lab):
    nobody = laboratory.free_port()
    lab.ports[nobody] = "nobody"
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[nobody])
    lab.get(edge, "/leaf/1", status=502)
    lab.expect(
        """
        edge SERVER GET /leaf/1 502 ERROR
          edge INTERNAL tcp.connect 127.0.0.1:{nobody} ERROR ECONNREFUSED
        """
    )


def test_nginx_upstream_breaks_off(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[leaf])
    with pytest.raises(http.client.IncompleteRead):
        lab.get(edge, "/cut/1")
    lab.expect(
        """
        edge SERVER GET /cut/1 200 ERROR local_closed
          edge INTERNAL tcp.connect 127.0.0.1:{leaf}
          edge CLIENT GET http://backend/cut/1 200 ERROR peer_closed
            leaf SERVER GET /cut/1 200 ERROR local_closed
        """
    )


def test_nginx_files_by_sendfile(lab):
    edge = lab.start(programs.nginx_files, "edge", files={"small.txt": b"twenty-two bytes here\n", "big.bin": b"b" * 3_000_000})
    lab.get(edge, "/small.txt")
    lab.get(edge, "/big.bin")
    lab.get(edge, "/small.txt", method="HEAD")
    lab.get(edge, "/none.txt", status=404)
    lab.expect(
        """
        edge SERVER GET /small.txt 200 http.response.body.size=22

        edge SERVER GET /big.bin 200 http.response.body.size=3000000

        edge SERVER HEAD /small.txt 200

        edge SERVER GET /none.txt 404 http.response.body.size=153
        """,
        show=["http.response.body.size"],
    )


def test_nginx_pipelined_and_kept_alive(lab):
    """Five requests in one write on one connection."""
    edge = lab.start(programs.nginx_files, "edge", files={"small.txt": b"twenty-two bytes here\n"})
    lab.converse(edge, [b"GET /small.txt?%d HTTP/1.1\r\nHost: here\r\n\r\n" % n for n in range(5)], answers=5)
    lab.expect("\n\n".join(["edge SERVER GET /small.txt 200"] * 5))


def test_haproxy(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    edge = lab.start(programs.haproxy, "edge", upstream=leaf)
    lab.get(edge, "/leaf/1")
    lab.expect(
        """
        edge SERVER GET /leaf/1 200
          edge INTERNAL tcp.connect 127.0.0.1:{leaf}
          edge CLIENT GET http://127.0.0.1:{edge}/leaf/1 200
            leaf SERVER GET /leaf/1 200
        """
    )


def test_haproxy_storm(lab):
    """haproxy reads several requests before it works on the first, and its threads do each other's work: whose a call is cannot be said then, and
    is not."""
    leaf = lab.start(programs.thread_server, "leaf")
    edge = lab.start(programs.haproxy, "edge", upstream=leaf, threads=2)
    ids = laboratory.ids(300)
    lab.storm(edge, "/leaf/ID", ids, concurrency=16)
    lab.expect_each(
        """
        edge SERVER GET /leaf/ID 200
          edge CLIENT GET http://127.0.0.1:{edge}/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
        """,
        ids,
        without=["tcp.connect"],
        may_lack_parents="all",
    )


def test_nginx_to_gunicorn_by_unix_socket(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    app = lab.start(programs.gunicorn, "app", unix=lab.directory / "app.sock")
    edge = lab.start(programs.nginx, "edge", server=f"location / {{ proxy_pass http://unix:{lab.directory}/app.sock:; }}")
    lab.get(edge, fetch(leaf.url("/leaf/1")))
    lab.expect(
        """
        edge SERVER GET /fetch/1 200
          edge INTERNAL unix.connect {dir}/app.sock
          edge CLIENT GET http://localhost/fetch/1 200
            app SERVER GET /fetch/1 200
              app INTERNAL tcp.connect 127.0.0.1:{leaf}
              app CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
                leaf SERVER GET /leaf/1 200
        """
    )


@pytest.mark.parametrize("last", [programs.webrick, programs.java], ids=["ruby", "java"])
def test_chain_of_four(lab, last):
    """nginx -> gunicorn/Flask -> Node -> Ruby or Java: one trace."""
    end = lab.start(last, "end")
    middle = lab.start(programs.node, "middle")
    app = lab.start(programs.gunicorn, "app", workers=2)
    edge = lab.start(programs.nginx_proxy, "edge", upstreams=[app])
    lab.get(edge, fetch(middle.url(fetch(end.url("/leaf/1")))))
    lab.expect(
        """
        edge SERVER GET /fetch/1 200
          edge INTERNAL tcp.connect 127.0.0.1:{app}
          edge CLIENT GET http://backend/fetch/1 200
            app SERVER GET /fetch/1 200
              app INTERNAL tcp.connect 127.0.0.1:{middle}
              app CLIENT GET http://127.0.0.1:{middle}/fetch/1 200
                middle SERVER GET /fetch/1 200
                  middle INTERNAL tcp.connect 127.0.0.1:{end}
                  middle CLIENT GET http://127.0.0.1:{end}/leaf/1 200
                    end SERVER GET /leaf/1 200
        """
    )
