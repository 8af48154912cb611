"""What makes a desktop its own."""

import ssl

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from daas.sessions import personal
from daas.sessions.personal import KeyStock, Personal
from support.world import OneKey


@pytest.fixture(scope="module")
def made():
    return personal.make("desktop-k3x9qa", "ada", "hunter2", OneKey())


def test_the_certificate_is_the_sessions_own_and_fits_its_key(made, tmp_path):
    certificate = x509.load_pem_x509_certificate(made.files["tls.crt"].encode())

    assert certificate.subject.rfc4514_string() == "CN=desktop-k3x9qa"
    assert certificate.fingerprint(hashes.SHA256()).hex() == made.fingerprint
    (tmp_path / "crt").write_text(made.files["tls.crt"])
    (tmp_path / "key").write_text(made.files["tls.key"])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "crt", tmp_path / "key")


def test_the_host_key_is_one_that_ssh_reads(made):
    text = made.files["ssh_host_ed25519_key"].encode()
    key = serialization.load_ssh_private_key(text, None)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )

    line = made.files["ssh_host_ed25519_key.pub"]
    assert line == f"{public.decode()} root@desktop-k3x9qa\n"


def test_the_user_is_a_name_and_a_hash(made):
    name, _, hashed = made.files["user"].strip().partition(":")

    assert name == "ada" and bcrypt.checkpw(b"hunter2", hashed.encode())
    assert not [t for t in made.files.values() if "hunter2" in t]


def test_without_a_local_user_there_is_no_such_file():
    assert "user" not in personal.make("desktop-a", None, "x", OneKey()).files


def test_two_desktops_share_nothing(made):
    other = personal.make("desktop-other", "ada", "hunter2", OneKey())
    same = [n for n in made.files if made.files[n] == other.files[n]]
    assert same == ["tls.key"]  # because this stock has one key


def test_it_survives_being_stored(made):
    assert Personal.from_json(made.to_json()) == made


def test_an_empty_stock_makes_a_key_and_gives_none_twice():
    stock = KeyStock()  # not started
    one, two = stock.take(), stock.take()
    assert one.key_size == 2048
    assert one.private_numbers().p != two.private_numbers().p
