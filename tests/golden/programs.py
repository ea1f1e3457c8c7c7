"""How each real program is started: a function (lab, name, port, ...) that writes its configuration and returns its command line.

A program that is not on this machine skips the test by name."""

import os
import shutil
from pathlib import Path

import pytest

from lab import BUILD, PROGRAMS

COMPILED = BUILD / "tests" / "golden"
VENV = BUILD / "venv" / "bin"
SYSTEM_PYTHON = "/usr/bin/python3"


def need(command):
    """The path of a command, also of those that Debian has in sbin."""
    found = shutil.which(command, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"{command} is not installed")
    return found


def thread_server(lab, name, port):
    return [COMPILED / "thread_server", port]


def gunicorn(lab, name, port, workers=1, kind="sync", threads=1, unix=None):
    need(str(VENV / "gunicorn"))
    binds = ["--bind", f"127.0.0.1:{port}"] + (["--bind", f"unix:{unix}"] if unix else [])
    return [VENV / "gunicorn", "--chdir", PROGRAMS, *binds, "--workers", workers, "--worker-class", kind, "--threads", threads,
            "flask_app:app"]


def redis_server(lab, name, port, tls=False, flags=()):
    """Keeps nothing."""
    ports = ["--port", 0, "--tls-port", port] if tls else ["--port", port]
    return [need("redis-server"), *ports, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", lab.directory, *flags]


def redis_flask(lab, name, port, to, workers=1, threads=1):
    need(str(VENV / "gunicorn"))
    kind = ["--worker-class", "gthread", "--threads", threads] if threads > 1 else []
    return [VENV / "gunicorn", "--chdir", PROGRAMS, "--env", f"REDIS_PORT={to}", "--bind", f"127.0.0.1:{port}", "--workers", workers, *kind, "redis_app:app"]


def redis_node(lab, name, port, to):
    return [need("node"), PROGRAMS / "redis_shared.js", port, "-", to]


def urllib_server(lab, name, port):
    return [SYSTEM_PYTHON, PROGRAMS / "urllib_server.py", port]


def node(lab, name, port, main="server.js", where="main"):
    return [need("node"), PROGRAMS / main, port, where]


def java(lab, name, port):
    need("javac")
    return [need("java"), "-XX:+UseSerialGC", "-Xmx64m", "-cp", COMPILED, "Server", port]


def webrick(lab, name, port):
    return [need("ruby"), PROGRAMS / "webrick_server.rb", port]


def puma(lab, name, port, threads=4, unix=None, flags=()):
    binds = ["--bind", f"tcp://127.0.0.1:{port}"] + (["--bind", f"unix://{unix}"] if unix else [])
    return [need("puma"), "--quiet", "--threads", f"{threads}:{threads}", *binds, *flags, PROGRAMS / "puma.ru"]


NGINX = """
daemon off;
worker_processes {workers};
pid {directory}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} {listen} backlog=511;
        {server}
    }}
}}
"""


def nginx(lab, name, port, http="", server="", workers=1, listen=""):
    path = lab.file(f"{name}.conf",
                    NGINX.format(directory=lab.directory, name=name, port=port, http=http, server=server, workers=workers, listen=listen))
    return [need("nginx"), "-p", lab.directory, "-c", path]


def nginx_proxy(lab, name, port, upstreams, keepalive=False, workers=1):
    """In turn to each of the upstreams: processes, or ports on which nobody listens."""
    ports = [getattr(u, "port", u) for u in upstreams]
    servers = " ".join(f"server 127.0.0.1:{p} max_fails=0;" for p in ports)
    http = f"upstream backend {{ {servers} {'keepalive 8;' if keepalive else ''} }}"
    kept = 'proxy_http_version 1.1; proxy_set_header Connection "";' if keepalive else ""
    return nginx(lab, name, port, http, f"location / {{ proxy_pass http://backend; {kept} }}", workers)


def nginx_files(lab, name, port, files, workers=1):
    """files: {name: bytes}."""
    site = lab.directory / "site"
    site.mkdir()
    for file, content in files.items():
        (site / file).write_bytes(content)
    return nginx(lab, name, port, server=f"root {site};", workers=workers)


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
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule php_module {modules}/libphp8.2.so
StartServers 2
MinSpareServers 1
MaxSpareServers 4
MaxRequestWorkers 8
DocumentRoot {site}
<Directory {site}>
    Require all granted
</Directory>
<FilesMatch "[.]php$">
    SetHandler application/x-httpd-php
</FilesMatch>
"""


def apache_php(lab, name, port):
    """httpd with the prefork model and mod_php."""
    modules = Path("/usr/lib/apache2/modules")
    apache = need("apache2")
    if not (modules / "libphp8.2.so").exists():
        pytest.skip("mod_php is not installed")
    # a copy: the checkout may be where www-data cannot read
    site = shutil.copytree(PROGRAMS / "php", lab.directory / "php")
    path = lab.file(f"{name}.conf", APACHE.format(directory=lab.directory, name=name, port=port, modules=modules, site=site))
    return [apache, "-f", path, "-DFOREGROUND"]


PHP_FPM = """
[global]
error_log = /dev/stderr
daemonize = no
[tcp]
listen = 127.0.0.1:{port}
listen.backlog = 511
{pool}
"""

PHP_FPM_UNIX = """
[unix]
listen = {socket}
listen.mode = 0666
listen.backlog = 511
{pool}
"""

PHP_FPM_POOL = """
user = www-data
group = www-data
pm = {pm}
pm.max_children = {workers}
pm.start_servers = 1
pm.min_spare_servers = 1
pm.max_spare_servers = {workers}
clear_env = no
"""


def php_fpm(lab, name, port, site=PROGRAMS / "php", pm="static", workers=2, unix=False):
    """unix: a second pool of the same on php_socket(lab, name)."""
    command = need("php-fpm8.2")
    # a copy: the checkout may be where www-data cannot read
    shutil.copytree(site, lab.directory / "php", dirs_exist_ok=True)
    facts = dict(port=port, socket=php_socket(lab, name), pool=PHP_FPM_POOL.format(pm=pm, workers=workers))
    path = lab.file(f"{name}.conf", (PHP_FPM + (PHP_FPM_UNIX if unix else "")).format(**facts))
    return [command, "-R", "-n", "-d", "extension=curl", "-d", "log_errors=1", "-d", "display_errors=0", "-d", "sys_temp_dir=/tmp", "-y", path]


def php_socket(lab, name):
    return lab.directory / f"{name}.sock"


# What Debian has for it, and where the script is. Of two variables PHP takes the later one, libfcgi the first; and fastcgi_params has the
# name of the host without its port.
NGINX_PHP = """
location / {{
    fastcgi_pass {to};
    include /etc/nginx/{params};
    fastcgi_param SCRIPT_FILENAME {directory}/php$fastcgi_script_name;
    {more}
}}
"""


def nginx_php(lab, name, port, to, more="", http="", workers=1):
    return nginx(lab, name, port, http, NGINX_PHP.format(to=to, directory=lab.directory, more=more, params="fastcgi.conf"), workers)


APACHE_PHP_FPM = """
ServerName localhost
ServerRoot {directory}
PidFile {directory}/{name}.pid
DefaultRuntimeDir {directory}
Mutex posixsem
ErrorLog /dev/stderr
User www-data
Group www-data
Listen 127.0.0.1:{port}
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_fcgi_module {modules}/mod_proxy_fcgi.so
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
ProxyPass / {to}{directory}/php/ {options}
"""


def apache_php_fpm(lab, name, port, to, mpm="event", options=""):
    """httpd with mod_proxy_fcgi before PHP-FPM."""
    modules = Path("/usr/lib/apache2/modules")
    facts = dict(directory=lab.directory, name=name, port=port, modules=modules, to=to, mpm=mpm, options=options)
    return [need("apache2"), "-f", lab.file(f"{name}.conf", APACHE_PHP_FPM.format(**facts)), "-DFOREGROUND"]


APACHE_CGI = """
ServerName localhost
ServerRoot {directory}
PidFile {directory}/{name}.pid
DefaultRuntimeDir {directory}
Mutex posixsem
ErrorLog /dev/stderr
User www-data
Group www-data
Listen 127.0.0.1:{port}
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule {cgi}_module {modules}/mod_{cgi}.so
{socket}
StartServers 1
MaxRequestWorkers 25
DocumentRoot {directory}/cgi
<Directory {directory}/cgi>
    Require all granted
    Options ExecCGI
    SetHandler cgi-script
</Directory>
"""


def apache_cgi(lab, name, port, mpm="prefork", cgi="cgi"):
    """httpd that starts a process for each request, with an environment of its own making."""
    modules = Path("/usr/lib/apache2/modules")
    cgi_site(lab)
    socket = f"ScriptSock {lab.directory}/cgid.sock" if cgi == "cgid" else ""
    facts = dict(directory=lab.directory, name=name, port=port, modules=modules, mpm=mpm, cgi=cgi, socket=socket)
    return [need("apache2"), "-f", lab.file(f"{name}.conf", APACHE_CGI.format(**facts)), "-DFOREGROUND"]


def cgi_site(lab):
    site = shutil.copytree(PROGRAMS / "cgi", lab.directory / "cgi", dirs_exist_ok=True)
    for program in site.iterdir():
        program.chmod(0o755)


def python_cgi(lab, name, port):
    """http.server, with a fork and an exec for each request; what it serves is below /cgi-bin."""
    site = lab.directory / "www"
    shutil.copytree(PROGRAMS / "cgi", site / "cgi-bin")
    for program in (site / "cgi-bin").iterdir():
        program.chmod(0o755)
    return [SYSTEM_PYTHON, "-m", "http.server", "--cgi", "--bind", "127.0.0.1", "--directory", site, port]


def fcgiwrap(lab, name, port):
    """CGI programs by FastCGI; a process for each request."""
    cgi_site(lab)
    return [need("fcgiwrap"), "-f", "-c", 2, "-s", f"tcp:127.0.0.1:{port}"]


def nginx_cgi(lab, name, port, to):
    """nginx before fcgiwrap."""
    facts = dict(to=to, directory=lab.directory, more="", params="fastcgi_params")
    return nginx(lab, name, port, server=NGINX_PHP.replace("/php", "/cgi").format(**facts))


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
    server leaf 127.0.0.1:{upstream}
"""


HAPROXY_PHP = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
fcgi-app php
    docroot {directory}/php
    {more}
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    use-fcgi-app php
    server php 127.0.0.1:{upstream} proto fcgi
"""


def haproxy_php(lab, name, port, upstream, more=""):
    path = lab.file(f"{name}.conf", HAPROXY_PHP.format(port=port, upstream=upstream.port, directory=lab.directory, more=more))
    return [need("haproxy"), "-db", "-f", path]


def haproxy(lab, name, port, upstream, threads=1):
    path = lab.file(f"{name}.conf", HAPROXY.format(port=port, upstream=getattr(upstream, "port", upstream), threads=threads))
    return [need("haproxy"), "-db", "-f", path]


def upgrade_server(lab, name, port):
    return [SYSTEM_PYTHON, PROGRAMS / "upgrade_server.py", port]
