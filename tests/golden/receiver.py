"""Real OTLP receivers, made of the official protocol classes: gRPC, as Tempo takes it, and HTTP/protobuf.

Both keep what they were sent as OTLP/JSON, the form that tree.py reads. Span ids that came twice (a batch retried after its answer
was lost) are kept once."""

import base64
import gzip
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import tree


class Received:
    """What came so far; safe to read while it grows."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_id = {}
        self.requests = 0
        self.repeated = 0
        self.metadata = []

    def take(self, request, metadata):
        spans = tree.spans_of(with_hex_ids(MessageToDict(request, use_integers_for_enums=True)))
        with self.lock:
            self.requests += 1
            self.metadata.append(metadata)
            for span in spans:
                self.repeated += (span.trace_id, span.span_id) in self.by_id
                self.by_id[span.trace_id, span.span_id] = span

    def spans(self):
        with self.lock:
            return list(self.by_id.values())


def with_hex_ids(request):
    """protobuf's JSON mapping has bytes as base64; OTLP/JSON has ids as hexadecimal."""
    for resource_spans in request.get("resourceSpans", []):
        for scope_spans in resource_spans.get("scopeSpans", []):
            for span in scope_spans.get("spans", []):
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return request


class GrpcReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, port=0):
        self.received = Received()
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    protocol = "grpc"

    def Export(self, request, context):
        self.received.take(request, dict(context.invocation_metadata()))
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self):
        self.server.stop(grace=0).wait()


class HttpReceiver:
    def __init__(self):
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
                    self.send_error(404)
                    return
                received.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body), dict(self.headers))
                answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    protocol = "http/protobuf"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
