"""Starts children in the ways of Python's standard library; what they did is compared with the untraced run."""
import multiprocessing
import os
import signal
import subprocess
import sys


def square(n):
    return n * n


def show(what, p):
    print(what, p.returncode, p.stdout, p.stderr)


if __name__ == "__main__":
    run = subprocess.run
    show("plain", run(["echo", "a"], capture_output=True))
    show("input", run(["cat"], input=b"x" * 200000, capture_output=True).stdout and run(["true"], capture_output=True))
    show("shell", run("echo $0; exit 3", shell=True, capture_output=True))
    show("own environment", run(["sh", "-c", "echo $A"], env={"A": "b", "PATH": os.environ["PATH"]}, capture_output=True))
    show("close_fds", run(["sh", "-c", "ls /proc/self/fd | wc -l"], close_fds=True, capture_output=True))
    show("new session", run(["true"], start_new_session=True, capture_output=True))
    show("directory", run(["pwd"], cwd="/", capture_output=True))
    show("preexec_fn", run(["sh", "-c", "umask"], preexec_fn=lambda: os.umask(0o27), capture_output=True))
    show("killed", run(["sh", "-c", "kill -9 $$"], capture_output=True))
    for name in ("no-such-program", "/etc/passwd", "/"):
        try:
            run([name], capture_output=True)
        except OSError as e:
            print(name, type(e).__name__, e.errno)
    try:
        run(["sleep", "5"], timeout=0.05)
    except subprocess.TimeoutExpired:
        print("timeout")
    print("system", os.system("exit 4"))
    with os.popen("echo popen") as f:
        print(f.read())
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    print("posix_spawn", os.waitpid(pid, 0)[1])
    pid = os.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "exit 6"])
    print("fork, exec", os.waitpid(pid, 0)[1])
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(3) as pool:
            print(method, pool.map(square, range(10)))
    processes = [subprocess.Popen(["sleep", "30"]) for _ in range(10)]
    for p in processes:
        p.send_signal(signal.SIGTERM)
    print("terminated", [p.wait() for p in processes])
    sys.stdout.flush()
