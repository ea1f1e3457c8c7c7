"""Python: slow and failed calls say which function of the program made them, in Python's own terms; and nothing that is not certain."""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import lab as laboratory
import programs
import pytest

VERSIONS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
ATTRIBUTES = ["code.function.name", "code.file.path", "code.line.number"]
SLOW = "/slow/1?ms=150"


def interpreter(version):
    """The system's, one that is on the PATH, or one of pyenv's."""
    system = Path(os.path.realpath(programs.SYSTEM_PYTHON))
    if system.name == f"python{version}":
        return system
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
    on_path = shutil.which(f"python{version}")
    if on_path and os.access(on_path, os.X_OK) and "shims" not in on_path:
        return Path(on_path)
    return found[-1] if found else pytest.skip(f"Python {version} is not installed")


def stdlib_server(lab, name, port, python=programs.SYSTEM_PYTHON):
    return [python, laboratory.PROGRAMS / "sites_server.py", port]


def fastapi(lab, name, port, loop="asyncio"):
    return [programs.VENV / "python", laboratory.PROGRAMS / "sites_app.py", port, loop]


def line_of(program, text):
    lines = (laboratory.PROGRAMS / program).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def site(program, function, text=None):
    return [function, str(laboratory.PROGRAMS / program), line_of(program, text or f"# here: {function}")]


def ask(lab, front, kind, url):
    """The span of the call to this URL, or that of the connection where there was none; None without the library."""
    lab.get(front, f"/{kind}?url={quote(url, safe='')}")
    if laboratory.BARE:
        return None

    def made():
        spans = [s for s in lab.spans() if s.service == "front"]
        if not any(s.kind == "SERVER" for s in spans):
            return None
        return [s for s in spans if s.attributes.get("url.full") == url] or [s for s in spans if s.name == "tcp.connect" and s.error]

    return laboratory.wait_for(made, 10, "the span")[-1]


def told(span):
    return [span.attributes.get(name) for name in ATTRIBUTES]


def frames(span):
    """[(file, line, function)] of the stack, the most recent call last."""
    lines = span.attributes["code.stacktrace"].split("\n")
    frame = re.compile(r'  File "([^"]+)", line (\d+), in (\S+)')
    for line in lines:
        assert frame.fullmatch(line) or re.fullmatch(r"  \[\d+ (inner|outer) frames? left out\]", line), line
    return [(m[1], int(m[2]), m[3]) for m in map(frame.fullmatch, lines) if m]


# ---- FastAPI


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind, function", [("httpx", "Upstream.fetch"), ("aiohttp", "by_aiohttp"), ("sync", "fetch_blocking")])
def test_fastapi(lab, loop, kind, function):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    span = ask(lab, lab.start(fastapi, "front", loop=loop), kind, leaf.url(SLOW))
    if not span:
        return
    assert told(span) == site("sites_app.py", function)
    stack = frames(span)
    assert (told(span)[1], told(span)[2], function) in stack
    callers = {"httpx": "by_httpx", "aiohttp": "run_endpoint_function", "sync": "sync_endpoint"}
    assert [f[2] for f in stack].index(callers[kind]) < [f[2] for f in stack].index(function)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["gather", "handed_over"])
def test_nobody_but_the_main_program_is_on_the_stack(lab, loop, kind):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    span = ask(lab, lab.start(fastapi, "front", loop=loop), kind, leaf.url(SLOW))
    if not span:
        return
    assert told(span) == [None, None, None]
    assert all("/site-packages/" in f[0] or "/lib/python3" in f[0] for f in frames(span))


def test_refused(lab):
    span = ask(lab, lab.start(fastapi, "front"), "refused", f"http://127.0.0.1:{laboratory.free_port()}/")
    if span:
        assert told(span) == site("sites_app.py", "fetch_blocking")
        assert span.attributes["error.type"] == "ECONNREFUSED"


def test_quick_call_has_none(lab):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    span = ask(lab, lab.start(fastapi, "front"), "httpx", leaf.url("/leaf/1"))
    if span:
        assert not [name for name in span.attributes if name.startswith("code.")]


# ---- the standard library, in every version


@pytest.mark.parametrize("version", VERSIONS)
def test_versions(lab, version):
    python = interpreter(version)
    qualified = version not in ("3.8", "3.9", "3.10")  # a code object knows its qualified name from 3.11 on
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    expected = {
        "streams": site("sites_server.py", "Streams.ask"),
        "thread": site("sites_server.py", "ask_blocking", "return urllib.request.urlopen("),
    }
    front = lab.start(stdlib_server, "front", python=python)
    for kind, wanted in expected.items():
        span = ask(lab, front, kind, leaf.url(f"/slow/{kind}?ms=150"))
        if span:
            wanted[0] = wanted[0] if qualified else wanted[0].split(".")[-1]
            assert told(span) == wanted
            assert (wanted[1], wanted[2], wanted[0]) in frames(span)


@pytest.mark.parametrize("version", VERSIONS)
def test_refused_versions(lab, version):
    front = lab.start(stdlib_server, "front", python=interpreter(version))
    span = ask(lab, front, "refused", f"http://127.0.0.1:{laboratory.free_port()}/")
    if span:
        assert told(span) == site("sites_server.py", "connect")


# ---- nothing false


@pytest.mark.parametrize("version", VERSIONS)
def test_event_loop_is_no_call_site(lab, version):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(stdlib_server, "front", python=interpreter(version))
    span = ask(lab, front, "handed_over", leaf.url(SLOW))
    if span:
        assert told(span) == [None, None, None]
        assert "sites_server.py" not in span.attributes["code.stacktrace"]


@pytest.mark.parametrize("version", VERSIONS)
def test_code_that_is_gone_is_not_told(lab, version):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(stdlib_server, "front", python=interpreter(version))
    span = ask(lab, front, "vanished", leaf.url(SLOW))
    if span:
        assert told(span) == [None, None, None]
        assert not re.search("impostor|ghost|vanished", span.attributes.get("code.stacktrace", ""))


@pytest.mark.parametrize("claimed", ["3.9.18", "3.12.1", "3.13.0", "3.14.0"])
def test_layout_that_does_not_fit(lab, claimed):
    """A copy of the interpreter that says it is another version: its frames are not where that one has them."""
    python = Path(os.path.realpath(programs.SYSTEM_PYTHON))
    version = re.search(rb"\0(3\.\d+\.\d+)\0", python.read_bytes())
    if not version or len(version[1]) != len(claimed) or python.read_bytes().count(version[0]) != 1:
        pytest.skip(f"the version in {python} is not in one place, or not as long as {claimed}")
    copy = lab.directory / python.name
    copy.write_bytes(python.read_bytes().replace(version[0], b"\0" + claimed.encode() + b"\0"))
    shutil.copymode(python, copy)
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(stdlib_server, "front", python=copy, env={"PYTHONHOME": "/usr", "PYTHONPATH": f"/usr/lib/{python.name}"})
    for n in range(10):  # where it looks for the frames there may be nothing, which it believes for a while
        span = ask(lab, front, "streams", leaf.url(f"/slow/{n}?ms=150"))
        if span:
            assert told(span) == [None, None, None]
            assert "File" not in span.attributes.get("code.stacktrace", "")
    if not laboratory.BARE:
        laboratory.wait_for(lambda: "CPython: no call sites in its own terms" in lab.exporter.tail(), 5, "a line in the log")


def test_off(lab):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(stdlib_server, "front", env={"OTSHIM_STACK_THRESHOLD": "off"})
    span = ask(lab, front, "streams", leaf.url(SLOW))
    if span:
        assert not [name for name in span.attributes if name.startswith("code.")]
