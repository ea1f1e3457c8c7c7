"""A program for each request, started by the server itself: TRACEPARENT is its context. (By httpd and by FastCGI: test_fastcgi.py.)"""

import lab as laboratory
import programs


def test_http_server(lab):
    """Four at once: each program's call is under its own request. The server leaves its connection to the program, which writes the rest of the
    response to it, and is itself seen to close it in the middle of the head."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.python_cgi, "front")
    ids = laboratory.ids(12)
    lab.storm(front, f"/cgi-bin/answer.cgi?url={leaf.url('/leaf/ID')}", ids, concurrency=4)
    lab.expect_each(
        """
        front SERVER GET /cgi-bin/answer.cgi ERROR local_closed
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
        """,
        ids,
    )
