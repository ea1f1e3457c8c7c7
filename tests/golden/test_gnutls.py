"""https, seen above GnuTLS, as test_tls.py sees it above OpenSSL."""

import re

import programs
import pytest
import tls
from test_http2 import nginx_http2
from test_tls import handshakes, https_server

TRACEPARENT = rb"\['00-[0-9a-f]{32}-[0-9a-f]{16}-01'\]"


@pytest.fixture
def authority(lab):
    return tls.Authority(lab.directory)


def https(leaf, path):
    return leaf.url(path).replace("http:", "https:")


def mhd_server(lab, name, port):
    cert = tls.files(lab.directory)
    return [tls.compiled("mhd_server", "-lmicrohttpd"), port, cert.chain, cert.key]


def test_wget(lab, authority):
    leaf = lab.start(https_server, "leaf")
    done = lab.run([programs.need("wget"), "-q", "-O", "-", f"--ca-certificate={authority.files.authority}", https(leaf, "/echo")], "shell")
    assert re.fullmatch(TRACEPARENT, done.stdout), done.stderr
    forest = lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{leaf}/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
          leaf SERVER GET /echo 200
            leaf INTERNAL tls.handshake
        """
    )
    if forest:
        (handshake,) = [s for s in handshakes(forest) if s.service == "shell"]
        assert handshake.attributes["tls.protocol.name"] == "tls" and handshake.attributes["tls.protocol.version"] == "1.3"
        assert handshake.attributes["tls.cipher"].startswith("TLS_") and handshake.attributes["tls.resumed"] is False
        assert handshake.attributes["server.port"] == leaf.port


def test_wget_that_does_not_trust_the_certificate(lab, authority):
    """wget looks at it after the handshake, which is well."""
    leaf = lab.start(https_server, "leaf")
    done = lab.run([programs.need("wget"), "-q", "-O", "-", https(leaf, "/leaf/1")], "shell")
    assert done.returncode == 5 and done.stdout == b""
    lab.expect(
        """
        shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
        """
    )


def test_libcurl(lab, authority):
    """Two requests on one connection; the program's own push and pull functions; HTTP/2 is offered and not taken."""
    leaf = lab.start(https_server, "leaf")
    client = tls.compiled("curl_client", "-l:libcurl-gnutls.so.4")
    done = lab.run([client, authority.files.authority, https(leaf, "/echo"), https(leaf, "/leaf/2")], "shell")
    assert re.fullmatch(TRACEPARENT + rb"ok /leaf/2\n", done.stdout), done.stderr
    lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{leaf}/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
          leaf SERVER GET /echo 200
            leaf INTERNAL tls.handshake

        shell CLIENT GET https://127.0.0.1:{leaf}/leaf/2 200
          leaf SERVER GET /leaf/2 200
        """
    )


def test_libcurl_and_http2(lab, authority):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(nginx_http2(leaf, True), "front")
    client = tls.compiled("curl_client", "-l:libcurl-gnutls.so.4")
    done = lab.run([client, authority.files.authority, https(front, "/leaf/1"), https(front, "/here")], "shell")
    assert re.fullmatch(rb"ok /leaf/1\n00-[0-9a-f]{32}-[0-9a-f]{16}-01\n", done.stdout), done
    forest = lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{front}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{front}
          shell INTERNAL tls.handshake
          front SERVER GET /leaf/1 200
            front INTERNAL tls.handshake
            front INTERNAL tcp.connect 127.0.0.1:{leaf}
            front CLIENT GET http://backend/leaf/1 200
              leaf SERVER GET /leaf/1 200

        shell CLIENT GET https://127.0.0.1:{front}/here 200
          front SERVER GET /here 200
        """
    )
    if forest:
        assert {s.attributes["tls.next_protocol"] for s in handshakes(forest)} == {"h2"}


def test_packets(lab, authority):
    leaf = lab.start(mhd_server, "leaf")
    done = lab.run([tls.compiled("gnutls_client", "-lgnutls"), leaf.port, "/echo", authority.files.authority], "shell")
    assert re.search(rb"\r\n\r\nok 00-[0-9a-f]{32}-[0-9a-f]{16}-01\n$", done.stdout), done.stderr
    forest = lab.expect(
        """
        shell CLIENT GET https://localhost/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
          leaf SERVER GET /echo 200
            leaf INTERNAL tls.handshake
        """
    )
    if forest:
        assert all(s.attributes["tls.client.server_name"] == "localhost" for s in handshakes(forest))


def test_server(lab, authority):
    """libmicrohttpd; the client is one by OpenSSL."""
    leaf = lab.start(mhd_server, "leaf")
    done = lab.run([programs.need("curl"), "-sS", "--http1.1", https(leaf, "/echo"), https(leaf, "/leaf/2")], "shell", env=authority.env)
    assert re.fullmatch(rb"ok 00-[0-9a-f]{32}-[0-9a-f]{16}-01\nok /leaf/2\n", done.stdout), done.stderr
    forest = lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{leaf}/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
          leaf SERVER GET /echo 200
            leaf INTERNAL tls.handshake

        shell CLIENT GET https://127.0.0.1:{leaf}/leaf/2 200
          leaf SERVER GET /leaf/2 200
        """
    )
    if forest:
        servers = [s for s in forest.spans if s.kind == "SERVER"]
        assert all(s.attributes["url.scheme"] == "https" and s.attributes["client.address"] == "127.0.0.1" for s in servers)


@pytest.mark.parametrize("propagators", ["tracecontext", "none"])
def test_writes_that_are_repeated_without_naming_their_bytes(lab, authority, propagators):
    """With a traceparent put in, and (none) with GnuTLS holding what the program wrote itself, heads as well."""
    size = 100_000
    leaf = lab.start(mhd_server, "leaf", env={"OTEL_SDK_DISABLED": "true"})
    client = tls.compiled("gnutls_client", "-lgnutls")
    done = lab.run([client, leaf.port, "/echo", authority.files.authority, size], "shell", env={"OTEL_PROPAGATORS": propagators})
    parents = re.findall(rb"\r\n\r\n(.*) %d bytes\n" % size, done.stdout)
    assert len(parents) == 2 and all((parent == b"none") == (propagators == "none") for parent in parents), done.stdout
    assert done.stderr == b"7 calls, each repeated\n" * 2
    forest = lab.expect(
        """
        shell CLIENT POST https://localhost/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake

        shell CLIENT POST https://localhost/echo 200
        """
    )
    if forest:
        assert [s.attributes["http.request.body.size"] for s in forest.spans if s.kind == "CLIENT"] == [size] * 2


def test_a_certificate_that_nobody_vouches_for(lab, authority):
    leaf = lab.start(https_server, "leaf")
    done = lab.run([tls.compiled("gnutls_client", "-lgnutls"), leaf.port, "/leaf/1"], "shell")
    assert done.returncode == 1 and done.stderr == b"Error in the certificate verification.\n"
    forest = lab.expect(
        """
        shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake ERROR tls_handshake_failed

        leaf INTERNAL tls.handshake ERROR tls_handshake_failed
        """
    )
    if forest:
        words = {s.service: s.message for s in handshakes(forest)}
        assert words["shell"] == "The certificate issuer is unknown."
