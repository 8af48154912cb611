"""Stored secrets: encrypted where they must be read again, hashed where not."""

import stat
import threading

import bcrypt
import pytest

from daas import crypto
from daas.crypto import Vault, make_secrets
from daas.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    make_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def test_what_was_sealed_can_be_opened_and_does_not_show(folder):
    vault = Vault(folder)
    sealed = vault.seal("hunter2 é")

    assert "hunter2" not in sealed and sealed != vault.seal("hunter2 é")
    assert Vault(folder).open(sealed) == "hunter2 é"


def test_the_key_of_another_installation_opens_nothing_and_says_why(folder, tmp_path):
    make_secrets(tmp_path / "other")
    sealed = Vault(tmp_path / "other").seal("hunter2")

    with pytest.raises(ConfigError, match="secrets/key") as error:
        Vault(folder).open(sealed)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_sealed_text_that_was_changed_is_refused(folder, cut):
    vault = Vault(folder)
    sealed = vault.seal("hunter2")
    with pytest.raises(ConfigError):
        vault.open(sealed[:cut] + ("A" if sealed[cut] != "A" else "B") + sealed[cut + 1 :])


def test_secrets_are_made_once_and_are_nobody_elses(folder):
    """Catches: a second `daas init` that makes all that is stored unreadable."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    make_secrets(folder)

    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_who_make_the_secrets_at_once_have_the_same_ones(tmp_path):
    barrier, ids = threading.Barrier(8), []

    def make(n):
        barrier.wait()
        ids.append(make_secrets(tmp_path / "s"))

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 8 and len(set(ids)) == 1
    assert {p.name for p in (tmp_path / "s").iterdir()} == {"key", "instance"}


def test_without_its_secrets_an_installation_says_what_to_run(tmp_path):
    with pytest.raises(ConfigError, match="daas init"):
        Vault(tmp_path)


def test_a_password_is_long_and_has_nothing_to_mistake():
    made = {crypto.password() for _ in range(200)}

    assert len(made) == 200 and {len(p) for p in made} == {16}
    assert not set("".join(made)) & set("0O1lIi'\"\\$:")


def test_what_the_guest_gets_is_a_hash_it_understands():
    hashed = crypto.crypt_hash("hunter2")

    assert hashed.startswith("$2b$") and "hunter2" not in hashed
    assert bcrypt.checkpw(b"hunter2", hashed.encode())


def test_a_password_longer_than_bcrypt_reads_is_no_error():
    long = "é" * 100
    assert bcrypt.checkpw(long.encode()[:72], crypto.crypt_hash(long).encode())


def test_a_token_is_stored_as_a_hash():
    assert crypto.token_hash("daas_x") == crypto.token_hash("daas_x")
    assert "daas_x" not in crypto.token_hash("daas_x") and len(crypto.token_hash("")) == 64
