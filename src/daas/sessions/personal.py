"""What makes a desktop its own: a certificate, a host key, its user. Made before the machine is,
so that nothing of it costs time when it boots."""

import datetime
import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas.crypto import crypt_hash

RSA_BITS = 2048
NICE = 10
LIFE = datetime.timedelta(days=397)
SKEW = datetime.timedelta(days=1)  # clocks differ

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Personal:
    """`files` go to /var/lib/daas/personal of the guest; `fingerprint` is the certificate's."""

    files: dict[str, str]
    fingerprint: str

    def to_json(self) -> str:
        return json.dumps({"files": self.files, "fingerprint": self.fingerprint})

    @classmethod
    def from_json(cls, text: str) -> "Personal":
        return cls(**json.loads(text))


class KeyStock:
    """RSA keys made ahead: one takes 50 to 300 ms of a core, which is not for the hot path. RSA,
    because older RDP clients know no other certificate."""

    def __init__(self, size: int = 16):
        self._keys: deque[rsa.RSAPrivateKey] = deque()
        self._size, self._wanted = size, threading.Event()
        self._thread = threading.Thread(target=self._fill, name="keys", daemon=True)

    def start(self) -> None:
        self._wanted.set()
        self._thread.start()

    def take(self) -> rsa.RSAPrivateKey:
        try:
            return self._keys.popleft()
        except IndexError:
            return _rsa_key()
        finally:
            self._wanted.set()

    def _fill(self) -> None:
        # On Linux a thread has a niceness of its own: guests that boot meanwhile go before.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(0.5)  # the desktop that took one comes first
            while len(self._keys) < self._size:
                self._keys.append(_rsa_key())
                time.sleep(0.05)


class OneKey(KeyStock):
    """The same key for all: for guests that are not real, which nobody connects to."""

    def start(self) -> None:
        self._keys.append(_rsa_key())

    def take(self) -> rsa.RSAPrivateKey:
        return self._keys[0]


def make(name: str, user: str | None, password: str | None, stock: KeyStock) -> Personal:
    """Everything that is `name`'s own; with a local user if one is given."""
    key = stock.take()
    certificate = _certificate(name, key)
    host_key = ed25519.Ed25519PrivateKey.generate()
    public = host_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    ssh = host_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    files = {
        "hostname": f"{name}\n",
        "tls.key": pem.decode(),
        "tls.crt": certificate.public_bytes(Encoding.PEM).decode(),
        "ssh_host_ed25519_key": ssh.decode(),
        "ssh_host_ed25519_key.pub": f"{public.decode()} root@{name}\n",
    }
    if user and password:
        files["user"] = f"{user}:{crypt_hash(password)}\n"
    return Personal(files, certificate.fingerprint(hashes.SHA256()).hex())


def _certificate(name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - SKEW)
        .not_valid_after(today + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
