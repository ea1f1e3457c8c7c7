"""grpc_client.py PORT METHOD...   Calls each in turn, prints what came of it."""

import sys

import grpc

with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    for method in sys.argv[2:]:
        try:
            if method.endswith("/Count"):
                print([m.decode() for m in channel.unary_stream(method)(b"x")])
            else:
                print(channel.unary_unary(method)(b"hello").decode())
        except grpc.RpcError as e:
            print(e.code().name)
