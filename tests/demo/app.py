"""One of three services: an ordinary Flask application that knows nothing of tracing.

The routes are those of the well-known observability demos: / and /io_task and /cpu_task and /random_status, and /chain, which calls
itself and the two others. PEERS is "http://host:port,http://host:port,http://host:port": itself, then the others."""

import os
import random
import time

import requests
from flask import Flask

app = Flask(__name__)
ME, *OTHERS = os.environ["PEERS"].split(",")


@app.get("/")
def index():
    return {"hello": "world"}


@app.get("/io_task")
def io_task():
    time.sleep(0.12)  # a disk, a queue, somebody else's service
    return "IO bound task finished\n"


@app.get("/cpu_task")
def cpu_task():
    sum(n * n for n in range(400_000))
    return "CPU bound task finished\n"


@app.get("/random_status")
def random_status():
    status = random.choice([200, 200, 300, 400, 500])
    return f"status {status}\n", status


@app.get("/error")
def error():
    raise ValueError("this one fails on purpose")


@app.get("/chain")
def chain():
    requests.get(f"{ME}/", timeout=10)
    requests.get(f"{OTHERS[0]}/io_task", timeout=10)
    requests.get(f"{OTHERS[1]}/cpu_task", timeout=10)
    requests.get(f"{OTHERS[1]}/error", timeout=10)
    return {"path": "/chain"}
