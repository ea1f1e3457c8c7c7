"""Which CPythons are there? Those of pyenv, python3.X on the PATH (a free-threaded python3.Xt, too) and the system's own.

The library knows the contexts of 3.8 to 3.14; with any other it must leave calls without a parent, which is tested where there is one.

Run as a program it prints name and path of those that the library knows."""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SYSTEM = "/usr/bin/python3"
KNOWN = range(8, 15)
OTHERS = range(7, 20)  # asyncio.run() is of 3.7


@dataclass(frozen=True)
class Python:
    name: str  # "3.11", "3.13t"
    path: str  # "" if there is none

    @property
    def minor(self):
        return int(re.match(r"3\.(\d+)", self.name)[1])

    @property
    def known(self):
        return self.minor in KNOWN and not self.name.endswith("t")


def candidates():
    """pyenv's shims are shell scripts that find out again."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    directories = [*sorted((root / "versions").glob("3.*/bin"), reverse=True)]
    directories += [Path(d) for d in os.environ.get("PATH", "").split(":") if d and not d.endswith("/shims")]
    for minor in OTHERS:
        for suffix in ("", "t"):
            for directory in directories:
                path = directory / f"python3.{minor}{suffix}"
                if os.access(path, os.X_OK):
                    yield f"3.{minor}{suffix}", str(path)
                    break


def works(path):
    try:
        return subprocess.run([path, "-c", "import asyncio"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@lru_cache
def found():
    """One of each version; those that the library knows also if there is none (path "")."""
    there = {name: path for name, path in candidates() if works(path)}
    there.setdefault(f"3.{system_minor()}", SYSTEM)
    names = sorted({*there, *(f"3.{minor}" for minor in KNOWN)}, key=lambda name: (Python(name, "").minor, name))
    return [Python(name, there.get(name, "")) for name in names]


def system_minor():
    path = os.path.realpath(SYSTEM)
    named = re.search(r"python3\.(\d+)$", path)
    return int(named[1]) if named else 11


if __name__ == "__main__":
    for version in found():
        if version.known and version.path:
            print(version.name, version.path)
