"""kill -9 of the program and of the exporter in mid-load: what was finished arrives.

A request counts as finished when its client has read the whole response: a traced server has then written its last byte, and the
span record is written in the same call. Only requests whose answer was never read may be missing."""

import http.client
import os
import signal
import threading
import time

import lab as laboratory
import pytest
import programs
import receiver

pytestmark = pytest.mark.skipif(laboratory.BARE, reason="needs the library")


class Load:
    """Clients in a loop, each on a connection of its own with requests of its own number, until told to stop. `answered` has the paths
    whose answer, the path in `form`, came in full."""

    def __init__(self, server, form="ok {}\n", clients=4):
        self.server, self.form = server, form
        self.answered, self.failed = set(), 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        sent = 0
        while not self.over.is_set():
            path = f"/leaf/{number}-{sent}"
            sent += 1
            try:
                connection.request("GET", path)
                complete = connection.getresponse().read() == self.form.format(path).encode()
            except (OSError, http.client.HTTPException):
                complete = False
                connection.close()
            with self.lock:
                if complete:
                    self.answered.add(path)
                else:
                    self.failed += 1
            time.sleep(0.001 if complete else 0.05)
        connection.close()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.answered


def served(spans, service):
    """The paths of complete server spans."""
    return [s.attributes["url.path"] for s in spans if s.service == service and s.kind == "SERVER" and not s.error]


def cut_off(spans, service):
    """The paths of those that were in flight when the program died."""
    return [s.attributes["url.path"] for s in spans if s.service == service and s.attributes.get("otshim.end") == "died"]


def await_paths(source, service, paths, seconds=15, killed_clients=0):
    """All of these requests have one span each. Where the program was killed, one request a client may have died between its last byte
    and its record: that one is there as cut off."""
    deadline = time.monotonic() + seconds
    while True:
        spans = source()
        got, died = served(spans, service), cut_off(spans, service)
        lost = paths - set(got) - set(died)
        if not lost or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert not lost, f"{len(lost)} of {len(paths)} finished requests were lost, such as {sorted(lost)[:5]}"
    assert len(paths & set(died)) <= killed_clients, "finished requests are shown as cut off"
    assert len(got) == len(set(got)), "a request has two spans"


PROGRAMS = {"c-threads": (programs.thread_server, "ok {}\n"), "node": (programs.node, "{}\n")}


@pytest.mark.parametrize("which", PROGRAMS)
def test_kill_the_program(lab, which):
    program, form = PROGRAMS[which]
    front = lab.start(program, "front")
    load = Load(front, form)
    time.sleep(1.0)
    front.tell(signal.SIGKILL)
    front.popen.wait()
    answered = load.stop()
    assert len(answered) > 100
    await_paths(lab.spans, "front", answered, killed_clients=4)


def test_kill_one_worker_of_gunicorn(lab):
    """The master starts another one; its spans and those of its predecessor arrive all."""
    front = lab.start(programs.gunicorn, "front", workers=1)
    for n in range(20):
        lab.get(front, f"/leaf/before-{n}")
    (worker,) = children_of(front.pid)
    time.sleep(0.2)  # the client has the last byte a moment before the worker has come back from write() and noted it
    os.kill(worker, signal.SIGKILL)
    laboratory.wait_for(lambda: children_of(front.pid) not in ([], [worker]), 10, "a new worker")
    for n in range(20):
        lab.get(front, f"/leaf/after-{n}")
    await_paths(lab.spans, "front", {f"/leaf/{when}-{n}" for when in ("before", "after") for n in range(20)})


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def test_request_in_flight_at_death_is_shown_and_marked(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.thread_server, "front")
    caller = threading.Thread(target=swallow, args=(lab, front, laboratory.fetch(leaf.url("/slow/1?ms=1500"))))
    caller.start()
    time.sleep(0.5)
    front.tell(signal.SIGKILL)
    caller.join()
    lab.expect(
        """
        front SERVER GET /fetch/1 ERROR process_died otshim.end=died
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/slow/1 ERROR process_died otshim.end=died
            leaf SERVER GET /slow/1 200
        """,
        show=["otshim.end"],
    )


def swallow(lab, server, path):
    try:
        lab.get(server, path)
    except (OSError, http.client.HTTPException):
        pass


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_restart_the_exporter(bench, way):
    """Twice in mid-load, by kill -9 or in order, with a backend behind it: nothing that was finished is lost. The program hands its ring
    to the successor when the heartbeat has been still for 3 seconds."""
    received = bench.deliver_to(receiver.GrpcReceiver())
    front = bench.start(programs.thread_server, "front")
    load = Load(front, clients=3)
    for _ in range(2):
        time.sleep(1.5)
        bench.exporter.stop(way)
        time.sleep(0.5)
        bench.start_exporter()
        time.sleep(4)
    answered = load.stop()
    assert load.failed == 0, "the program must not notice"
    assert len(answered) > 1000
    await_paths(received.spans, "front", answered)


def test_exporter_starts_late(bench):
    """The program first, with an exporter 3 seconds later."""
    front = bench.start(programs.thread_server, "front")
    for n in range(50):
        bench.get(front, f"/leaf/early-{n}")
    time.sleep(1.0)
    bench.start_exporter()
    deadline = time.monotonic() + 10
    paths = {f"/leaf/early-{n}" for n in range(50)}
    n = 0
    while paths - set(served(bench.spans(), "front")) and time.monotonic() < deadline:
        bench.get(front, f"/leaf/late-{n}")
        paths.add(f"/leaf/late-{n}")
        n += 1
        time.sleep(0.1)
    await_paths(bench.spans, "front", paths)


def test_backend_away_for_a_while(bench):
    """The backend is down while spans are made, and comes back on the same port."""
    first = receiver.GrpcReceiver()
    port = first.port
    received = bench.deliver_to(first)
    front = bench.start(programs.thread_server, "front")
    bench.get(front, "/leaf/before")
    await_paths(received.spans, "front", {"/leaf/before"})
    first.stop()
    during = {f"/leaf/during-{n}" for n in range(200)}
    for path in sorted(during):
        bench.get(front, path)
    time.sleep(3)
    second = receiver.GrpcReceiver(port)
    bench.receivers.append(second)
    await_paths(second.received.spans, "front", during, seconds=40)
