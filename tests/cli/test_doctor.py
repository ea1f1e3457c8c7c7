"""`otshim doctor`: programs of every kind that can and cannot be watched, and running processes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import LIBRARY, clean_environment, otshim, wait_until

PROGRAM = "int main(void) { return 0; }\n"


def examined(target, env=None, exclude=""):
    """(exit status, verdict, codes of the reasons by level). The small tools that serve as examples are no exceptions here."""
    env = {**(env or clean_environment()), "OTSHIM_EXCLUDE": exclude}
    if exclude is None:
        del env["OTSHIM_EXCLUDE"]
    result = otshim("doctor", "--json", str(target), env=env)
    report = json.loads(result.stdout)
    return result.returncode, report["watchable"], {reason["code"]: reason["level"] for reason in report["reasons"]}


def compiled(tmp_path, *flags, compiler="gcc", name="program"):
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    if shutil.which(compiler) is None:
        pytest.skip(compiler + " is not installed")
    output = tmp_path / name
    result = subprocess.run([compiler, *flags, "-o", output, source], capture_output=True, check=False)
    if result.returncode != 0:
        pytest.skip(compiler + " cannot build " + " ".join(flags))
    return output


def test_dynamic_program():
    assert examined("/bin/true") == (0, "yes", {"libc": "good"})
    output = otshim("doctor", "curl").stdout.splitlines()
    assert output[1] == "watchable: yes"


def test_excluded_program():
    """A shell is left out by default, by its own name whatever the link to it is called; a list of one's own replaces the default."""
    assert examined("/bin/sh", exclude=None) == (0, "partly", {"libc": "good", "excluded": "partly"})
    assert examined("/bin/true", exclude="sh, t?ue") == (0, "partly", {"libc": "good", "excluded": "partly"})
    assert examined("/bin/sh", exclude="cat:tr") == (0, "yes", {"libc": "good"})
    assert "OTSHIM_EXCLUDE=" in otshim("doctor", "sh").stdout


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"]])
def test_static_program(tmp_path, flags):
    assert examined(compiled(tmp_path, *flags)) == (1, "no", {"static": "bad"})


def test_musl_program(tmp_path):
    program = compiled(tmp_path, compiler="musl-gcc")
    assert examined(program) == (0, "yes", {"libc": "good"})
    assert "(musl)" in otshim("doctor", program).stdout


def test_32_bit_program(tmp_path):
    # A header is enough: 32-bit toolchains are rarely there.
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00\x01\x00\x00\x00" + bytes(16) + b"\x34\x00" + bytes(14))
    program.chmod(0o755)
    assert examined(program) == (1, "no", {"machine": "bad"})


def test_go_program(tmp_path):
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(go):
        pytest.skip("go is not installed")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() {}\n")
    env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", "program", "main.go"], cwd=tmp_path, env=env, check=True, timeout=300)
    assert examined(tmp_path / "program") == (1, "no", {"go": "bad"})
    assert "makes its system calls itself" in otshim("doctor", tmp_path / "program").stdout


def test_setuid_copy(tmp_path):
    program = shutil.copy("/bin/true", tmp_path / "true")
    os.chmod(program, 0o4755)
    # Ours: nothing is gained when we start it.
    assert examined(program)[:2] == (0, "partly")
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(program, 65534, 65534)
    os.chmod(program, 0o4755)
    assert examined(program) == (1, "no", {"libc": "good", "setuid": "bad"})
    assert "ignores LD_PRELOAD" in otshim("doctor", program).stdout


def test_script(tmp_path):
    script = tmp_path / "server"
    script.write_text("#!/usr/bin/python3 -u\n")
    script.chmod(0o755)
    status, verdict, codes = examined(script)
    assert (status, verdict) == (0, "yes")
    assert codes["script"] == "note" and codes["runtime"] == "note"
    output = otshim("doctor", script).stdout
    assert "/usr/bin/python3" in output and "asyncio" in output


def test_script_without_interpreter(tmp_path):
    script = tmp_path / "server"
    script.write_text("#!/opt/nowhere/python3\n")
    script.chmod(0o755)
    assert examined(script) == (2, "no", {"interpreter": "bad"})
    assert "/opt/nowhere/python3" in otshim("doctor", script).stdout


def test_not_there_and_not_executable(tmp_path):
    assert examined("no-such-program") == (2, "no", {"not-found": "bad"})
    assert examined(tmp_path / "nothing") == (2, "no", {"not-found": "bad"})
    (tmp_path / "file").write_text("x")
    assert examined(tmp_path / "file") == (2, "no", {"not-executable": "bad"})


def test_node():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    status, verdict, codes = examined(node)
    assert (status, verdict) == (0, "yes")
    assert codes["runtime"] == "note" and any(code in codes for code in ("tls-static", "tls-shared", "tls-openssl"))


def test_gnutls():
    wget = shutil.which("wget")
    if wget is None or b"libgnutls.so" not in open(wget, "rb").read():
        pytest.skip("there is no wget that is linked with GnuTLS")
    status, verdict, codes = examined(wget)
    assert (status, verdict, codes["tls-gnutls"]) == (0, "yes", "good")


def test_hostile_file_name(tmp_path):
    program = shutil.copy("/bin/true", tmp_path / "a\x1b[2Jb\n")
    output = otshim("doctor", program).stdout
    assert "\x1b" not in output and "\\x1b[2Jb\\n" in output


# ---- processes ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper():
    started = []

    def start(*command, **env):
        process = subprocess.Popen(command or ["sleep", "60"], env=clean_environment(**env), stderr=subprocess.DEVNULL)
        # until it has become the program that it is to be
        wait_until(lambda: os.readlink("/proc/%d/exe" % process.pid) != os.readlink("/proc/self/exe") or command)
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_process_without_the_library(sleeper):
    pid = sleeper()
    status, verdict, codes = examined(pid)
    assert (status, verdict) == (1, "no")
    assert codes == {"libc": "good", "not-loaded": "bad"}
    assert "otshim run" in otshim("doctor", str(pid)).stdout


def test_process_whose_library_is_not_there(sleeper):
    pid = sleeper(LD_PRELOAD="/opt/nowhere/libotshim.so")
    assert examined(pid)[:2] == (1, "no")
    assert "/opt/nowhere/libotshim.so, which does not exist" in otshim("doctor", str(pid)).stdout


def test_process_whose_library_has_no_path(sleeper):
    pid = sleeper(LD_PRELOAD="libotshim.so")
    assert "write the whole path" in otshim("doctor", str(pid)).stdout


def test_static_process(tmp_path, sleeper):
    source = tmp_path / "program.c"
    source.write_text("#include <unistd.h>\nint main(void) { return pause(); }\n")
    program = tmp_path / "program"
    if subprocess.run(["gcc", "-static", "-o", program, source], capture_output=True, check=False).returncode != 0:
        pytest.skip("gcc cannot build static programs")
    pid = sleeper(str(program), LD_PRELOAD=str(LIBRARY))
    wait_until(lambda: os.readlink("/proc/%d/exe" % pid) == str(program))
    status, verdict, codes = examined(pid)
    assert (status, verdict) == (1, "no")
    assert codes["static"] == "bad"


def wait_until_loaded(pid):
    wait_until(lambda: "libotshim" in open("/proc/%d/maps" % pid).read())


def needs_library():
    if not LIBRARY.exists():
        pytest.skip("libotshim.so is not built")


def test_process_with_the_library_and_no_exporter(tmp_path, sleeper):
    needs_library()
    pid = sleeper(LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=str(tmp_path / "none.sock"))
    wait_until_loaded(pid)
    status, verdict, codes = examined(pid, env=clean_environment(OTSHIM_HTTP="127.0.0.1:9"))
    assert (status, verdict) == (0, "partly")
    assert codes["loaded"] == "good" and codes["socket"] == "partly"
    assert str(tmp_path / "none.sock") in otshim("doctor", str(pid)).stdout


def test_process_with_the_library_and_an_exporter(exporter, sleeper):
    needs_library()
    pid = sleeper(sys.executable, "-c",
                  "import socket, threading, time, urllib.request, http.server as h\n"
                  "s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n"
                  "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
                  "urllib.request.urlopen('http://127.0.0.1:%d/' % s.server_port).read()\n"
                  "time.sleep(60)\n", LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=exporter.socket, OTEL_SERVICE_NAME="known-service")
    wait_until(lambda: exporter.json("/api/status")["processes"])
    status, verdict, codes = examined(pid, env=exporter.env)
    assert (status, verdict) == (0, "yes")
    assert codes["loaded"] == codes["known"] == "good"
    assert '"known-service"' in exporter.otshim("doctor", str(pid)).stdout


def test_process_that_has_sent_nothing_yet(exporter, sleeper):
    needs_library()
    pid = sleeper(LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=exporter.socket)
    wait_until_loaded(pid)
    status, verdict, codes = examined(pid, env=exporter.env)
    assert (status, verdict) == (0, "yes")
    assert codes["socket"] == "good" and codes["not-known"] == "note"


def test_process_that_wrote_over_its_environment(exporter, sleeper, tmp_path):
    needs_library()
    (tmp_path / "program.c").write_text("#include <string.h>\n#include <unistd.h>\n"
                                        "int main(int argc, char **argv, char **envp) { (void)argc; (void)argv;\n"
                                        "  for (char **e = envp; *e; e++) memset(*e, 0, strlen(*e)); return pause(); }\n")
    subprocess.run(["gcc", "-o", tmp_path / "program", tmp_path / "program.c"], check=True)
    pid = sleeper(str(tmp_path / "program"), LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=exporter.socket)
    wait_until_loaded(pid)
    wait_until(lambda: b"LD_PRELOAD" not in open("/proc/%d/environ" % pid, "rb").read())
    status, verdict, codes = examined(pid, env=exporter.env)
    assert (status, verdict) == (0, "yes")
    assert codes["loaded"] == "good" and codes["socket"] == "note"


def test_process_that_was_switched_off(exporter, sleeper):
    needs_library()
    pid = sleeper(LD_PRELOAD=str(LIBRARY), OTSHIM_SOCKET=exporter.socket, OTEL_SDK_DISABLED="true")
    wait_until_loaded(pid)
    status, verdict, codes = examined(pid, env=exporter.env)
    assert (status, verdict) == (1, "no")
    assert codes["disabled"] == "bad"


def test_no_such_process():
    result = otshim("doctor", "4194303")
    assert result.returncode == 2
    assert "does not exist" in result.stderr
