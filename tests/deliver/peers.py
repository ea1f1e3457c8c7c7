"""Backends to deliver to: real servers that misbehave by script.

Each peer has a script, a list of behaviours, one a request (for RawPeer: one a connection); when it is used up the peer behaves well.
Requests are decoded with the official protocol classes and kept.
"""

import email.utils
import gzip
import json
import socket
import struct
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Inbox:
    """What arrived: every request, and of the accepted ones every span."""

    def __init__(self, script=()):
        self.script = list(script)
        self.requests = []  # (time, ExportTraceServiceRequest, metadata)
        self.spans = []  # accepted: (resource attributes, span)
        self.peers = set()
        self.lock = threading.Lock()

    def next(self, request, metadata, peer):
        with self.lock:
            self.requests.append((time.monotonic(), request, metadata))
            self.peers.add(peer)
            return self.script.pop(0) if self.script else None

    def accept(self, request):
        with self.lock:
            for resource_spans in request.resource_spans:
                resource = {a.key: a.value for a in resource_spans.resource.attributes}
                for scope_spans in resource_spans.scope_spans:
                    self.spans += [(resource, span) for span in scope_spans.spans]

    def span_ids(self):
        return [span.span_id for _, span in self.spans]

    def gaps(self):
        times = [when for when, _, _ in self.requests]
        return [b - a for a, b in zip(times, times[1:])]


# ---- gRPC ----


def retry_info(seconds, nanos=0):
    """google.rpc.Status with RetryInfo, by hand: no dependency on googleapis for three fields."""

    def field(number, payload):
        return bytes([number << 3 | 2, len(payload)]) + payload

    duration = b"\x08" + bytes([seconds]) + (b"\x10" + varint(nanos) if nanos else b"")
    any_message = field(1, b"type.googleapis.com/google.rpc.RetryInfo") + field(2, field(1, duration))
    return b"\x08\x08" + field(2, b"slow down") + field(3, any_message)


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


class GrpcPeer(Inbox):
    """Behaviours: a grpc.StatusCode; (code, message); (code, message, details bytes); an Export*Response; a number: seconds to sleep."""

    def __init__(self, script=(), port=0, compression=None, credentials=None):
        super().__init__(script)
        self.server = grpc.server(
            futures.ThreadPoolExecutor(8), compression=compression, options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(
            self.export,
            request_deserializer=service.ExportTraceServiceRequest.FromString,
            response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString())
        path = METHOD.rsplit("/", 1)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(path[0][1:], {path[1]: handler}),))
        address = f"127.0.0.1:{port}"
        self.port = (self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address))
        self.server.start()

    def export(self, request, context):
        todo = self.next(request, dict(context.invocation_metadata()), context.peer())
        if isinstance(todo, (int, float)):
            time.sleep(todo)
            todo = None
        if isinstance(todo, grpc.StatusCode):
            todo = (todo, "as the script says")
        if isinstance(todo, tuple):
            if len(todo) > 2:
                context.set_trailing_metadata((("grpc-status-details-bin", todo[2]),))
            context.abort(todo[0], todo[1])
        self.accept(request)
        return service.ExportTraceServiceResponse() if todo is None else todo

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(0.2).wait(5)


# ---- HTTP ----


class HttpPeer(Inbox):
    """Behaviours: a status; (status, headers, body); "close": no answer; a number with a fraction: seconds to sleep."""

    def __init__(self, script=(), port=0):
        super().__init__(script)
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = service.ExportTraceServiceRequest.FromString(body)
                peer.paths.append(self.path)
                self.act(request, peer.next(request, dict(self.headers), self.client_address))

            def act(self, request, todo):
                if todo == "close":
                    self.close_connection = True
                    return
                if isinstance(todo, float):
                    time.sleep(todo)
                    todo = None
                if isinstance(todo, int):
                    todo = (todo, {}, b"")
                status, headers, answer = todo or (200, {"Content-Type": "application/x-protobuf"}, b"")
                if status == 200:
                    peer.accept(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.paths = []
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def partial(rejected, message):
    answer = service.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return answer


def partial_json(rejected, message):
    return json.dumps({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}}).encode()


def http_date(seconds_from_now):
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)


# ---- below the protocols ----


class RawPeer:
    """A TCP listener. Behaviours are functions of the accepted socket; when the script is used up, connections go to `onward`."""

    def __init__(self, script, onward=None):
        self.script = list(script)
        self.onward = onward
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            todo = self.script.pop(0) if self.script else None
            threading.Thread(target=self.act, args=(connection, todo), daemon=True).start()

    def act(self, connection, todo):
        try:
            if todo:
                todo(connection)
            elif self.onward:
                self.forward(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def forward(self, connection):
        with socket.create_connection(("127.0.0.1", self.onward)) as target:
            back = threading.Thread(target=pipe, args=(target, connection), daemon=True)
            back.start()
            pipe(connection, target)
            back.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pipe(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def garbage(connection):
    connection.recv(100)
    connection.sendall(bytes(range(256)) * 20)
    time.sleep(0.1)


def close_at_once(_):
    pass


def reset(connection):
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def http1_only(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    time.sleep(0.1)


# HTTP/2 by hand, as far as it takes to answer one request in ways that no server library allows (RFC 9113, RFC 7541).


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(headers):
    """Literals without indexing, without Huffman coding; lengths with seven-bit prefixes."""

    def text(value):
        raw = value.encode()
        return (bytes([len(raw)]) if len(raw) < 127 else b"\x7f" + varint(len(raw) - 127)) + raw

    return b"".join(b"\x00" + text(name) + text(value) for name, value in headers)


def read_exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def http2(*answer, then_close=True):
    """A behaviour: reads one request to its end, then sends the frames. Window updates keep the client sending."""

    def act(connection):
        read_exactly(connection, 24)
        connection.sendall(frame(4, 0, 0) + frame(8, 0, 0, struct.pack(">I", 1 << 30)))
        while True:
            size, kind, flags, stream = struct.unpack(">IBBI", b"\0" + read_exactly(connection, 9))
            read_exactly(connection, size)
            if kind == 4 and not flags & 1:
                connection.sendall(frame(4, 1, 0))
            if kind == 1:
                connection.sendall(frame(8, 0, stream, struct.pack(">I", 1 << 30)))
            if kind == 0 and flags & 1:
                break
        for kind, flags, payload in answer:
            connection.sendall(frame(kind, flags, 0 if kind == 7 else stream, payload))
        if not then_close:
            time.sleep(30)
        time.sleep(0.1)

    return act


def headers(*pairs, end=True):
    return (1, 4 | (1 if end else 0), header_block(pairs))


def data(payload, end=False):
    return (0, 1 if end else 0, payload)


def rst_stream(code):
    return (3, 0, struct.pack(">I", code))


def goaway(code):
    return (7, 0, struct.pack(">II", 0, code))
