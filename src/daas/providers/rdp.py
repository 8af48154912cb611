"""What an RDP server shows before anybody logs in: that it accepts, and its TLS certificate."""

import hashlib
import socket
import ssl

from daas.errors import NotYet

# X.224 connection request that asks for TLS, nothing else (MS-RDPBCGR 2.2.1.1).
REQUEST = bytes.fromhex("03000013 0ee00000000000 0100080001000000")
CONFIRM_LENGTH = 19
ACCEPTED = 2  # type byte of a negotiation response; 3 is a failure


def rdp_tls_fingerprint(host: str, port: int, timeout_s: float) -> str:
    """Return the SHA-256 (hex) of the certificate that the server shows. NotYet while it does
    not answer, or will not speak TLS (xrdp that has no certificate yet)."""
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            plain.settimeout(timeout_s)
            _negotiate(plain)
            with _any_certificate().wrap_socket(plain, server_hostname=host) as tls:
                shown = tls.getpeercert(binary_form=True) or b""
    except (OSError, EOFError) as error:  # ssl.SSLError is an OSError
        raise NotYet(0.1, "the desktop's RDP port to speak TLS") from error
    return hashlib.sha256(shown).hexdigest()


def _negotiate(plain: socket.socket) -> None:
    plain.sendall(REQUEST)
    answer = b""
    while len(answer) < CONFIRM_LENGTH:
        part = plain.recv(CONFIRM_LENGTH - len(answer))
        if not part:
            raise EOFError
        answer += part
    if answer[11] != ACCEPTED:
        raise NotYet(0.5, "the desktop's RDP port to accept TLS")


def _any_certificate() -> ssl.SSLContext:
    """The caller compares the fingerprint with the one it made: no authority is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
