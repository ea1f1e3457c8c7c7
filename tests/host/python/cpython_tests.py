"""CPython's own tests, with the library and without it: is each case's verdict the same?

    cpython_tests.py BUILD_DIR PYTHON [MODULE...]       opt-in, for it takes half an hour: run.sh and `make check` leave it out

A case whose verdict differs is run again alone, both ways and up to RETRIES times: some depend on the time or on what else the machine does. It
counts as different if the library never gets a verdict that the bare run had. Prints "ok", "FAIL" or "skip" for each module, and each
difference. Exit status 1 if there is a FAIL."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

MODULES = ["test_asyncio", "test_context", "test_contextlib_async", "test_ssl", "test_socket", "test_threading", "test_thread", "test_subprocess",
           "test_concurrent_futures", "test_queue", "test_select", "test_selectors", "test_socketserver", "test_httpservers", "test_httplib",
           "test_urllib2_localnet", "test_signal", "test_fork1", "test_posix"]
# What does not come to an end without the library either: sockets of a virtual machine that has the device and nobody behind it; a recursion without
# bounds that is interrupted after a second, or not, on a busy machine.
IGNORED = ["*VSOCK*", "test_print_exception_gh_102056"]
RETRIES = 3
SECONDS = 900


class Lab:
    def __init__(self, build, python):
        self.library, self.python = Path(build).resolve() / "libotshim.so", python
        self.directory = Path(tempfile.mkdtemp(prefix="otshim-cpython-"))

    def run(self, module, watched, case=None):
        """{case: verdict}; the verdict of a run that did not come to its end is under the name "(the run)"."""
        report = self.directory / "report.xml"
        report.unlink(missing_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OTSHIM_", "PYTHON", "VIRTUAL_ENV")) and k != "LD_PRELOAD"}
        env["LC_ALL"] = "C.UTF-8"
        if watched:
            env |= {"LD_PRELOAD": str(self.library), "OTSHIM_SOCKET": str(self.directory / "none.sock"), "OTSHIM_EXCLUDE": ""}
        argv = [self.python, "-m", "test", "--junit-xml", report, *(["-m", case] if case else []),
                *(word for pattern in IGNORED for word in ("-i", pattern)), module]
        try:
            done = subprocess.run([str(a) for a in argv], env=env, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  errors="replace", timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return {"(the run)": f"not done in {SECONDS} s"}
        if not report.exists():
            return {"(the run)": f"status {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"}
        return verdicts(report)


def verdicts(report):
    found = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        problems = {child.tag for child in case if child.tag in ("failure", "error", "skipped")}
        found[case.get("name")] = "+".join(sorted(problems)) or "passed"
    return found


def same_after_all(lab, module, case):
    """Alone, is there a verdict that both ways have come to?"""
    bare, watched = set(), set()
    name = case.split("(")[-1].rstrip(")") if "(" in case else case
    for _ in range(RETRIES):
        bare.add(lab.run(module, False, name).get(case, "not run"))
        watched.add(lab.run(module, True, name).get(case, "not run"))
        if bare & watched:
            return True
    return False


def compare(lab, module):
    bare, watched = lab.run(module, False), lab.run(module, True)
    if "(the run)" in bare:
        print(f"skip cpython {module}: bare, {bare['(the run)']}", flush=True)
        return True
    differ = [case for case in sorted(bare.keys() | watched.keys()) if bare.get(case, "not run") != watched.get(case, "not run")]
    lasting = differ if "(the run)" in watched or len(differ) > 50 else [case for case in differ if not same_after_all(lab, module, case)]
    for case in differ:
        print(f"  {'differs' if case in lasting else 'differed once'}: {case}: bare {bare.get(case, 'not run')}, watched {watched.get(case, 'not run')}")
    counts = {verdict: list(bare.values()).count(verdict) for verdict in sorted(set(bare.values()))}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if lasting:
        print(f"FAIL cpython {module}: {len(lasting)} of {len(bare)} cases differ", flush=True)
    else:
        print(f"ok cpython {module} ({told}, both ways)", flush=True)
    return not lasting


def main():
    lab = Lab(sys.argv[1], sys.argv[2])
    return 0 if all([compare(lab, module) for module in sys.argv[3:] or MODULES]) else 1


if __name__ == "__main__":
    sys.exit(main())
