"""Which call is under which request? From the spans and the leaf's own list of calls to one row of figures a kind and
number of clients.

The id of a request is in its own path and in that of each call made for it, so that a call names the request that it belongs to:

    right        its parent is the server span with the same id
    wrong        the nearest server span above it has another id, or it is a call that no request asked for (p000001) and has one
    parentless   it is the root of its trace
    missing      the leaf answered it, or the client had an answer, and there is no span; or its parent is a span that never came
    header       the leaf was sent another traceparent than this span's, or none"""

import re
from collections import Counter
from dataclasses import dataclass, field

IDENT = re.compile(r"/([rp]\d{6})(?:/(\d+))?(?=[/? ]|$)")


@dataclass
class Row:
    requests: int = 0
    made: int = 0
    seen: int = 0
    right: int = 0
    wrong: int = 0
    parentless: int = 0
    missing: int = 0
    header: int = 0
    by_rule: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)

    def right_percent(self):
        judged = self.right + self.wrong + self.parentless
        return 100 * self.right / judged if judged else 0.0


def key_of(text):
    found = IDENT.search(text)
    return (found[1], int(found[2] or 0)) if found else None


def read_leaf(path):
    """[(key, traceparent or None)], a line each."""
    calls = []
    for line in path.read_text().splitlines():
        target, parent = line.rsplit(" ", 1)
        if key_of(target):
            calls.append((key_of(target), None if parent == "-" else parent))
    return calls


class Spans:
    """Those of the servers that were stormed, by id and by what they say they are about. `hops`: what went by FastCGI."""

    def __init__(self, spans):
        self.by_id = {(s.trace_id, s.span_id): s for s in spans}
        self.servers, self.clients, self.hops = {}, {}, {}
        for span in spans:
            at = span.attributes
            fastcgi = at.get("network.protocol.name") == "fastcgi"
            if span.kind == "SERVER":
                key = key_of(at.get("url.path", ""))
                if key and fastcgi:
                    self.hops.setdefault(key[0], []).append(span)
                if key:
                    self.servers.setdefault(key[0], []).append(span)
            elif span.kind == "CLIENT":
                key = key_of(at.get("url.full", ""))
                if key and fastcgi:
                    self.hops.setdefault(key[0], []).append(span)
                elif key:
                    self.clients.setdefault(key, []).append(span)

    def owner(self, span):
        """The id of the nearest server span above; "" at a root; None where the way up ends at a span that is not there."""
        while span.parent_id:
            span = self.by_id.get((span.trace_id, span.parent_id))
            if span is None:
                return None
            if span.kind == "SERVER":
                key = key_of(span.attributes.get("url.path", ""))
                return key[0] if key else "?"
        return ""


def complete(spans, answered, leaf):
    """Are all spans here that must come?"""
    made = Counter(key for key, _ in leaf if key[0] in answered)
    have = Spans(spans)
    return all(ident in have.servers for ident in answered) and all(len(have.clients.get(key, ())) >= n for key, n in made.items())


def judge(spans, answered, leaf):
    """{(kind, clients): Row}; `answered`: {id: (kind, clients)}, what the clients had good answers to. Pollers' calls are a row of
    their own."""
    have = Spans(spans)
    rows = {kind: Row() for kind in answered.values()}
    for ident, kind in answered.items():
        rows[kind].requests += 1
        if ident not in have.servers:
            lack(rows[kind], f"no server span of {ident}")
    made, parents = Counter(), {}
    for key, parent in leaf:
        if key[0] in answered:
            made[key] += 1
            parents.setdefault(key, []).append(parent)
    for key, count in made.items():
        row = rows[answered[key[0]]]
        row.made += count
        row.seen += min(count, len(have.clients.get(key, ())))
        for _ in range(count - len(have.clients.get(key, ()))):
            lack(row, f"no client span of {key}")
    for key, found in have.clients.items():
        polled = key[0].startswith("p")
        kind = ("(poller)", 0) if polled else answered.get(key[0])
        if kind is None:
            continue
        row = rows.setdefault(kind, Row())
        if polled:
            row.made += len(found)
            row.seen += len(found)
        for span in found:
            judge_call(row, have, key[0], span)
            if not polled and not any(parent and parent.split("-")[1:3] == [span.trace_id, span.span_id] for parent in parents.get(key, ())):
                row.header += 1
    for ident, kind in answered.items():
        judge_hop(rows[kind], have, ident)
    return rows


def judge_hop(row, have, ident):
    """From the server that was asked to the program behind it, by FastCGI: a call of the one, a request of the other."""
    for span in have.hops.get(ident, ()):
        if span.kind == "CLIENT":
            judge_call(row, have, ident, span)
        elif have.owner(span) != ident:
            row.header += 1


def judge_call(row, have, ident, span):
    owner = have.owner(span)
    rule = span.attributes.get("otshim.parent", "?")
    if owner is None:
        lack(row, f"the parent of {span.what()} never came")
    elif owner == "" and not ident.startswith("p"):
        row.parentless += 1
    elif owner == ident or owner == "":
        row.right += 1
        row.by_rule["right", rule] += 1
    else:
        row.wrong += 1
        row.by_rule["WRONG", rule] += 1
        row.examples.append(f"wrong: {span.what()} is under {owner}'s request, by rule '{rule}'")


def lack(row, what):
    row.missing += 1
    row.examples.append(f"missing: {what}")
