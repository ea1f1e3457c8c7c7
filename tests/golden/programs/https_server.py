"""An https server on threads, standard library only. /leaf/ID answers; /fetch/ID asks NEXT_URL first; /echo answers with the traceparent that came.

    https_server.py PORT CERTIFICATE KEY"""

import os
import ssl
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        text = f"ok {self.path}\n"
        if self.path.startswith("/fetch/"):
            with urllib.request.urlopen(os.environ["NEXT_URL"] + "/leaf/" + self.path.split("/")[2], timeout=20) as answer:
                text += answer.read().decode()
        elif self.path == "/echo":
            text = str(self.headers.get_all("traceparent"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


port, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
