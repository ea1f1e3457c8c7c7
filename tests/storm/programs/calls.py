"""The ways in which the storm's synchronous Python servers call the leaf. work(kind, ident, calls, ms) makes the calls of one request,
each after a sleep of up to ms milliseconds, and fails if one of them does.

    close    a connection for each call (urllib)
    kept     a connection that the thread keeps (http.client)
    session  requests.Session, one for all threads: its pool's connections go from thread to thread
    pool     each call on a thread of an executor that all requests share
    process  each call in a process of a pool, whose workers are forked inside a request
    spawned  the same, with workers that are new programs (multiprocessing's spawn)
    thread   each call on a threading.Thread started for it
    green    each call by a greenlet that is spawned for it (gevent)
    late     the calls are made by a thread that goes on after the response
    queue    each call by a worker thread that takes it from a queue.Queue; the workers are started by requests, when there are too few
    simple   ... from a queue.SimpleQueue
    hand     ... from a list with a lock, or with a condition, from a deque, or through a pipe
    dummy    each call by a multiprocessing.pool.ThreadPool that a request started
    spawn    each call by a curl that is started for it"""

import collections
import http.client
import multiprocessing
import multiprocessing.pool
import os
import queue
import random
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

LEAF_PORT = int(os.environ["LEAF_PORT"])
LEAF = os.environ.get("LEAF_SCHEME", "http") + f"://127.0.0.1:{LEAF_PORT}"

executor = ThreadPoolExecutor(8)
processes = {}
# A process that is forked in the middle of subprocess.Popen would keep that one's pipes open for ever.
fork_lock = threading.Lock()
mine = threading.local()
session = None


def parse(target):
    """(kind, ident, calls, ms) of /kind/ident?calls=N&ms=N"""
    parts = urlsplit(target)
    kind, ident = parts.path.lstrip("/").split("/")[:2]
    query = parse_qs(parts.query)
    return kind, ident, int(query["calls"][0]), int(query["ms"][0])


def nap(ms):
    time.sleep(random.random() * ms / 1000)


def check(text, path):
    if text.strip() != path:
        raise RuntimeError(f"asked for {path}, got {text!r}")


def close(path, ms):
    with urllib.request.urlopen(f"{LEAF}{path}?ms={ms}", timeout=20) as answer:
        check(answer.read().decode(), path)


def kept(path, ms):
    if not hasattr(mine, "connection"):
        mine.connection = http.client.HTTPConnection("127.0.0.1", LEAF_PORT, timeout=20)
    mine.connection.request("GET", f"{path}?ms={ms}")
    check(mine.connection.getresponse().read().decode(), path)


def pooled(path, ms):
    global session
    if session is None:
        import requests

        made = requests.Session()
        made.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=8, pool_block=False))
        session = made
    check(session.get(f"{LEAF}{path}?ms={ms}", timeout=20).text, path)


def pool(path, ms):
    executor.submit(close, path, ms).result()


def in_process(start, path, ms):
    with fork_lock:
        if start not in processes:
            processes[start] = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(start))
        future = processes[start].submit(close, path, ms)
    future.result()


def process(path, ms):
    in_process("fork", path, ms)


def spawned(path, ms):
    in_process("spawn", path, ms)


def thread(path, ms):
    failures = []

    def run():
        try:
            close(path, ms)
        except Exception as e:
            failures.append(e)

    started = threading.Thread(target=run)
    started.start()
    started.join()
    if failures:
        raise failures[0]


def green(path, ms):
    import gevent

    gevent.spawn(close, path, ms).get()


class List:
    """A queue such as people make for themselves: takers look at it now and then."""

    def __init__(self):
        self.items, self.lock = [], threading.Lock()

    def put(self, item):
        with self.lock:
            self.items.append(item)

    def get(self):
        while True:
            with self.lock:
                if self.items:
                    return self.items.pop(0)
            time.sleep(0.001)


class Waited(List):
    """... or wait for it."""

    def __init__(self):
        self.items, self.filled = [], threading.Condition()

    def put(self, item):
        with self.filled:
            self.items.append(item)
            self.filled.notify()

    def get(self):
        with self.filled:
            while not self.items:
                self.filled.wait()
            return self.items.pop(0)


class Polled:
    """... or need no lock, since a deque has its own."""

    def __init__(self):
        self.items = collections.deque()
        self.put = self.items.append

    def get(self):
        while True:
            try:
                return self.items.popleft()
            except IndexError:
                time.sleep(0.001)


class Piped:
    """A multiprocessing queue, which is a pipe; what goes through it must be small."""

    def __init__(self):
        self.queue, self.items = multiprocessing.SimpleQueue(), {}

    def put(self, item):
        self.items[id(item)] = item
        self.queue.put(id(item))

    def get(self):
        return self.items.pop(self.queue.get())


class Workers:
    """Up to eight threads, each started by some request and gone after some calls. They take nothing but what is in the queue: no lock of their own
    would give them away."""

    def __init__(self, calls):
        self.calls, self.lock, self.started, self.gone = calls, threading.Lock(), 0, []

    def run(self):
        for _ in range(20):
            path, ms, results = self.calls.get()
            try:
                close(path, ms)
                results.append(None)
            except Exception as e:
                results.append(e)
        self.gone.append(self)

    def start_some(self, chance):
        with self.lock:
            alive = self.started - len(self.gone)
            more = alive == 0 or (alive < 8 and random.random() < chance)
            self.started += more
        if more:
            threading.Thread(target=self.run, daemon=True).start()

    def call(self, path, ms):
        results = []
        self.start_some(0.2)
        self.calls.put((path, ms, results))
        while not results:
            time.sleep(0.0005)
            self.start_some(0)
        if results[0] is not None:
            raise results[0]


workers = {"queue": Workers(queue.Queue()), "simple": Workers(queue.SimpleQueue()), "list": Workers(List()), "waited": Workers(Waited()),
           "polled": Workers(Polled()), "piped": Workers(Piped())}
dummies = []


ways_by_hand = ["list", "waited", "polled"]
if not socket.socket.__module__.startswith("gevent"):  # there the pipe would block all
    ways_by_hand.append("piped")


def hand(path, ms):
    workers[random.choice(ways_by_hand)].call(path, ms)


def dummy(path, ms):
    with fork_lock:
        if not dummies:
            dummies.append(multiprocessing.pool.ThreadPool(4))
    dummies[0].apply(close, (path, ms))


def spawn(path, ms):
    with fork_lock:
        curl = subprocess.Popen(["curl", "-sS", f"{LEAF}{path}?ms={ms}"], stdout=subprocess.PIPE, text=True)
    check(curl.communicate()[0], path)


WAYS = {"close": close, "kept": kept, "session": pooled, "pool": pool, "process": process, "spawned": spawned, "thread": thread, "spawn": spawn, "green": green,
        "queue": workers["queue"].call, "simple": workers["simple"].call, "hand": hand, "dummy": dummy}


def all_calls(way, ident, calls, ms):
    for number in range(calls):
        nap(ms)
        WAYS[way](f"/{ident}/{number}", ms)


def work(kind, ident, calls, ms):
    if kind == "late":
        threading.Thread(target=all_calls, args=("close", ident, calls, ms)).start()
    else:
        all_calls(kind, ident, calls, ms)


def poll():
    """Calls that no request asked for: each is a root."""
    for number in range(1_000_000):
        time.sleep(0.02)
        try:
            close(f"/p{number:06}/0", 1)
        except OSError:
            pass


def start_poller():
    threading.Thread(target=poll, daemon=True).start()
