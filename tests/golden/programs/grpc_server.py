"""gRPC without generated code: /shop.Cart/Echo, /shop.Cart/Fail (NOT_FOUND), /shop.Cart/Count (a stream of three).

    grpc_server.py PORT"""

import sys
from concurrent import futures

import grpc


def echo(request, context):
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such cart")


def count(request, context):
    for number in range(3):
        yield b"%d" % number


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/shop.Cart/Echo": grpc.unary_unary_rpc_method_handler(echo),
            "/shop.Cart/Fail": grpc.unary_unary_rpc_method_handler(fail),
            "/shop.Cart/Count": grpc.unary_stream_rpc_method_handler(count),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
