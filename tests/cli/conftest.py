"""The command line as a user has it: the real executable, its output, its exit status."""

import json
import signal
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

# Ignored signals are inherited (nohup, a background job of a shell), and a shell cannot trap them: the programs of these tests start
# with none ignored.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("OTSHIM_BUILD", os.environ.get("BUILD", "build"))
OTSHIM = BUILD / "otshim"
LIBRARY = BUILD / "libotshim.so"
TIMEOUT = 30


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OTSHIM_", "LC_", "XDG_")) and k not in ("LD_PRELOAD", "LANG", "NO_COLOR", "COLUMNS")}
    env["LC_ALL"] = "C.UTF-8"
    env.update(more)
    return env


def otshim(*args, env=None, **more):
    """Runs otshim and returns the completed process; output is text."""
    return subprocess.run([OTSHIM, *args], env=env or clean_environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False, **more)


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen within %d seconds" % seconds)


running = []


@pytest.fixture(autouse=True)
def nothing_stays():
    """What a failed test has left running is ended."""
    yield
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()
    running.clear()


class Exporter:
    """A running `otshim exporter` with a socket and an HTTP port of its own."""

    def __init__(self, directory, **env):
        self.directory = directory
        self.socket = str(directory / "otshim.sock")
        self.env = clean_environment(**{"OTSHIM_SOCKET": self.socket, "OTSHIM_HTTP": "127.0.0.1:0", **env})
        self.log = directory / "exporter.log"
        reader, writer = os.pipe()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([OTSHIM, "exporter", "--ready-fd", str(writer)], env=self.env, stderr=log, pass_fds=[writer])
        running.append(self.process)
        os.close(writer)
        with os.fdopen(reader) as ready:
            line = ready.readline()
        assert line, self.log.read_text()
        self.ready = json.loads(line)
        self.http = self.ready["http"]
        # what a client needs to find it
        self.env["OTSHIM_HTTP"] = self.http

    def get(self, path, method="GET", headers=None):
        """(status, headers, body)"""
        request = urllib.request.Request("http://" + self.http + path, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def json(self, path):
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def otshim(self, *args, **more):
        return otshim(*args, env={**self.env, **more})

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(TIMEOUT)


@pytest.fixture
def exporter(tmp_path):
    started = Exporter(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def quiet_env(tmp_path):
    """An environment in which no exporter runs."""
    return clean_environment(OTSHIM_SOCKET=str(tmp_path / "none.sock"), OTSHIM_HTTP="127.0.0.1:9")
