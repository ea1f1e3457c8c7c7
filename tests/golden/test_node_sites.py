"""Node.js: slow and failed calls say which function of the program made them, from the second one to a destination on."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import lab as laboratory
import programs
import pytest
from test_python_sites import line_of, told

LIBRARY = """
const http = require('http');
exports.byGet = function byGet(url) {
  return new Promise((resolve, reject) => {
    http.get(url, (answer) => { answer.resume().on('end', resolve); }).on('error', reject);
  });
};
exports.later = function later(url) { setTimeout(() => { exports.byGet(url).catch(() => {}); }, 1); };
"""


def packages(name):
    directory = laboratory.BUILD / "storm-node"
    if not (directory / "node_modules" / name).exists():
        pytest.skip(f"the package {name} is not in {directory} (tests/deps.sh storm)")
    return directory


def server(lab, name, port, own="", file=None, npm=""):
    library = lab.directory / "node_modules" / "library"
    library.mkdir(parents=True, exist_ok=True)
    (library / "index.js").write_text(LIBRARY)
    return [programs.need("node"), file or laboratory.PROGRAMS / "sites_server.mjs", port, library, own, npm]


def spans_of(lab, front, kind, url, times):
    """The spans of calls to this URL, in their order, or of the connections where there was none."""
    answers = [lab.get(front, f"/{kind}?url={quote(url, safe='')}") for _ in range(times)]
    if laboratory.BARE:
        return None, answers

    def made():
        spans = [s for s in lab.spans() if s.service == "front"]
        calls = [s for s in spans if s.attributes.get("url.full") == url] or [s for s in spans if s.name == "tcp.connect" and s.error]
        return sorted(calls, key=lambda s: s.start) if len(calls) >= times else None

    return laboratory.wait_for(made, 10, "the spans"), answers


def site(function, line, program="sites_server.mjs"):
    return [function, str(laboratory.PROGRAMS / program), line_of(program, line)]


SITES = {
    "get": site("byGet", "// here: byGet"),
    "nameless": [None, *site("", "// here: nameless")[1:]],
    "fetch": site("Upstream.ask", "// here: Upstream.ask"),
    "posts": site("posts", "// here: posts"),
    "waits": site("waits", "// here: waits"),
}


def check(span, expected):
    assert told(span) == expected
    stack = span.attributes["code.stacktrace"].split("\n")
    assert all(text.startswith("    at ") for text in stack)
    assert any(f"{expected[1]}:{expected[2]}:" in text for text in stack)
    assert not any(re.search(r"(\(| )(node|otshim):", text) for text in stack)
    return stack


@pytest.mark.parametrize("kind", SITES)
def test_slow(lab, kind):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    spans, _ = spans_of(lab, lab.start(server, "front"), kind, leaf.url("/slow/1?ms=150"), 3)
    if not spans:
        return
    assert told(spans[0]) == [None, None, None]
    assert "code.stacktrace" not in spans[0].attributes
    for span in spans[1:]:
        stack = check(span, SITES[kind])
        if kind == "waits":
            assert "/node_modules/library/" in stack[0]
        if kind in ("fetch", "posts"):
            assert stack[-1].startswith("    at async ") and "sites_server.mjs" in stack[-1]


def test_axios(lab):
    front = lab.start(server, "front", npm=packages("axios"))
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    spans, _ = spans_of(lab, front, "axios", leaf.url("/slow/1?ms=150"), 2)
    if spans:
        check(spans[1], site("byAxios", "// here: byAxios"))


def test_who_waits_in_undicis_pool(lab):
    """Is written when the one before it is answered: not by that one's function."""
    front = lab.start(server, "front", npm=packages("undici"))
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    url = leaf.url("/slow/1?ms=150")
    spans_of(lab, front, "both", url, 4)
    if laboratory.BARE:
        return
    told_of = {"": set(), "&behind": set()}
    for span in lab.spans():
        which = span.attributes.get("url.full", "").removeprefix(url)
        if span.kind == "CLIENT" and which in told_of:
            told_of[which].add(tuple(told(span)))
    nobody = (None, None, None)
    assert told_of == {"": {nobody, tuple(site("inLine", "// here: inLine"))}, "&behind": {nobody}}


@pytest.mark.parametrize("kind", ["get", "fetch", "required"])
def test_refused(lab, kind):
    expected = SITES.get(kind) or [None, *site("", "http.request(", "sites_required.cjs")[1:]]
    spans, _ = spans_of(lab, lab.start(server, "front"), kind, f"http://127.0.0.1:{laboratory.free_port()}/", 3)
    if not spans:
        return
    assert told(spans[0]) == [None, None, None]
    for span in spans[1:]:
        check(span, expected)


def test_named_host(lab):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    url = leaf.url("/slow/1?ms=150").replace("127.0.0.1", "localhost")
    spans, _ = spans_of(lab, lab.start(server, "front"), "get", url, 2)
    if spans:
        check(spans[1], SITES["get"])


def test_library_alone(lab):
    """A timer of the library's calls: no function is the program's."""
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    spans, _ = spans_of(lab, lab.start(server, "front"), "library", leaf.url("/slow/1?ms=150"), 2)
    if spans:
        assert told(spans[1]) == [None, None, None]
        assert all("/node_modules/library/" in text or "<anonymous>" in text for text in spans[1].attributes["code.stacktrace"].split("\n"))


def test_quick_calls_have_none(lab):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    spans, _ = spans_of(lab, lab.start(server, "front"), "fetch", leaf.url("/leaf/1"), 3)
    for span in spans or ():
        assert not [name for name in span.attributes if name.startswith("code.")]


def test_only_where_it_is_slow(lab):
    """A destination's calls are noted after one that was slow, those to others are not."""
    slow, failing = (lab.start(programs.thread_server, name, traced=False) for name in ("slow", "failing"))
    front = lab.start(server, "front")
    spans_of(lab, front, "get", slow.url("/slow/1?ms=150"), 2)
    spans, _ = spans_of(lab, front, "get", failing.url("/slow/2?ms=150"), 2)
    if spans:
        assert told(spans[0]) == [None, None, None]
        check(spans[1], SITES["get"])


@pytest.mark.parametrize("kind", ["get", "fetch"])
def test_all(lab, kind):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(server, "front", env={"OTSHIM_STACK_THRESHOLD": "0"})
    spans, _ = spans_of(lab, front, kind, leaf.url("/leaf/1"), 2)
    for span in spans or ():
        check(span, SITES[kind])


def test_many_at_once(lab):
    """Each call its own function's."""
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(server, "front", env={"OTSHIM_STACK_THRESHOLD": "0"})
    kinds = ["get", "fetch", "posts", "nameless"]
    with ThreadPoolExecutor(len(kinds)) as pool:
        paths = [f"/{kind}?url=" + quote(leaf.url(f"/slow/{kind}-ID?ms=2"), safe="") for kind in kinds]
        list(pool.map(lambda path: lab.storm(front, path, laboratory.ids(60)), paths))
    if laboratory.BARE:
        return
    seen = set()
    time.sleep(0.5)  # the last of them
    for span in lab.spans():
        if span.kind == "CLIENT" and span.attributes.get("code.stacktrace"):
            kind = re.search(r"/slow/(\w+)-", span.attributes["url.full"])[1]
            check(span, SITES[kind])
            seen.add(kind)
    assert seen == set(kinds)


def test_off(lab):
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(server, "front", env={"OTSHIM_STACK_THRESHOLD": "off"})
    spans, _ = spans_of(lab, front, "get", leaf.url("/slow/1?ms=150"), 2)
    for span in spans or ():
        assert not [name for name in span.attributes if name.startswith("code.")]


@pytest.mark.parametrize("own", ["own", ""])
def test_programs_own_stacks(lab, own):
    """Its prepareStackTrace is called as without us, its stackTraceLimit stays, and what comes and goes for a moment is not seen."""
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front, bare = lab.start(server, "front", own=own), lab.start(server, "bare", own=own, traced=False)
    answers = []
    for kind in ("get", "fetch"):
        url = leaf.url(f"/slow/{kind}?ms=150")
        spans, found = spans_of(lab, front, kind, url, 3)
        if spans:
            check(spans[2], SITES[kind])
        answers += [json.loads(answer) for answer in found]
    assert answers == [
        json.loads(lab.get(bare, f"/{kind}?url={quote(leaf.url('/leaf/1'), safe='')}")) for kind in ("get", "fetch") for _ in range(3)
    ]
    if own:
        assert answers[-1]["first"][0].startswith("own: ") and answers[-1]["more"] == 1


ODD_ERRORS = {
    "frozen": "Object.freeze(Error);",
    "nothing": "delete Error.captureStackTrace;",
    "its own": "Error.captureStackTrace = () => { process.exit(3); };",
    "accessor": "Object.defineProperty(Error, 'stackTraceLimit', { get() { return 10; }, set() { process.exit(3); } });",
    "replaced": "globalThis.Error = class extends Error { static prepareStackTrace(e) { return e.message === 'mine' ? '' : process.exit(3); } };",
    "no Date": "delete globalThis.Date;",
}


@pytest.mark.parametrize("odd", ODD_ERRORS)
def test_odd_errors(lab, odd):
    """Where Error is not as it was nothing is noted (of a class derived from it: what is true), nothing of the program's is called, and parents are told as ever."""
    main = lab.file("odd.cjs", f"{ODD_ERRORS[odd]} import({str(laboratory.PROGRAMS / 'sites_server.mjs')!r});")
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    front = lab.start(server, "front", file=main)
    spans, answers = spans_of(lab, front, "get", leaf.url("/slow/1?ms=150"), 2)
    assert all(answer.startswith("{") for answer in answers), answers
    for span in spans or ():
        assert told(span) == [None, None, None] or (odd == "replaced" and told(span) == SITES["get"])
        assert span.attributes["otshim.parent"] == "runtime"
