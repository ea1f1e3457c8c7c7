import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import lab as laboratory


@pytest.fixture
def bench():
    """A laboratory whose exporter is not started yet: the test says how."""
    made = laboratory.Lab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lab(bench):
    bench.start_exporter()
    return bench


def pytest_sessionstart(session):
    if not laboratory.BARE:
        for artefact in (laboratory.LIBRARY, laboratory.OTSHIM):
            if not artefact.exists():
                pytest.exit(f"{artefact} is not there: run make first", returncode=4)
    build_programs()


def build_programs():
    """The programs of ours that need a compiler, into build/tests/golden."""
    out = laboratory.BUILD / "tests" / "golden"
    out.mkdir(parents=True, exist_ok=True)
    cc = os.environ.get("CC", "gcc")
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer", "-rdynamic", "-Wall", "-Wextra"]
    for source in laboratory.PROGRAMS.glob("*.c"):
        make(out / source.stem, source, [cc, *flags, source, "-o", out / source.stem, "-lpthread"])
    if shutil.which("javac"):
        for source in laboratory.PROGRAMS.glob("*.java"):
            make(out / f"{source.stem}.class", source, ["javac", "-d", out, source])


def make(target, source, argv):
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([str(a) for a in argv], check=True)
