"""The certificate an RDP server shows is read without logging in."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daas.errors import NotYet
from daas.providers.rdp import REQUEST, rdp_tls_fingerprint

CONFIRM = bytes.fromhex("03000013 0ed00000123400 0200080001000000")
REFUSE = bytes.fromhex("03000013 0ed00000123400 0300080002000000")


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Talks to one client as told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(64) == REQUEST
                    talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.close()
        thread.join(2.0)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Path of key and certificate together, and the fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "desktop-abc234")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return str(path), hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


def test_the_fingerprint_is_that_of_the_certificate_shown(certificate: tuple[str, str]) -> None:
    path, fingerprint = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def talk(connection: socket.socket) -> None:
        connection.sendall(CONFIRM[:7])
        connection.sendall(CONFIRM[7:])
        context.wrap_socket(connection, server_side=True).close()

    with server(talk) as port:
        assert rdp_tls_fingerprint("127.0.0.1", port, 2.0) == fingerprint


@pytest.mark.parametrize("answer", [REFUSE, b"", CONFIRM[:5]])
def test_a_server_that_will_not_speak_tls_yet_is_waited_for(answer: bytes) -> None:
    with (
        server(lambda connection: connection.sendall(answer)) as port,
        pytest.raises(NotYet, match="TLS"),
    ):
        rdp_tls_fingerprint("127.0.0.1", port, 2.0)


def test_a_server_that_says_nothing_does_not_hold_us_up() -> None:
    with (
        server(lambda connection: threading.Event().wait(1.0) and None) as port,
        pytest.raises(NotYet),
    ):
        rdp_tls_fingerprint("127.0.0.1", port, 0.2)


def test_a_port_where_nobody_listens_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(NotYet):
        rdp_tls_fingerprint("127.0.0.1", port, 0.5)
