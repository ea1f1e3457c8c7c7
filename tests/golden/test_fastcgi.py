"""PHP-FPM behind nginx: an HTTP request that goes on by FastCGI."""

import lab as laboratory
import programs
import pytest
from lab import fetch
from test_context import PARENT, TRACE, traceparent


def start_php(lab, more="", http="", to=None, unix=False, **options):
    """PHP-FPM as php, nginx before it as front."""
    php = lab.start(programs.php_fpm, "php", unix=unix, **options)
    at = f"unix:{programs.php_socket(lab, 'php')}" if unix else f"127.0.0.1:{php.port}"
    return php, lab.start(programs.nginx_php, "front", to=to or at, more=more, http=http.replace("AT", at))


CALLS = """
        front SERVER GET /fetch.php 200
          front INTERNAL CONNECT
          front CLIENT GET http://127.0.0.1:{front}/fetch.php 200
            php SERVER GET /fetch.php 200
              php INTERNAL tcp.connect 127.0.0.1:{leaf}
              php CLIENT GET http://127.0.0.1:{leaf}/leaf/1/curl 200
                leaf SERVER GET /leaf/1/curl 200
              php INTERNAL tcp.connect 127.0.0.1:{leaf}
              php CLIENT GET http://127.0.0.1:{leaf}/leaf/1/fopen 200
                leaf SERVER GET /leaf/1/fopen 200
        """


def test_nginx_php_fpm(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    _, front = start_php(lab)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}")
    forest = lab.expect(CALLS.replace("CONNECT", "tcp.connect 127.0.0.1:{php}"))
    if forest:
        server = next(s for s in forest.spans if s.service == "php" and s.kind == "SERVER")
        client = next(s for s in forest.spans if s.service == "front" and s.kind == "CLIENT")
        for span in server, client:
            assert (span.attributes["network.protocol.name"], span.attributes["network.protocol.version"]) == ("fastcgi", "1.0")
        assert client.attributes["server.port"] == lab.processes[1].port
        assert server.attributes["server.port"] == front.port
        assert server.attributes["client.address"] == "127.0.0.1"
        assert server.attributes["url.scheme"] == "http"
        assert server.attributes["url.query"].startswith("url=")
        assert server.attributes["otshim.parent"] == "remote"


def test_nginx_php_fpm_by_unix_socket(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    _, front = start_php(lab, unix=True)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}")
    # its master looks whether somebody listens there already
    probe = "        php INTERNAL unix.connect {dir}/php.sock ERROR ENOENT\n"
    lab.expect(probe + CALLS.replace("CONNECT", "unix.connect {dir}/php.sock"))


@pytest.mark.parametrize("pm", ["dynamic", "ondemand"])
def test_php_fpm_forks_workers_later(lab, pm):
    leaf = lab.start(programs.thread_server, "leaf")
    _, front = start_php(lab, pm=pm)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}")
    lab.expect(CALLS.replace("CONNECT", "tcp.connect 127.0.0.1:{php}"))


def test_nginx_between_traced_programs(lab):
    """nginx hands the caller's traceparent through to PHP with the other headers; what counts is its own, which comes after."""
    _, front = start_php(lab)
    caller = lab.start(programs.urllib_server, "caller")
    text = lab.get(caller, fetch(front.url("/answer.php")))
    forest = lab.expect(
        """
        caller SERVER GET /fetch/1 200
          caller INTERNAL tcp.connect 127.0.0.1:{front}
          caller CLIENT GET http://127.0.0.1:{front}/answer.php 200
            front SERVER GET /answer.php 200
              front INTERNAL tcp.connect 127.0.0.1:{php}
              front CLIENT GET http://127.0.0.1:{front}/answer.php 200
                php SERVER GET /answer.php 200
        """
    )
    if forest:
        client = next(s for s in forest.spans if s.service == "front" and s.kind == "CLIENT")
        assert text.split()[-1] == f"00-{client.trace_id}-{client.span_id}-01"


def test_tracestate_goes_through(lab):
    _, front = start_php(lab)
    lab.get(front, "/answer.php", headers={"traceparent": traceparent("01"), "tracestate": "vendor=opaque,other=1"})
    forest = lab.expect(
        """
        front SERVER GET /answer.php 200 (parent elsewhere)
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 200
            php SERVER GET /answer.php 200
        """
    )
    if forest:
        assert {s.raw.get("traceState") for s in forest.spans if s.kind in ("SERVER", "CLIENT")} == {"vendor=opaque,other=1"}


@pytest.mark.parametrize("value", ["", "00-0-0-01", "x" * 300])
def test_an_invalid_traceparent_gives_way(lab, value):
    _, front = start_php(lab)
    lab.get(front, "/answer.php", headers={"traceparent": value})
    lab.expect(
        """
        front SERVER GET /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 200
            php SERVER GET /answer.php 200
        """
    )


def test_a_traceparent_of_nginx_itself_stays(lab):
    """One that is not the request's: somebody has configured it."""
    own = traceparent("01")
    _, front = start_php(lab, more=f"fastcgi_param HTTP_TRACEPARENT {own};")
    assert lab.get(front, "/answer.php").split()[-1] == own
    forest = lab.expect(
        """
        front SERVER GET /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}

        front CLIENT GET http://127.0.0.1:{front}/answer.php 200 (parent elsewhere)

        php SERVER GET /answer.php 200 (parent elsewhere)
        """
    )
    if forest:
        assert {(s.trace_id, s.parent_id) for s in forest.roots[1:]} == {(TRACE, PARENT)}


def test_statuses(lab):
    _, front = start_php(lab)
    lab.get(front, "/answer.php?code=404", status=404)
    lab.get(front, "/none.php", status=404)
    lab.get(front, "/answer.php?throw=1", status=500)
    lab.get(front, "/answer.php", method="HEAD")
    forest = lab.expect(
        """
        front SERVER GET /answer.php 404
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 404 ERROR
            php SERVER GET /answer.php 404

        front SERVER GET /none.php 404
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/none.php 404 ERROR
            php SERVER GET /none.php 404

        front SERVER GET /answer.php 500 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 500 ERROR
            php SERVER GET /answer.php 500 ERROR

        front SERVER HEAD /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT HEAD http://127.0.0.1:{front}/answer.php 200
            php SERVER HEAD /answer.php 200
        """
    )
    if forest:
        failed = next(s for s in forest.spans if s.service == "php" and s.error)
        assert "out of cheese" in failed.message


@pytest.mark.parametrize("size", [3, 200_000], ids=["small", "large"])
def test_content(lab, size):
    """The large one spans several records and goes by a temporary file of nginx."""
    _, front = start_php(lab)
    answer = lab.get(front, "/answer.php", method="POST", body=b"x" * size, headers={"Cookie": "c" * 50})
    assert answer.split()[:2] == [str(size), "50"]
    length = len(answer)
    lab.expect(
        f"""
        front SERVER POST /answer.php 200 http.request.body.size={size} http.response.body.size={length}
          front INTERNAL tcp.connect 127.0.0.1:{{php}}
          front CLIENT POST http://127.0.0.1:{{front}}/answer.php 200 http.request.body.size={size} http.response.body.size={length}
            php SERVER POST /answer.php 200 http.request.body.size={size} http.response.body.size={length}
        """,
        show=["http.request.body.size", "http.response.body.size"],
    )


def test_a_large_response(lab):
    """PHP writes the content of large records in calls of their own; nginx reads it bit by bit."""
    _, front = start_php(lab)
    length = len(lab.get(front, "/answer.php?size=3000000"))
    lab.expect(
        f"""
        front SERVER GET /answer.php 200 http.response.body.size={length}
          front INTERNAL tcp.connect 127.0.0.1:{{php}}
          front CLIENT GET http://127.0.0.1:{{front}}/answer.php 200 http.response.body.size={length}
            php SERVER GET /answer.php 200 http.response.body.size={length}
        """,
        show=["http.response.body.size"],
    )


def test_content_of_unknown_length(lab):
    """nginx passes on what comes, as it comes, with an empty CONTENT_LENGTH."""
    _, front = start_php(lab, more="fastcgi_request_buffering off;")
    lab.get(front, "/answer.php", method="POST", body=iter([b"abc", b"defg"]))
    lab.expect(
        """
        front SERVER POST /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT POST http://127.0.0.1:{front}/answer.php 200
            php SERVER POST /answer.php 200
        """
    )


def test_large_parameters(lab):
    """Cookies of 24 KB: the pairs' lengths take four bytes, and PHP reads them in one call, in more than one page."""
    leaf = lab.start(programs.thread_server, "leaf")
    _, front = start_php(lab)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}", headers={f"X-Cookie-{n}": "c" * 7000 for n in range(3)})
    lab.expect(CALLS.replace("CONNECT", "tcp.connect 127.0.0.1:{php}"))


def test_connections_to_php_are_kept(lab):
    _, front = start_php(lab, to="php", http="upstream php { server AT; keepalive 4; }", more="fastcgi_keep_conn on;", workers=1)
    for n in range(3):
        lab.get(front, f"/answer.php?code={200 + n}", status=200 + n)
    lab.expect(
        """
        front SERVER GET /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 200
            php SERVER GET /answer.php 200

        front SERVER GET /answer.php 201
          front CLIENT GET http://127.0.0.1:{front}/answer.php 201
            php SERVER GET /answer.php 201

        front SERVER GET /answer.php 202
          front CLIENT GET http://127.0.0.1:{front}/answer.php 202
            php SERVER GET /answer.php 202
        """
    )


@pytest.mark.parametrize("kept", [False, True], ids=["closed", "kept"])
def test_work_after_the_response(lab, kept):
    """fastcgi_finish_request(): what follows still belongs to the request, and the next one is the next one's."""
    leaf = lab.start(programs.thread_server, "leaf")
    keep = dict(to="php", http="upstream php { server AT; keepalive 4; }", more="fastcgi_keep_conn on;") if kept else {}
    _, front = start_php(lab, workers=1, **keep)
    lab.get(front, f"/answer.php?late={leaf.url('/leaf/1')}")
    lab.get(front, f"/answer.php?late={leaf.url('/leaf/2')}")
    one = """
        front SERVER GET /answer.php 200
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 200
            php SERVER GET /answer.php 200
              php INTERNAL tcp.connect 127.0.0.1:{leaf}
              php CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
                leaf SERVER GET /leaf/ID 200
        """
    two = one.replace("          front INTERNAL tcp.connect 127.0.0.1:{php}\n", "") if kept else one
    lab.expect(one.replace("ID", "1").rstrip() + "\n" + two.replace("ID", "2"))


def test_php_dies(lab):
    """A worker that is killed in the middle of a request; it has not read the end of STDIN."""
    leaf = lab.start(programs.thread_server, "leaf")
    php, front = start_php(lab, workers=1)
    lab.get(front, f"/die.php?url={leaf.url('/leaf/1')}", status=502)
    lab.expect(
        """
        front SERVER GET /die.php 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/die.php ERROR ECONNRESET
            php SERVER GET /die.php ERROR process_died
              php INTERNAL tcp.connect 127.0.0.1:{leaf}
              php CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
                leaf SERVER GET /leaf/1 200
        """
    )


def test_php_fpm_storm(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    _, front = start_php(lab, workers=8)
    ids = laboratory.ids(100)
    lab.storm(front, f"/fetch.php?url={leaf.url('/leaf/ID')}", ids, concurrency=16)
    lab.expect_each(CALLS.replace("leaf/1", "leaf/ID").replace("CONNECT", "tcp.connect 127.0.0.1:{php}"), ids)


@pytest.mark.parametrize("mpm", ["event", "worker"])
def test_apache_php_fpm(lab, mpm):
    """mod_proxy_fcgi sends the end of PARAMS in a call of its own."""
    leaf = lab.start(programs.thread_server, "leaf")
    php = lab.start(programs.php_fpm, "php")
    front = lab.start(programs.apache_php_fpm, "front", to=f"fcgi://127.0.0.1:{php.port}", mpm=mpm)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}")
    lab.get(front, "/answer.php?code=503", method="POST", body=b"x" * 50_000, status=503)
    lab.expect(
        CALLS.replace("CONNECT", "tcp.connect 127.0.0.1:{php}").rstrip()
        + """

        front SERVER POST /answer.php 503 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT POST http://127.0.0.1:{front}/answer.php 503 ERROR
            php SERVER POST /answer.php 503 ERROR
        """
    )


def test_cgi_by_fcgiwrap(lab):
    """A process for each request: it goes on with the request by TRACEPARENT."""
    leaf = lab.start(programs.thread_server, "leaf")
    wrap = lab.start(programs.fcgiwrap, "wrap")
    front = lab.start(programs.nginx_cgi, "front", to=f"127.0.0.1:{wrap.port}")
    lab.get(front, f"/answer.cgi?status=404&url={leaf.url('/leaf/1')}", status=404)
    lab.expect(
        """
        front SERVER GET /answer.cgi 404
          front INTERNAL tcp.connect 127.0.0.1:{wrap}
          front CLIENT GET http://127.0.0.1/answer.cgi 404 ERROR
            wrap SERVER GET /answer.cgi 404
              wrap INTERNAL tcp.connect 127.0.0.1:{leaf}
              wrap CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
                leaf SERVER GET /leaf/1 200
        """
    )


def test_cgi_of_apache(lab):
    """mod_cgi: a fork and an exec in the middle of the request. The program goes on with it by TRACEPARENT."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.apache_cgi, "front")
    lab.get(front, f"/answer.cgi?url={leaf.url('/leaf/1')}")
    lab.expect(
        """
        front SERVER GET /answer.cgi 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
        """
    )


def test_cgi_of_apache_by_its_daemon(lab):
    """mod_cgid: the program is started by a process that knows nothing of the request, at the word of one that has it: nobody's."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.apache_cgi, "front", mpm="event", cgi="cgid")
    lab.get(front, f"/answer.cgi?url={leaf.url('/leaf/1')}")
    lab.expect(
        f"""
        front SERVER GET /answer.cgi 200
          front INTERNAL unix.connect {{dir}}/cgid.sock.{front.pid}
          front INTERNAL unix.connect {{dir}}/cgid.sock.{front.pid}

        front CLIENT GET http://127.0.0.1:{{leaf}}/leaf/1 200
          front INTERNAL tcp.connect 127.0.0.1:{{leaf}}
          leaf SERVER GET /leaf/1 200
        """
    )


@pytest.mark.parametrize("more", ["", "option get-values"], ids=["plain", "get-values"])
def test_haproxy_php_fpm(lab, more):
    """haproxy may ask PHP first whether it would multiplex (which it would not)."""
    leaf = lab.start(programs.thread_server, "leaf")
    php = lab.start(programs.php_fpm, "php")
    front = lab.start(programs.haproxy_php, "front", upstream=php, more=more)
    lab.get(front, f"/fetch.php?url={leaf.url('/leaf/1')}")
    lab.get(front, "/answer.php?code=404", status=404)
    lab.expect(
        CALLS.replace("CONNECT", "tcp.connect 127.0.0.1:{php}").rstrip()
        + """

        front SERVER GET /answer.php 404
          front INTERNAL tcp.connect 127.0.0.1:{php}
          front CLIENT GET http://127.0.0.1:{front}/answer.php 404 ERROR
            php SERVER GET /answer.php 404
        """
    )
