#!/usr/bin/env python3
"""Records what redis-py, redis-cli and redis-server really say to each other, as seeds for fuzz_preload_resp and input of its unit test.

    BUILD=build build/venv/bin/python tests/fuzz/record_redis.py      writes tests/fuzz/corpus/fuzz_preload_resp/recorded-*

A relay stands between client and server; nothing runs under the library. To be run again when these programs change."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))

import lab as laboratory
import programs
import redis
from relay import Relay, save_to

laboratory.BARE = True
save = save_to("fuzz_preload_resp")


def converse(client):
    """A bit of everything. SECRET is in every value, and nowhere else."""
    client.set("user:1", "SECRET")
    client.get("user:1")
    client.get("none")
    client.hset("hash", mapping={"SECRET1": "SECRET", "field": 1.5})
    client.hgetall("hash")
    client.sadd("set", "SECRET", "b")
    client.smembers("set")
    client.zadd("sorted", {"SECRET": 1.5, "b": 2})
    client.zrange("sorted", 0, -1, withscores=True)
    client.xadd("stream", {"SECRET": "SECRET"})
    client.xread({"stream": "0"})
    client.config_get("max*")
    client.command_count()
    client.echo("SECRET")
    client.eval("return {1, {2, {3, redis.status_reply('x')}}, false}", 0, "SECRET")
    for wrong in (lambda: client.lpush("user:1", "SECRET"), lambda: client.execute_command("NONESUCH", "SECRET", "b")):
        try:
            wrong()
        except redis.RedisError:
            pass
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("counter").incr("counter").lpush("list", "SECRET").lrange("list", 0, -1)
        pipe.execute()
    with client.pipeline(transaction=False) as pipe:
        for n in range(20):
            pipe.set(f"key:{n}", "SECRET" * n)
        pipe.execute()


def main():
    lab = laboratory.Lab()
    try:
        server = lab.start(programs.redis_server, "server", traced=False)
        relay = Relay(server.port)
        for protocol in 2, 3:
            client = redis.Redis("127.0.0.1", relay.port, db=5, protocol=protocol, single_connection_client=True)
            converse(client)
            client.close()
            save(f"redis-py-{protocol}", relay)
            client = redis.Redis("127.0.0.1", relay.port, protocol=protocol)
            pubsub = client.pubsub()
            pubsub.subscribe("channel")
            pubsub.get_message(timeout=1)
            pubsub.close()
            save(f"redis-py-{protocol}-subscribe", relay)
        for words in "-2 -n 1 object encoding k", "-3 -n 5 hgetall hash", "-2 -n 5 command docs get", "-3 auth SECRET":
            subprocess.run(["redis-cli", "-p", str(relay.port), *words.split()], stdout=subprocess.DEVNULL)
        save("redis-cli", relay)
    finally:
        lab.close()


main()
