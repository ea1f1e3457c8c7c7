"""What the library finds out about a runtime, as `otshim status`, `otshim doctor` and the exporter's log say it: of a real interpreter, and of
copies of it that are not what the library knows."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import LIBRARY, ROOT, clean_environment, running, wait_until
from producer import METHOD, TARGET, Process

sys.path.append(str(ROOT / "tests" / "storm"))
import pythons

UNKNOWN = [version for version in pythons.found() if not version.known]

# Debian's is one static executable: version and symbols are in that one file
PYTHON = Path(os.path.realpath("/usr/bin/python3"))

SERVER = """
import asyncio
async def handle(reader, writer):
    target = (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1]
    if target == b"/call":
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(b"GET /leaf HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        await r.read()
        w.close()
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    global port
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def serve(python, exporter):
    """Starts the server on that interpreter, lets it make a call, and returns its pid and the parent rule of the call."""
    if not LIBRARY.exists():
        pytest.skip("libotshim.so is not built")
    env = clean_environment(LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=exporter.socket, OTEL_SERVICE_NAME="aio")
    process = subprocess.Popen([python, "-c", SERVER], env=env, stdout=subprocess.PIPE, text=True)
    running.append(process)
    port = int(process.stdout.readline())
    assert urllib.request.urlopen("http://127.0.0.1:%d/call" % port, timeout=10).status == 200
    calls = wait_until(lambda: [s for t in exporter.json("/api/traces") for s in spans_of(exporter, t["traceId"])
                                if s["kind"] in (3, "SPAN_KIND_CLIENT") and s["name"] == "GET"])
    rules = [a["value"]["stringValue"] for a in calls[0]["attributes"] if a["key"] == "otshim.parent"]
    return process.pid, rules[0] if rules else "none"


def spans_of(exporter, trace_id):
    resources = exporter.json("/api/traces/" + trace_id)["resourceSpans"]
    return [span for r in resources for scope in r["scopeSpans"] for span in scope["spans"]]


def version_of(python):
    return subprocess.run([python, "-c", "import platform; print(platform.python_version())"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def patched(tmp_path, old, new):
    """A copy of the interpreter in which one string is another."""
    bytes_ = PYTHON.read_bytes()
    if bytes_.count(old) != 1:
        pytest.skip("%s does not have %r in one place" % (PYTHON, old))
    copy = tmp_path / PYTHON.name
    copy.write_bytes(bytes_.replace(old, new))
    copy.chmod(0o755)
    return copy


def reasons(exporter, target):
    report = json.loads(exporter.otshim("doctor", "--json", str(target), OTSHIM_EXCLUDE="").stdout)
    return {reason["code"]: reason for reason in report["reasons"]}


def runtimes(exporter, pid):
    status = json.loads(exporter.otshim("status", "--json").stdout)
    return [runtime for process in status["processes"] if process["pid"] == pid for runtime in process["runtimes"]]


def test_interpreter_that_is_known(exporter):
    version = version_of(PYTHON)
    pid, rule = serve(PYTHON, exporter)
    assert rule == "runtime"
    assert runtimes(exporter, pid) == [{"name": "CPython", "version": version, "exact": True, "whyNot": None}]
    assert re.search(r"^ +CPython %s: exact, by its own contexts$" % re.escape(version), exporter.otshim("status").stdout, re.M)
    assert reasons(exporter, pid)["runtime-exact"]["level"] == "good"
    assert "CPython" not in exporter.log.read_text()


def assert_not_exact(exporter, python, version, why):
    pid, rule = serve(python, exporter)
    assert rule == "none"
    assert runtimes(exporter, pid) == [{"name": "CPython", "version": version, "exact": False, "whyNot": why}]
    assert "CPython %s: not exact: %s; calls" % (version, why) in exporter.otshim("status").stdout
    reason = reasons(exporter, pid)["runtime-not-exact"]
    assert reason["level"] == "partly" and why in reason["text"] and "newer otshim" in reason["remedy"]
    lines = [line for line in exporter.log.read_text().splitlines() if "CPython" in line and "call sites" not in line]
    assert len(lines) == 1 and "aio (pid %d): CPython %s: its own contexts are not read: %s;" % (pid, version, why) in lines[0]


def test_interpreter_of_an_unknown_version(exporter, tmp_path):
    version = version_of(PYTHON)
    other = re.sub(r"^3\.\d+", lambda m: "3." + "9" * (len(m[0]) - 2), version)
    python = patched(tmp_path, b"\0" + version.encode() + b"\0", b"\0" + other.encode() + b"\0")
    assert_not_exact(exporter, python, other, "this version of Python is not known")


@pytest.mark.parametrize("version", UNKNOWN or [pytest.param(None, marks=pytest.mark.skip("there is no such Python"))], ids=lambda v: v and v.name)
def test_real_interpreter_that_is_not_known(exporter, version):
    why = "it is a free-threaded build" if version.name.endswith("t") else "this version of Python is not known"
    assert_not_exact(exporter, version.path, version_of(version.path), why)


def test_interpreter_that_lacks_a_function(exporter, tmp_path):
    """Stripped of a symbol that nothing but the library asks for."""
    version = version_of(PYTHON)
    python = patched(tmp_path, b"\0PyDescr_NewMethod\0", b"\0PyDescr_NewMethoX\0")
    assert_not_exact(exporter, python, version, "its C API lacks PyDescr_NewMethod")


@pytest.mark.parametrize("name, level, words", [
    ("python3.11", "note", "by the interpreter's own contexts"),
    ("python3.99", "partly", "contexts of this version are not read"),
    ("python3.7", "partly", "contexts of this version are not read"),
    ("python3.13t", "partly", "free-threaded"),
])
def test_interpreter_that_does_not_run_yet(exporter, tmp_path, name, level, words):
    """By its name, and by that of what a link leads to."""
    shutil.copy("/bin/true", tmp_path / name)
    (tmp_path / "python3").symlink_to(tmp_path / name)
    for target in (tmp_path / name, tmp_path / "python3"):
        reason = reasons(exporter, target)["runtime"]
        assert reason["level"] == level and words in reason["text"]


def test_texts_of_a_hostile_process(exporter):
    app = Process(exporter.socket)
    app.runtime(0, b"A\x1b[2Jname that ends with the field", b"1" * 40, b"x\n" * 92)
    app.runtime(1, b"Other", b"2.0")
    app.runtime(7, b"Other", b"2.0", b"it has changed its mind")
    app.span(0xF1, 1, attributes=[(METHOD, "GET"), (TARGET, "/")])
    found = wait_until(lambda: runtimes(exporter, os.getpid()))
    assert [(r["exact"], r["whyNot"] and r["whyNot"][:6]) for r in found] == [(False, "x\nx\nx\n"), (False, "it has")]
    assert len(found[0]["version"]) == 39 and len(found[0]["whyNot"]) == 183
    output = exporter.otshim("status").stdout
    assert "\x1b" not in output and "Other 2.0: not exact: it has changed its mind; calls" in output
    app.close()
