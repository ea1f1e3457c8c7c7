"""From spans to a tree of text that a person can read and write, and back to the one question: is it the same?

    front SERVER GET /fetch/1 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
        leaf SERVER GET /leaf/1 200

One line a span: service, kind, what, outcome. Children stand under their parent in order of their start, traces in order of theirs
with an empty line between. Ports are the names of the programs that listen on them; ids, times and durations are checked for being
sensible, and left out. An error adds ERROR and, where the status code does not say it already, error.type."""

import difflib
import re
from dataclasses import dataclass, field

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
NO_PARENT = ("", "0" * 16)


@dataclass
class Span:
    service: str
    resource: dict
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict
    events: list
    error: bool
    message: str
    raw: dict = field(repr=False)
    children: list = field(default_factory=list, repr=False)

    def what(self):
        at = self.attributes
        method = at.get("http.request.method")
        if self.kind == "SERVER" and method:
            return join(method, at.get("url.path"), at.get("http.response.status_code"))
        if self.kind == "CLIENT" and method:
            url = at.get("url.full", "")
            return join(method, url.split("?")[0], at.get("http.response.status_code"))
        if "dns.question.name" in at:
            return join(self.name, at["dns.question.name"])
        if self.name.endswith(".connect"):
            return join(self.name, peer_of(at))
        return self.name

    def outcome(self):
        if not self.error:
            return ""
        kind = str(self.attributes.get("error.type", ""))
        return " ERROR" if kind in ("", str(self.attributes.get("http.response.status_code"))) else f" ERROR {kind}"


def join(*parts):
    return " ".join(str(p) for p in parts if p is not None)


def peer_of(attributes):
    address = attributes.get("network.peer.address", attributes.get("server.address", "?"))
    port = attributes.get("network.peer.port", attributes.get("server.port"))
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def any_value(value):
    """A value of OTLP/JSON; 64-bit integers are strings there (protobuf's JSON mapping)."""
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [any_value(v) for v in value["arrayValue"].get("values", [])]
    for key in ("stringValue", "boolValue", "doubleValue"):
        if key in value:
            return value[key]
    return None


def attributes_of(thing):
    return {a["key"]: any_value(a["value"]) for a in thing.get("attributes", [])}


def spans_of(request):
    """The spans of an ExportTraceServiceRequest (or TracesData) as OTLP/JSON."""
    spans = []
    for resource_spans in request.get("resourceSpans", []):
        resource = attributes_of(resource_spans.get("resource", {}))
        for scope_spans in resource_spans.get("scopeSpans", []):
            for raw in scope_spans.get("spans", []):
                spans.append(span_of(raw, resource))
    return spans


def span_of(raw, resource):
    status = raw.get("status", {})
    parent = raw.get("parentSpanId", "")
    return Span(
        service=resource.get("service.name", "?"),
        resource=resource,
        trace_id=raw["traceId"],
        span_id=raw["spanId"],
        parent_id="" if parent in NO_PARENT else parent,
        name=raw.get("name", ""),
        kind=kind_of(raw.get("kind", 0)),
        start=int(raw["startTimeUnixNano"]),
        end=int(raw["endTimeUnixNano"]),
        attributes=attributes_of(raw),
        events=raw.get("events", []),
        error=status.get("code", 0) in (2, "STATUS_CODE_ERROR"),
        message=status.get("message", ""),
        raw=raw,
    )


def kind_of(kind):
    return KINDS.get(kind, str(kind)) if isinstance(kind, int) else kind.removeprefix("SPAN_KIND_")


class Forest:
    """All traces that there are, roots first."""

    def __init__(self, spans):
        self.spans = spans
        by_id = {(s.trace_id, s.span_id): s for s in spans}
        self.roots = []
        for span in sorted(spans, key=lambda s: (s.start, s.end)):
            span.children = []
        for span in sorted(spans, key=lambda s: (s.start, s.end)):
            parent = by_id.get((span.trace_id, span.parent_id)) if span.parent_id else None
            (parent.children if parent else self.roots).append(span)

    def mistakes(self):
        """What must hold for any trace, whatever the program."""
        found = []
        ids = set()
        for s in self.spans:
            if not re.fullmatch(r"[0-9a-f]{32}", s.trace_id) or set(s.trace_id) == {"0"}:
                found.append(f"bad trace id {s.trace_id!r} of {s.what()}")
            if not re.fullmatch(r"[0-9a-f]{16}", s.span_id) or set(s.span_id) == {"0"}:
                found.append(f"bad span id {s.span_id!r} of {s.what()}")
            if s.span_id in ids:
                found.append(f"span id {s.span_id} was given twice: {s.what()}")
            ids.add(s.span_id)
            if s.end < s.start:
                found.append(f"ends before it starts: {s.service} {s.what()}")
            for child in s.children:
                # a connection may have been made before there was the request that it is for
                if child.start < s.start and child.name not in ("dns.lookup", "tcp.connect", "unix.connect", "tls.handshake"):
                    found.append(f"starts {s.start - child.start} ns before its parent: {child.service} {child.what()}")
        return found

    def walk(self):
        """(depth, span), in the order of print."""

        def below(span, depth):
            yield depth, span
            for child in span.children:
                yield from below(child, depth + 1)

        for root in self.roots:
            yield from below(root, 0)

    def render(self, ports, show=()):
        """ports: {number: program's name}. show: attributes to print behind each span that has them."""
        lines = []
        for depth, span in self.walk():
            if depth == 0 and lines:
                lines.append("")
            elsewhere = " (parent elsewhere)" if depth == 0 and span.parent_id else ""
            facts = span.resource | span.attributes
            shown = "".join(f" {name}={facts[name]}" for name in show if name in facts)
            lines.append("  " * depth + f"{span.service} {span.kind} {span.what()}{span.outcome()}{elsewhere}{shown}")
        return name_ports("\n".join(lines), ports)


def name_ports(text, ports):
    return re.sub(r":(\d{4,5})\b", lambda m: ":{%s}" % ports[int(m[1])] if int(m[1]) in ports else m[0], text)


def dedent(text):
    lines = text.strip("\n").rstrip().split("\n")
    margin = min((len(l) - len(l.lstrip()) for l in lines if l.strip()), default=0)
    return "\n".join(l[margin:].rstrip() for l in lines)


def difference(expected, got):
    if expected == got:
        return ""
    lines = difflib.unified_diff(expected.split("\n"), got.split("\n"), "expected", "got", lineterm="", n=1000)
    return "\n".join(lines)
