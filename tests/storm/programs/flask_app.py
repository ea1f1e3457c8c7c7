"""Flask: for gunicorn (flask_app:app), or its own server with the port as the argument."""

import sys

import calls
from flask import Flask, request

app = Flask(__name__)
calls.start_poller()


@app.get("/<kind>/<ident>")
def handle(kind, ident):
    calls.work(kind, ident, request.args.get("calls", type=int), request.args.get("ms", type=int))
    return f"{ident}\n"


if __name__ == "__main__":
    import logging

    from werkzeug.serving import WSGIRequestHandler

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
