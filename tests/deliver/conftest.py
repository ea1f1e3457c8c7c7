"""The sender: tests/deliver/send.c, linked with the exporter without its main."""

import json
import os
import pathlib
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
LOST = ("dropped_queue", "dropped_refused", "dropped_partial", "dropped_expired", "dropped_shutdown", "unsampled")


def build_sender():
    build = BUILD if BUILD.is_absolute() else ROOT / BUILD
    sender = build / "tests/deliver/send"
    archive = f"{BUILD}/libexporter.a"
    subprocess.run(["make", "-s", f"BUILD={BUILD}", archive], cwd=ROOT, check=True, timeout=600)
    sender.parent.mkdir(parents=True, exist_ok=True)
    packages = ["libcurl", "libprotobuf-c", "libmicrohttpd", "libdw", "libelf", "jansson", "libevent_core", "zlib"]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", *packages], check=True, capture_output=True, text=True).stdout.split()
    subprocess.run(["cc", "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE", "-DOTSHIM_VERSION=\"0\"", "-Iinclude", "-Iexporter",
                    "tests/deliver/send.c", archive, *flags, "-lm", "-lpthread", "-ldl", "-o", str(sender)], cwd=ROOT, check=True, timeout=120)
    return sender


@pytest.fixture(scope="session")
def sender():
    given = os.environ.get("OTSHIM_TEST_SEND")  # one built elsewhere, under sanitizers for instance
    return given or build_sender()


class Sending:
    """A sender at work. result() waits for it and checks the books: every span has met one fate, every receipt was settled."""

    def __init__(self, sender, endpoint, spans, *burst, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OTSHIM_"))}
        clean.update({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20", **{k: str(v) for k, v in env.items()}})
        self.process = subprocess.Popen([sender, str(spans), *map(str, burst)], env=clean, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def result(self, timeout=30):
        try:
            out, self.log = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, self.log = self.process.communicate()
            raise AssertionError(f"the sender did not end:\n{self.log}") from None
        assert self.process.returncode == 0, self.log
        result = json.loads(out)
        result["log"] = self.log.splitlines()
        assert result["made"] == result["exported"] + sum(result[k] for k in LOST), result
        assert result["tail"] == result["made"], result
        return result


@pytest.fixture
def start(sender):
    started = []

    def run(endpoint, spans, *burst, **env):
        started.append(Sending(sender, endpoint, spans, *burst, **env))
        return started[-1]

    yield run
    for sending in started:
        if sending.process.poll() is None:
            sending.process.kill()
            sending.process.wait()


@pytest.fixture
def send(start):
    """Starts, waits, gives the result."""
    return lambda endpoint, spans, *burst, **env: start(endpoint, spans, *burst, **env).result()
