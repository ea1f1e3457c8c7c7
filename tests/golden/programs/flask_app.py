"""Flask, calling out with requests: what most people would write."""

import subprocess

import requests
from flask import Flask, request

app = Flask(__name__)


@app.get("/leaf/<ident>")
def leaf(ident):
    return f"leaf {ident}\n"


@app.get("/fetch/<ident>")
def fetch(ident):
    answers = []
    for url in request.args.getlist("url"):
        answer = requests.get(url, headers=own_headers(), timeout=10)
        answers.append(f"{answer.status_code} {answer.text}")
    return "".join(answers)


@app.get("/refused/<ident>")
def refused(ident):
    try:
        requests.get(request.args["url"], timeout=10)
    except requests.ConnectionError:
        return "upstream is down\n", 502
    return "unexpected\n"


@app.get("/spawn/<ident>")
def spawn(ident):
    """Calls out by a program that is started for it."""
    return subprocess.run(["curl", "-sS", request.args["url"]], capture_output=True, check=True, text=True).stdout


@app.get("/boom/<ident>")
def boom(ident):
    raise RuntimeError("boom")


def own_headers():
    """A program that is instrumented already sends a traceparent of its own; ours must leave it alone."""
    own = request.args.get("own_traceparent")
    return {"traceparent": own} if own else {}
