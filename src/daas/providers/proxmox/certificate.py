"""The certificate of our door to Proxmox: made once, for 127.0.0.1 alone, trusted by the Terraform
that we start and by nobody else."""

import fcntl
import os
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

FILE = "relay.pem"  # key and certificate, for its owner alone
VALID = timedelta(days=3650)
LAST_DAYS = timedelta(days=30)


def at(folder: Path) -> Path:
    """The file in `folder`, valid and the same for all processes of this host."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / FILE
    with (folder / f"{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_valid(file):
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as new:
                new.write(_made())
            os.replace(new.name, file)
    return file


def _is_valid(file: Path) -> bool:
    try:
        until = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return False
    return until - LAST_DAYS > datetime.now(UTC)


def _made() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "daas relay")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
