"""Secrets: encrypted where we must be able to read them again, hashed where not. The keys are
files beside the database, mode 600, made by `daas init`."""

import base64
import hashlib
import os
import secrets
from pathlib import Path

import bcrypt
from cryptography.fernet import Fernet, InvalidToken

from daas.errors import ConfigError

ALPHABET = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # nothing to mistake


class Vault:
    """Encrypts what is stored. `folder` holds the key and the id of this installation."""

    def __init__(self, folder: Path):
        self._fernet = Fernet(_read(folder / "key"))
        self.instance = _read(folder / "instance").decode()

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise ConfigError(
                "A stored secret was encrypted with another key: restore secrets/key of the "
                "installation that this database belongs to."
            ) from None


def make_secrets(folder: Path) -> str:
    """Key and instance id exist in `folder`; return the id. Again changes nothing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_once(folder / "key", Fernet.generate_key())
    _write_once(folder / "instance", base64.b32encode(os.urandom(10)).lower())
    return (folder / "instance").read_text()


def password(length: int = 16) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def crypt_hash(text: str) -> str:
    """What /etc/shadow of the guest holds. Few rounds: it guards a desktop that lives for hours
    and, as a rule, 90 random bits."""
    return bcrypt.hashpw(text.encode()[:72], bcrypt.gensalt(rounds=6)).decode()


def token_hash(token: str) -> str:
    """A token has 256 random bits: nothing slower than SHA-256 is of use."""
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run `daas init` first.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None


def _write_once(path: Path, content: bytes) -> None:
    if path.exists():
        return
    new = path.with_suffix(f".{secrets.token_hex(4)}")
    new.touch(mode=0o600)
    new.write_bytes(content)
    try:
        os.link(new, path)  # fails if another process was first: its content stays
    except FileExistsError:
        pass
    finally:
        new.unlink()
