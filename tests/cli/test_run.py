"""`otshim run`: to its caller nothing but the program; on the terminal its traces."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import LIBRARY, OTSHIM, TIMEOUT, clean_environment, otshim, running, wait_until

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="libotshim.so is not built")

SERVER = """
import http.server, sys, threading, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        if self.path == "/chain":
            try:
                urllib.request.urlopen("http://127.0.0.1:%d/fail" % server.server_port).read()
            except urllib.error.HTTPError as error:
                error.read()
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for path in sys.argv[1:]:
    print(urllib.request.urlopen("http://127.0.0.1:%d%s" % (server.server_port, path)).read().decode())
"""


@pytest.fixture
def env(tmp_path):
    return clean_environment(OTSHIM_SOCKET=str(tmp_path / "run.sock"), OTSHIM_HTTP="127.0.0.1:0")


def leftovers(tmp_path):
    """Exporters that outlived their run."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                command = file.read()
            with open("/proc/%s/environ" % pid, "rb") as file:
                environment = file.read()
        except OSError:
            continue
        if b"exporter" in command.split(b"\0") and str(tmp_path).encode() in environment:
            found.append(int(pid))
    return found


def test_traces_of_the_program(env, tmp_path):
    result = otshim("run", "--service", "shop", "--", sys.executable, "-c", SERVER, "/chain", "/ok", env={**env, "COLUMNS": "100"})
    assert (result.returncode, result.stdout) == (0, "ok\nok\n")
    pictures = result.stderr.split("trace ")[1:]
    assert len(pictures) == 2
    chain = [re.sub(r"\s+[▌▐█]+.*", "", line) for line in pictures[0].splitlines()]
    shapes = [re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "SERVER", line) for line in chain if "tcp.connect" not in line and line]
    assert [re.sub(r" {2,}", "  ", line) for line in shapes[1:]] == [
        "shop  GET http://SERVER/chain  200", "shop  └─ GET /chain  200", "shop  └─ GET http://SERVER/fail  ✗ 500", "shop  └─ GET /fail  ✗ 500"]
    assert leftovers(tmp_path) == []
    assert not os.path.exists(env["OTSHIM_SOCKET"])


def test_traces_as_json(env):
    result = otshim("run", "--json", "--", sys.executable, "-c", SERVER, "/ok", env=env)
    lines = [line for line in result.stderr.splitlines() if line.startswith("{")]
    assert len(lines) == 1
    assert len(json.loads(lines[0])["resourceSpans"]) == 1


def test_quiet(env, tmp_path):
    result = otshim("run", "--quiet", "--", sys.executable, "-c", SERVER, "/ok", env=env)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
    assert leftovers(tmp_path) == []


def test_uses_the_exporter_that_runs(exporter):
    result = exporter.otshim("run", "--service", "guest", "--", sys.executable, "-c", SERVER, "/ok")
    assert result.returncode == 0
    assert "trace " in result.stderr and "guest" in result.stderr
    assert [trace["rootService"] for trace in exporter.json("/api/traces")] == ["guest"]
    assert exporter.process.poll() is None


def test_only_traces_of_the_program(exporter):
    """Another program sends traces to the same exporter meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", SERVER] + ["/other"] * 5, stdout=subprocess.DEVNULL,
                             env={**exporter.env, "LD_PRELOAD": str(LIBRARY), "OTEL_SERVICE_NAME": "other"})
    result = exporter.otshim("run", "--", "sh", "-c", 'sleep 0.5; exec "$@"', "sh", sys.executable, "-c", SERVER, "/mine")
    assert other.wait(TIMEOUT) == 0
    assert "/mine" in result.stderr and "/other" not in result.stderr
    assert len(exporter.json("/api/traces")) == 6


def test_descendants_are_the_program(exporter):
    result = exporter.otshim("run", "--", "sh", "-c", '"$@"; sleep 0.4', "sh", sys.executable, "-c", SERVER, "/grandchild")
    assert "/grandchild" in result.stderr


def test_http_port_taken(exporter, env):
    """Its own exporter, with the usual HTTP port in somebody else's hands."""
    result = otshim("run", "--", sys.executable, "-c", SERVER, "/ok", env={**env, "OTSHIM_HTTP": exporter.http})
    assert result.returncode == 0
    assert "GET /ok" in result.stderr
    assert exporter.json("/api/traces") == []


def test_no_trace_says_what_helps(env):
    result = otshim("run", "--", "true", env=env)
    assert result.returncode == 0
    assert "otshim doctor true" in result.stderr


# ---- nothing but the program ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 42, 125, 255])
def test_exit_status(env, status):
    assert otshim("run", "-q", "--", "sh", "-c", "exit %d" % status, env=env).returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE])
def test_dies_as_the_program_died(env, number, tmp_path):
    assert otshim("run", "-q", "--", "sh", "-c", "kill -%d $$" % number, env=env).returncode == -number
    assert leftovers(tmp_path) == []


def test_not_found_and_not_executable(env, tmp_path):
    result = otshim("run", "--", "no-such-program", env=env)
    assert result.returncode == 127
    assert "no-such-program: No such file" in result.stderr
    (tmp_path / "file").write_text("x")
    result = otshim("run", "--", str(tmp_path / "file"), env=env)
    assert result.returncode == 126
    assert "Permission denied" in result.stderr
    (tmp_path / "script").write_text("#!/opt/nowhere/sh\n")
    (tmp_path / "script").chmod(0o755)
    result = otshim("run", "--", str(tmp_path / "script"), env=env)
    assert result.returncode == 127
    assert "/opt/nowhere/sh" in result.stderr


def test_what_cannot_be_watched_is_run_all_the_same(env, tmp_path):
    source = tmp_path / "program.c"
    source.write_text("int main(void) { return 5; }\n")
    if subprocess.run(["gcc", "-static", "-o", tmp_path / "program", source], capture_output=True, check=False).returncode != 0:
        pytest.skip("gcc cannot build static programs")
    result = otshim("run", "--", str(tmp_path / "program"), env=env)
    assert result.returncode == 5
    assert "cannot be watched: it is statically linked" in result.stderr


def test_input_output_and_arguments(env):
    result = otshim("run", "-q", "--", "sh", "-c", 'cat; echo "$1" >&2', "sh", "a b  c", input="through\n", env=env)
    assert (result.stdout, result.stderr) == ("through\n", "a b  c\n")


def test_environment(env):
    script = 'echo "$LD_PRELOAD|$OTSHIM_SOCKET|$OTEL_SERVICE_NAME|$OTSHIM_HTTP|$OTSHIM_LOG"'
    result = otshim("run", "-q", "-s", "shop", "--", "sh", "-c", script, env=env)
    assert result.stdout == "%s|%s|shop|127.0.0.1:0|\n" % (LIBRARY.resolve(), env["OTSHIM_SOCKET"])
    # what was preloaded before stays
    result = otshim("run", "-q", "--", "sh", "-c", script, env={**env, "LD_PRELOAD": "libm.so.6"})
    assert result.stdout.startswith("%s:libm.so.6|" % LIBRARY.resolve())


def test_library_elsewhere(env, tmp_path):
    result = otshim("run", "--", "true", env={**env, "OTSHIM_LIBRARY": str(tmp_path / "none.so")})
    assert result.returncode == 1
    assert "OTSHIM_LIBRARY" in result.stderr


def test_bad_configuration(env):
    result = otshim("run", "--", "true", env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://nowhere"})
    assert result.returncode == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr


def started(env, script):
    process = subprocess.Popen([OTSHIM, "run", "-q", "--", "sh", "-c", script], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    running.append(process)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number, name", [(signal.SIGTERM, "TERM"), (signal.SIGINT, "INT"), (signal.SIGHUP, "HUP"), (signal.SIGUSR1, "USR1"),
                                          (signal.SIGUSR2, "USR2"), (signal.SIGWINCH, "WINCH"), (signal.SIGQUIT, "QUIT")])
def test_signals_sent_to_us_are_the_programs(env, number, name, tmp_path):
    process = started(env, 'trap "echo got %s; exit 9" %s; echo ready; while :; do sleep 0.05; done' % (name, name))
    process.send_signal(number)
    assert process.communicate(timeout=TIMEOUT)[0] == "got %s\n" % name
    assert process.returncode == 9
    assert leftovers(tmp_path) == []


def test_ctrl_c_reaches_the_program_once(env, tmp_path):
    """Signals of the terminal go to the whole process group; ours is the program's."""
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(OTSHIM, ["otshim", "run", "-q", "--", "sh", "-c",
                           'n=0; trap "n=$((n+1))" INT; trap "echo $n interrupts; exit 4" TERM; n=0\n'
                           'trap \'n=$((n+1)); echo interrupt $n\' INT; echo ready; while :; do sleep 0.05; done'], env)
    output = b""

    def read_until(words):
        nonlocal output
        deadline = time.monotonic() + 10
        while words not in output and time.monotonic() < deadline:
            output += os.read(fd, 4096)
        assert words in output

    read_until(b"ready")
    os.write(fd, b"\x03")
    read_until(b"interrupt 1")
    time.sleep(0.4)
    os.write(fd, b"\x03")
    read_until(b"interrupt 2")
    time.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    try:
        while chunk := os.read(fd, 4096):
            output += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert b"interrupt 3" not in output
    assert leftovers(tmp_path) == []


def test_killed_run_leaves_no_exporter(env, tmp_path):
    process = started(env, "echo ready; exec sleep 3")
    assert len(leftovers(tmp_path)) == 1
    process.kill()
    process.wait()
    wait_until(lambda: leftovers(tmp_path) == [])


def test_exporter_that_dies_does_no_harm(env, tmp_path):
    process = subprocess.Popen([OTSHIM, "run", "--", "sh", "-c", "echo ready; sleep 1; exit 6"], env=env, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for pid in leftovers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 6


def test_many_traces_are_counted(env):
    result = otshim("run", "--", sys.executable, "-c", SERVER, *["/ok"] * 60, env=env)
    shown = result.stderr.count("\ntrace ") + result.stderr.startswith("trace ")
    skipped = sum(int(n) for n in re.findall(r"and (\d+) more trace", result.stderr))
    assert shown + skipped == 60
    assert shown <= 40
