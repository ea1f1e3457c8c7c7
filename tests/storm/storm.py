"""The storm: for every server model many concurrent requests, and under whose request each of their calls is found afterwards.

    storm.py [--short] [--list] [--spans DIRECTORY] [MODEL...]      MODEL: a part of a model's name; all without

There is a storm of many clients and one or more of a few: in a crowd an event loop is never sure for whom it works, and what it takes for sure when
there are few is the more easily wrong. Prints one line a kind of each model and storm, then a line "ok", "FAIL" or "skip" a model as tests/run.sh wants them. A model fails if a call is
under a request that it was not made for, if spans are missing, if a request was not answered well, or if fewer calls are right than the
model promises (models.py). Environment: BUILD (build)."""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "golden")]

import lab as laboratory
import load
import models
import tls
import tree
import verdict
from _pytest.outcomes import OutcomeException, Skipped
from google.protobuf.json_format import MessageToDict
from receiver import GrpcReceiver, with_hex_ids

COLUMNS = "{:<38} {:<10} {:>7} {:>5} {:>13} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7}"


class Received:
    """Keeps what comes as it comes, and makes spans of it when the storm is over: the clients need the processor."""

    def __init__(self):
        self.requests, self.done = [], 0
        self.by_id = {}

    def take(self, request, metadata):
        self.requests.append(request)

    def spans(self):
        for request in self.requests[self.done :]:
            for span in tree.spans_of(with_hex_ids(MessageToDict(request, use_integers_for_enums=True))):
                self.by_id[span.trace_id, span.span_id] = span
            self.done += 1
        return list(self.by_id.values())


def run_model(model, seconds):
    """(rows, outcome, spans, the exporter's counters)"""
    lab = laboratory.Lab()
    try:
        receiver = GrpcReceiver()
        receiver.received = Received()
        lab.deliver_to(receiver)
        log = lab.directory / "leaf.log"
        leaf = lab.start(lambda lab, name, port: [models.COMPILED / "leaf", port, log], "leaf", traced=False)
        env = {"LEAF_PORT": str(leaf.port), "PYTHONDONTWRITEBYTECODE": "1"} | model.env
        clients_tls = None
        if model.tls:
            authority = tls.Authority(lab.directory)
            # what the leaf says is what came out of the encryption: nobody watches the one that takes it off
            behind = lab.start(authority.terminator, "leaf-tls", traced=False, backend=leaf.port)
            env |= {"LEAF_PORT": str(behind.port), "LEAF_SCHEME": "https"} | authority.env
            clients_tls = authority.client()
        front = lab.start(model.start, "front", env=env)
        time.sleep(0.2)
        outcome = load.Outcome()
        for clients, requests in ((model.clients, model.requests), *((few, model.requests // 4) for few in model.few)):
            load.Storm(outcome, front.port, model.paths(), clients, requests, seconds, clients_tls).run()
        spans = await_spans(receiver.received, outcome, log)
        if front.popen.poll() is not None:
            outcome.failures.append(f"the server ended with status {front.popen.returncode}")
        if outcome.failures:
            outcome.failures.append(front.tail(10))
        return verdict.judge(spans, outcome.answered, verdict.read_leaf(log)), outcome, spans, lab.metrics()
    finally:
        lab.close()


def await_spans(received, outcome, log):
    """Until all that must be there is, or nothing more has come for five seconds."""
    last, changed = -1, time.monotonic()
    while True:
        spans = received.spans()
        if len(spans) != last:
            last, changed = len(spans), time.monotonic()
        if verdict.complete(spans, outcome.answered, verdict.read_leaf(log)) or time.monotonic() - changed > 5:
            return spans
        time.sleep(0.2)


def why_failed(model, rows, outcome):
    reasons = []
    if outcome.failures:
        reasons.append(f"{len(outcome.failures)} requests failed")
    if not outcome.answered:
        reasons.append("no request was answered")
    for (kind, clients), row in rows.items():
        kind = f"{kind} of {clients} clients" if clients else kind
        if row.wrong:
            reasons.append(f"{kind}: {row.wrong} wrong")
        if row.missing:
            reasons.append(f"{kind}: {row.missing} missing")
        if row.header:
            reasons.append(f"{kind}: {row.header} sent without their own traceparent")
        least = model.kinds.get(kind.split()[0])
        if least is not None and row.right_percent() < least:
            reasons.append(f"{kind}: {row.right_percent():.2f} % right, promised {least} %")
    return "; ".join(reasons)


def print_rows(model, rows):
    order = list(model.kinds)
    for kind, clients in sorted(rows, key=lambda k: (order.index(k[0]) if k[0] in order else len(order), -k[1])):
        r = rows[kind, clients]
        print(COLUMNS.format(model.name, kind, clients or "", r.requests or "", f"{r.seen}/{r.made}", r.right, r.wrong, r.parentless, r.missing, r.header,
                             f"{r.right_percent():.2f}"))


def tell(rows, outcome, metrics):
    """What one wants to know when it is not as it should be."""
    for kind, row in rows.items():
        kind = " ".join(str(part) for part in kind)
        for what, count in sorted(row.by_rule.items()):
            print(f"  {kind}: {count} {what[0]} by rule '{what[1]}'")
        for example in row.examples[:5]:
            print(f"  {kind}: {example}")
    for failure in outcome.failures[:3] + outcome.failures[-1:]:
        print(f"  {failure}")
    for name, value in metrics.items():
        if value and any(word in name for word in ("drop", "lost", "full", "fail", "reject", "evict", "busy", "unread", "missed")):
            print(f"  {name} {value:g}")


def storm_one(model, arguments):
    lacking = [m for m in model.modules if find_spec(m) is None]
    if lacking:
        print(f"skip storm {model.name}: {', '.join(lacking)} not installed")
        return True
    try:
        start = time.monotonic()
        rows, outcome, spans, metrics = run_model(model, arguments.seconds)
    except Skipped as e:
        print(f"skip storm {model.name}: {e}")
        return True
    except (Exception, OutcomeException) as e:
        print(f"FAIL storm {model.name}: {type(e).__name__} {e}")
        return False
    print_rows(model, rows)
    reason = why_failed(model, rows, outcome)
    if reason or arguments.verbose:
        tell(rows, outcome, metrics)
    if arguments.spans:
        file = Path(arguments.spans) / f"{model.name.replace('/', '-')}.json"
        file.write_text("\n".join(json.dumps({"service": s.service, **s.raw}) for s in sorted(spans, key=lambda s: s.start)))
    rate = len(outcome.answered) / max(outcome.seconds, 0.001)
    facts = f"{len(outcome.answered)} requests, {rate:.0f}/s, {time.monotonic() - start:.1f} s in all"
    print(f"FAIL storm {model.name}: {reason} ({facts})" if reason else f"ok storm {model.name} ({facts})", flush=True)
    return not reason


def build_programs():
    models.COMPILED.mkdir(parents=True, exist_ok=True)
    cc = os.environ.get("CC", "gcc")
    for source in models.HERE.glob("*.c"):
        libraries = {"libevent": ["-levent"], "libuv": ["-luv"], "libev": ["-lev"], "fcgi": ["-lfcgi"]}.get(source.stem, [])
        make(models.COMPILED / source.stem, source, [cc, "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", source, "-o",
                                                     models.COMPILED / source.stem, "-lpthread", *libraries])
    if shutil.which("javac"):
        source = models.HERE / "Storm.java"
        make(models.COMPILED / "Storm.class", source, ["javac", "-d", models.COMPILED, source])
        if models.SPRING_JARS.is_dir():
            source = models.HERE / "spring" / "SpringStorm.java"
            make(models.COMPILED / "springstorm" / "SpringStorm.class", source, ["javac", "-parameters", "-cp", models.SPRING_JARS / "*", "-d", models.COMPILED, source])


def make(target, source, argv):
    newest = max(source.stat().st_mtime, (models.HERE / "storm.h").stat().st_mtime)
    if not target.exists() or target.stat().st_mtime < newest:
        subprocess.run([str(a) for a in argv], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="few requests, and only models that need no more than the tests do")
    parser.add_argument("--long", action="store_true", help="the opposite, which is the default")
    parser.add_argument("--list", action="store_true", help="the names of the models")
    parser.add_argument("--spans", help="write all spans of each model into this directory")
    parser.add_argument("--requests", type=int, help="of each kind")
    parser.add_argument("--seconds", type=float, help="at most, for each storm")
    parser.add_argument("--clients", type=int)
    parser.add_argument("--verbose", action="store_true", help="say by which rules the parents were found")
    parser.add_argument("model", nargs="*")
    arguments = parser.parse_args()
    chosen = [m for m in models.MODELS if not arguments.model or any(part.lower() in m.name.lower() for part in arguments.model)]
    if arguments.short:
        chosen = [m for m in chosen if m.short]
    if arguments.list or not chosen:
        print("\n".join(m.name for m in models.MODELS))
        return 0 if arguments.list else 2
    arguments.seconds = arguments.seconds or (1.5 if arguments.short else 12)
    build_programs()
    print(COLUMNS.format("model", "kind", "clients", "req.", "seen/made", "right", "wrong", "root", "missing", "header", "right%"), flush=True)
    good = True
    for model in chosen:
        requests = arguments.requests or (max(60, 400 // len(model.kinds)) if arguments.short else model.requests)
        clients = arguments.clients or (min(model.clients, 50) if arguments.short else model.clients)
        good &= storm_one(dataclasses.replace(model, requests=requests, clients=clients), arguments)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
