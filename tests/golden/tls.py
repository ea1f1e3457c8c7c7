"""A certificate authority for one laboratory: made by openssl when it is first asked for, gone with the laboratory's directory."""

import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import programs
import pytest


@dataclass
class Files:
    authority: Path
    chain: Path
    key: Path


def openssl(directory, *arguments):
    subprocess.run(["openssl", *(str(a) for a in arguments)], cwd=directory, check=True, capture_output=True, timeout=60)


def files(directory):
    """For localhost and 127.0.0.1."""
    made = Files(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    if made.chain.exists():
        return made
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(directory, "req", "-x509", *new_key, "-days", 2, "-keyout", "ca.key", "-out", made.authority, "-subj", "/CN=otshim tests",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(directory, "req", *new_key, "-keyout", made.key, "-out", "server.csr", "-subj", "/CN=localhost")
    (directory / "server.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(directory, "x509", "-req", "-in", "server.csr", "-CA", made.authority, "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
            "-extfile", "server.ext", "-out", made.chain)
    return made


def compiled(name, library):
    """A program of ours, linked with a library that need not be there."""
    source, made = programs.PROGRAMS / "tls" / f"{name}.c", programs.COMPILED / name
    if made.exists() and made.stat().st_mtime > source.stat().st_mtime:
        return made
    command = [os.environ.get("CC", "gcc"), "-std=gnu11", "-Wall", "-Wextra", source, "-o", made, library]
    done = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=60)
    if f"cannot find {library}" in done.stderr or "No such file or directory" in done.stderr:
        pytest.skip(f"{library} or its headers are not installed")
    assert done.returncode == 0, done.stderr
    return made


class Authority:
    def __init__(self, directory):
        self.files = files(directory)
        path = str(self.files.authority)
        # OpenSSL's own, and those of requests and curl
        self.env = {"SSL_CERT_FILE": path, "REQUESTS_CA_BUNDLE": path, "CURL_CA_BUNDLE": path}

    def client(self):
        return ssl.create_default_context(cafile=self.files.authority)

    def terminator(self, lab, name, port, backend):
        """An nginx that takes the encryption off and passes on."""
        http = f"""upstream backend {{ server 127.0.0.1:{backend} max_fails=0; keepalive 16; }}
            ssl_certificate {self.files.chain}; ssl_certificate_key {self.files.key};"""
        location = """location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }"""
        return programs.nginx(lab, name, port, http, location, listen="ssl http2")
