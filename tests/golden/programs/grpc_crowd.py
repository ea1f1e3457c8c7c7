"""grpc_crowd.py PORT THREADS CALLS   Threads that share one channel, each making so many calls. Prints how many were answered well."""

import sys
import threading

import grpc

port, threads, calls = sys.argv[1:]
good = [0] * int(threads)
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    echo = channel.unary_unary("/shop.Cart/Echo")

    def work(mine):
        for number in range(int(calls)):
            request = b"%d" % number * (number % 700)
            good[mine] += echo(request, timeout=20) == request

    crowd = [threading.Thread(target=work, args=(mine,)) for mine in range(int(threads))]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
print(sum(good))
