"""curl and wget under the library: each call is the root of its own trace. The connection that was made for it is a part of it, although
it began earlier: there was no request yet to which it could have belonged."""

import programs


def test_curl(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    done = lab.run([programs.need("curl"), "-sS", leaf.url("/leaf/1")], "shell")
    assert done.stdout == b"ok /leaf/1\n" and done.stderr == b""
    lab.expect(
        """
        shell CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          leaf SERVER GET /leaf/1 200
        """
    )


def test_curl_keeps_its_connection(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    done = lab.run([programs.need("curl"), "-sS", leaf.url("/leaf/1"), leaf.url("/status/2?code=500")], "shell")
    assert done.stdout == b"ok /leaf/1\nok /status/2\n"
    lab.expect(
        """
        shell CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          leaf SERVER GET /leaf/1 200

        shell CLIENT GET http://127.0.0.1:{leaf}/status/2 500 ERROR
          leaf SERVER GET /status/2 500 ERROR
        """
    )


def test_wget(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    done = lab.run([programs.need("wget"), "-q", "-O", "-", leaf.url("/leaf/1")], "shell")
    assert done.stdout == b"ok /leaf/1\n" and done.returncode == 0
    lab.expect(
        """
        shell CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          leaf SERVER GET /leaf/1 200
        """
    )


def test_curl_in_a_shell_script_that_has_a_trace(lab):
    """TRACEPARENT in the environment: what the script starts belongs to that trace."""
    leaf = lab.start(programs.thread_server, "leaf")
    script = f"curl -sS {leaf.url('/leaf/1')} >/dev/null; wget -q -O /dev/null {leaf.url('/leaf/2')}"
    trace_id, span_id = "1234567890abcdef1234567890abcdef", "1234567890abcdef"
    lab.run([programs.need("bash"), "-c", script], "shell", env={"TRACEPARENT": f"00-{trace_id}-{span_id}-01"})
    forest = lab.expect(
        """
        shell INTERNAL tcp.connect 127.0.0.1:{leaf} (parent elsewhere)

        shell CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200 (parent elsewhere)
          leaf SERVER GET /leaf/1 200

        shell INTERNAL tcp.connect 127.0.0.1:{leaf} (parent elsewhere)

        shell CLIENT GET http://127.0.0.1:{leaf}/leaf/2 200 (parent elsewhere)
          leaf SERVER GET /leaf/2 200
        """
    )
    if forest:
        assert {s.trace_id for s in forest.spans} == {trace_id}
        assert {s.parent_id for s in forest.roots} == {span_id}
