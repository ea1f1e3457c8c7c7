"""http.server in processes that are forked at the start and accept from one socket. Argument: the port."""

import os
import sys
from http.server import HTTPServer

from http_server import Handler

WORKERS = 8


class Server(HTTPServer):
    request_queue_size = 256


# a worker has one connection at a time: it must not wait for the next request of a client that keeps its own
Handler.protocol_version = "HTTP/1.0"
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
for _ in range(WORKERS):
    if os.fork() == 0:
        server.serve_forever()
for _ in range(WORKERS):
    os.wait()
