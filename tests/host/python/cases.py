"""What may happen to an interpreter that is watched: one case a run, which serves requests, makes calls meanwhile, and ends as the case will have it.

    cases.py                the names of the cases
    cases.py NAME           status 0 and "done" if all went as it should

Each has a server on asyncio's loop or on threads whose handlers call another server in the same process, so that contexts are set, read and
inherited while the thing happens."""

import asyncio
import gc
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn


class Handler(BaseHTTPRequestHandler):
    """/ answers; /call first asks the same server for /."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        body = b"ok"
        if self.path == "/call":
            body = fetch(self.server.server_port)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients that end in the middle are what some cases are about


def fetch(port, path="/"):
    # not urllib, which reads certificates for every opener: OpenSSL's own clean-up at exit() does not bear that in a daemon thread
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


class PlainServer(HTTPServer):
    request_queue_size = 64
    handle_error = Server.handle_error


def serve_on(count):
    """So many requests at a time, and no thread is started for one: a thread that is started while the interpreter ends may crash it (3.11 does
    once in a hundred times, without us, too)."""
    server = PlainServer(("127.0.0.1", 0), Handler)
    for _ in range(count):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def serve():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.endswith(b"ok"), answer


async def with_front(port, drive, meanwhile=None):
    """A server on the loop whose handler awaits `meanwhile` between reading and calling; drive(port of the front)."""
    held, failures = set(), []

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if meanwhile is not None:
            await meanwhile()
        await asyncio.gather(ask(port), ask(port))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    async def handle(reader, writer):
        held.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        except Exception as e:
            failures.append(e)
        writer.close()
        held.discard(asyncio.current_task())

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        await drive(server.sockets[0].getsockname()[1])
    except AssertionError:
        if not failures:
            raise
    server.close()
    if failures:
        raise failures[0]


def loop_of_requests(port, count, meanwhile=None):
    async def drive(front):
        for _ in range(count):
            await asyncio.gather(ask(front), ask(front), ask(front))

    asyncio.run(with_front(port, drive, meanwhile))


# ---- the cases


def start():
    """A whole life, with the modules that call out."""
    port = serve()
    fetch(port, "/call")
    loop_of_requests(port, 2)


def daemons():
    """The interpreter ends while daemon threads serve and call, some from event loops of their own."""
    port = serve_on(8)

    def calls():
        while True:
            fetch(port, "/call")

    def loop():
        while True:
            loop_of_requests(port, 1)

    def quietly(target):
        try:
            target()
        except BaseException:
            pass  # the interpreter is being taken down

    for target in (calls, calls, loop, loop):
        threading.Thread(target=quietly, args=(target,), daemon=True).start()
    time.sleep(0.15)
    loop_of_requests(port, 2)


def fork():
    """A handler forks: one child ends at once, one makes a call of its own first, one starts another program."""
    port = serve()

    async def meanwhile():
        for what in ("end", "call", "exec"):
            child = os.fork()
            if child == 0:
                try:
                    if what == "call":
                        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
                            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                            assert s.makefile("rb").read().endswith(b"ok")
                    elif what == "exec":
                        os.execv("/bin/true", ["true"])
                    os._exit(0)
                finally:
                    os._exit(1)
            pid, status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, child, 0)
            assert (pid, status) == (child, 0), (what, status)
        subprocess.run(["/bin/true"], check=True)

    loop_of_requests(port, 2, meanwhile)


def forked_servers():
    """multiprocessing's workers, forked by a thread that works for a request, call out and run loops themselves."""
    import multiprocessing

    port = serve()
    context = multiprocessing.get_context("fork")

    async def meanwhile():
        worker = context.Process(target=loop_of_requests, args=(port, 1))
        worker.start()
        await asyncio.get_running_loop().run_in_executor(None, worker.join)
        assert worker.exitcode == 0, worker.exitcode

    loop_of_requests(port, 1, meanwhile)


SUB = """
import socket, contextvars
def call():
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as s:
        s.sendall(b"GET /call HTTP/1.0\\r\\n\\r\\n")
        assert s.makefile("rb").read().endswith(b"ok")
call()
contextvars.copy_context().run(call)
"""

SUB_LOOP = SUB + """
import asyncio
async def ask():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    assert (await reader.read()).endswith(b"ok")
    writer.close()
async def main():
    await asyncio.gather(ask(), ask())
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


def subinterpreters():
    """They call out, before, between and while the main one does. Loops of their own only from 3.13 on: before, asyncio's C module is shared by all
    interpreters, and they crash or lock without us as with us."""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    port = serve()
    refused = "does not support loading in subinterpreters"  # some modules, in some versions; that is not what is tried here

    def one(code=SUB_LOOP if sys.version_info >= (3, 13) else SUB):
        interpreter = interpreters.create()
        try:
            failed = interpreters.run_string(interpreter, code.replace("PORT", str(port)))
        except Exception as e:
            failed = e
        assert failed is None or refused in str(failed), failed
        interpreters.destroy(interpreter)

    one()
    loop_of_requests(port, 1)
    one()

    async def meanwhile():
        await asyncio.get_running_loop().run_in_executor(None, one)
        one(SUB)  # on the very thread whose loop is running

    loop_of_requests(port, 1, meanwhile)


def signals():
    """A handler that calls out itself, every few milliseconds, wherever the main thread is."""
    port = serve()
    calls = [0]

    def handler(number, frame):
        if calls[0] % 4 == 0:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                s.recv(100)
        calls[0] += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    loop_of_requests(port, 8)
    for _ in range(10):
        fetch(port, "/call")
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert calls[0] > 3


def threads():
    """Loops in many threads, started and ended, while garbage is collected all the time."""
    port = serve()
    gc.set_threshold(5, 2, 2)
    failures = []

    def run():
        try:
            loop_of_requests(port, 2)
        except Exception as e:
            failures.append(e)

    started = [threading.Thread(target=run) for _ in range(6)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not failures, failures


def killed():
    """Ends by a signal in the middle of it all; the parent looks at how."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        daemons_forever()
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM


def daemons_forever():
    port = serve_on(4)
    while True:
        loop_of_requests(port, 1)


def exits():
    """os._exit and sys.exit in a thread, with a loop running in the main one."""
    port = serve_on(4)
    child = os.fork()
    if child == 0:
        timer = threading.Timer(0.1, os._exit, (7,))
        timer.start()
        while True:
            loop_of_requests(port, 1)
    assert os.waitpid(child, 0)[1] >> 8 == 7


def greenlets():
    """gevent: a server and calls in greenlets, which switch in the middle of everything."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from gevent.pywsgi import WSGIServer

    def app(environ, respond):
        respond("200 OK", [("Content-Length", "2")])
        if environ["PATH_INFO"] == "/call":
            job = gevent.spawn(fetch, server.server_port)
            assert fetch(server.server_port) == b"ok"
            job.join()
        return [b"ok"]

    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    for _ in range(3):
        jobs = [gevent.spawn(fetch, server.server_port, "/call") for _ in range(8)]
        gevent.joinall(jobs, raise_error=True)
    server.stop()


CASES = {case.__name__: case for case in (start, daemons, fork, forked_servers, subinterpreters, signals, threads, killed, exits, greenlets)}
LACKING = 77  # status: what the case needs is not there

if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("\n".join(CASES))
    else:
        try:
            CASES[sys.argv[1]]()
        except ModuleNotFoundError as e:
            print(e)
            sys.exit(LACKING)
        print("done")
