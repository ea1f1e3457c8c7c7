"""Help, versions, wrong usage: what a person meets first."""

import re

import pytest
from conftest import otshim

SUBCOMMANDS = ["run", "exporter", "traces", "trace", "status", "doctor"]


def test_help_lists_every_subcommand():
    for flag in ("--help", "-h", "help"):
        result = otshim(flag)
        assert result.returncode == 0
        for name in SUBCOMMANDS:
            assert re.search(r"^  %s " % name, result.stdout, re.M)


def test_version():
    result = otshim("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"otshim \d+\.\d+\.\d+\n", result.stdout)


def test_no_subcommand_is_wrong_usage():
    result = otshim()
    assert result.returncode == 2
    assert result.stdout == ""
    assert "usage:" in result.stderr


def test_unknown_subcommand_says_what_there_is():
    result = otshim("gunicorn")
    assert result.returncode == 2
    assert "otshim --help" in result.stderr and "otshim run -- gunicorn" in result.stderr


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_has_help_with_an_example(name):
    result = otshim(name, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: otshim " + name)
    assert "example: " in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_unknown_option(name):
    result = otshim(name, "--no-such-option")
    assert result.returncode == 2
    assert "--help" in result.stderr


@pytest.mark.parametrize("args", [["run"], ["trace"], ["trace", "a", "b"], ["trace", "xyz"], ["trace", "abc"], ["status", "x"], ["traces", "x"],
                                  ["doctor"], ["doctor", "a", "b"], ["exporter", "x"], ["exporter", "--ready-fd", "77"],
                                  ["exporter", "--ready-fd", "x"], ["traces", "--limit", "x"], ["traces", "--limit", "-1"],
                                  ["traces", "--min-duration", "fast"]])
def test_wrong_usage(args):
    result = otshim(*args)
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr != ""


@pytest.mark.parametrize("args", [["status"], ["traces"], ["trace", "latest"], ["trace", "abcdef"], ["status", "--json"], ["traces", "--follow"]])
def test_without_exporter(args, quiet_env):
    result = otshim(*args, env=quiet_env)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "no exporter answers at http://127.0.0.1:9" in result.stderr
    assert "otshim exporter" in result.stderr and "OTSHIM_HTTP" in result.stderr


@pytest.mark.parametrize("args", [["status"], ["traces"], ["trace", "latest"]])
def test_address_that_is_none(args, quiet_env):
    result = otshim(*args, env={**quiet_env, "OTSHIM_HTTP": "nonsense"})
    assert result.returncode == 2
    assert "OTSHIM_HTTP" in result.stderr and "nonsense" in result.stderr
    result = otshim(*args, env={**quiet_env, "OTSHIM_HTTP": "off"})
    assert result.returncode == 2
    assert "off" in result.stderr
