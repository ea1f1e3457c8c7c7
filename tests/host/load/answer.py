"""Answers each request on a port of its own with the names of its header lines: what did the peer see? Prints the port first."""
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("traceparent" if self.headers.get("traceparent") else "none", flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
