"""Flask and redis-py, with a pool of connections: what most people would write."""

import os

import redis
from flask import Flask, request

app = Flask(__name__)
cache = redis.Redis("127.0.0.1", int(os.environ["REDIS_PORT"]), protocol=int(os.environ.get("REDIS_PROTOCOL", "2")),
                    ssl="REDIS_CA" in os.environ, ssl_ca_certs=os.environ.get("REDIS_CA"))


@app.get("/ready")
def ready():
    return "ready\n"


@app.get("/user/<ident>")
def user(ident):
    cache.set(f"user:{ident}", "secret")
    cache.hset("hash", mapping={"field": "secret", "other": "secret"})
    return cache.get(f"user:{ident}")


@app.get("/count/<ident>")
def count(ident):
    return f"{cache.incr('count:' + ident)}\n"


@app.get("/pipeline/<count>")
def pipeline(count):
    with cache.pipeline(transaction="transaction" in request.args) as pipe:
        for n in range(int(count)):
            pipe.lpush("list", f"secret {n}")
        return f"{len(pipe.execute())}\n"


@app.get("/large/<size>")
def large(size):
    cache.set("large", "x" * int(size))
    return f"{len(cache.get('large'))}\n"


@app.get("/wrong/<ident>")
def wrong(ident):
    errors = []
    for words in (["LPUSH", "string", "secret"], ["NONESUCH", "secret"]):
        try:
            cache.execute_command(*words)
        except redis.ResponseError as error:
            errors.append(str(error))
    return "\n".join(errors)


@app.get("/blocking/<ident>")
def blocking(ident):
    return f"{cache.blpop('empty', timeout=0.2)}\n"


@app.get("/down/<ident>")
def down(ident):
    try:
        redis.Redis("127.0.0.1", int(request.args["port"]), retry=None, protocol=2).get("k")
    except redis.ConnectionError:
        return "down\n", 502
    return "unexpected\n"


@app.get("/subscribe/<ident>")
def subscribe(ident):
    with cache.pubsub() as pubsub:
        pubsub.subscribe("news")
        cache.publish("news", "secret")
        got = []
        while len(got) < 2:
            got.append(pubsub.get_message(timeout=5)["type"])
    return " ".join(got)
