"""TLS and client certificates, for gRPC."""

import subprocess

import grpc
import pytest
from peers import GrpcPeer


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, a certificate for 127.0.0.1 and one for a client."""
    where = tmp_path_factory.mktemp("pki")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=test CA", "-days", "2", cwd=where)
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        (where / f"{name}.ext").write_text(extension)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", cwd=where)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem",
                "-days", "2", "-extfile", f"{name}.ext", cwd=where)
    return where


def peer(pki, want_client):
    pair = [((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())]
    ca = (pki / "ca.pem").read_bytes()
    return GrpcPeer(credentials=grpc.ssl_server_credentials(pair, ca if want_client else None, want_client))


def env(pki, **more):
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_CERTIFICATE": pki / "ca.pem", **more}


def test_tls(send, pki):
    with peer(pki, False) as server:
        result = send(f"https://127.0.0.1:{server.port}", 3000, 1, 300, **env(pki))
        assert result["exported"] == 3000 and result["failures"] == 0 and len(server.peers) <= 2


def test_address_without_a_scheme_means_tls(send, pki):
    with peer(pki, False) as server:
        assert send(f"127.0.0.1:{server.port}", 10, **env(pki))["exported"] == 10


def test_client_certificate(send, pki):
    with peer(pki, True) as server:
        result = send(f"https://127.0.0.1:{server.port}", 10,
                      **env(pki, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=pki / "client.pem", OTEL_EXPORTER_OTLP_CLIENT_KEY=pki / "client.key"))
        assert result["exported"] == 10


def test_unknown_ca_is_explained(send, pki):
    with peer(pki, False) as server:
        result = send(f"https://127.0.0.1:{server.port}", 10,
                      **{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_BSP_EXPORT_TIMEOUT": 500})
        assert result["dropped_expired"] == 10
        assert "is not to be trusted" in result["log"][0] and "OTEL_EXPORTER_OTLP_CERTIFICATE" in result["log"][0]


def test_plain_text_behind_https_is_explained(send, pki):
    with GrpcPeer() as server:
        result = send(f"127.0.0.1:{server.port}", 10, **env(pki, OTEL_BSP_EXPORT_TIMEOUT=500))
        assert result["dropped_expired"] == 10 and "http://" in result["log"][0]
