"""http.server of the standard library. Arguments: the port; threading or forking."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ForkingMixIn, ThreadingMixIn

import calls


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        kind, ident, count, ms = calls.parse(self.path)
        calls.work(kind, ident, count, ms)
        body = f"{ident}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Threading(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 256


class Forking(ForkingMixIn, HTTPServer):
    request_queue_size = 256
    max_children = 300


if __name__ == "__main__":
    port, model = int(sys.argv[1]), sys.argv[2]
    if model == "threading":
        calls.start_poller()
    {"threading": Threading, "forking": Forking}[model](("127.0.0.1", port), Handler).serve_forever()
