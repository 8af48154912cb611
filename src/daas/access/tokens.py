"""API tokens: shown once, stored hashed."""

import secrets

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as Db

from daas import crypto, events
from daas.access.actors import Actor, Role
from daas.db import Base, now
from daas.errors import Forbidden, NotFound, Unauthorized

PREFIX = "daas_"


class Token(Base):
    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)  # public: names the token, opens nothing
    hash: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]  # who it speaks for
    tenant: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


def create(db: Db, name: str, tenant: str, role: Role, actor: str) -> tuple[Token, str]:
    """A token exists for `name`; return it and its text, which is not kept anywhere."""
    text = PREFIX + secrets.token_urlsafe(32)
    token = Token(
        id="token-" + secrets.token_hex(4),
        hash=crypto.token_hash(text),
        name=name,
        tenant=tenant,
        role=role.value,
        created_at=db.scalar(select(now())) or 0.0,
    )
    db.add(token)
    events.record(db, token.id, "", "created", actor, f"for {name} ({role})", tenant)
    return token, text


def actor_of(db: Db, text: str) -> Actor:
    """Whose token that is; Unauthorized if it is nobody's, or revoked."""
    token = db.scalar(select(Token).where(Token.hash == crypto.token_hash(text)))
    if token is None or token.revoked_at is not None:
        raise Unauthorized(
            "This token is not known or was revoked; make one with `daas token create`."
        )
    return Actor(token.name, token.tenant, Role(token.role))


def mine(db: Db, actor: Actor) -> list[Token]:
    """The tokens that `actor` may see, newest first."""
    rows = select(Token).order_by(Token.created_at.desc(), Token.id)
    if not actor.is_operator:
        rows = rows.where(Token.tenant == actor.tenant)
    if not actor.is_admin:
        rows = rows.where(Token.name == actor.name)
    return list(db.scalars(rows))


def revoke(db: Db, actor: Actor, token_id: str) -> Token:
    """The token opens nothing any more. Again changes nothing."""
    token = db.get(Token, token_id)
    if token is None or not actor.sees(token.tenant):
        raise NotFound(f"There is no token {token_id}.")
    if not actor.may_act_for(token.name, token.tenant):
        raise Forbidden(f"Token {token_id} is not yours.")
    gone = update(Token).where(Token.id == token_id, Token.revoked_at.is_(None))
    db.execute(gone.values(revoked_at=now()))
    events.record(db, token.id, "valid", "revoked", actor.name, "revoked", token.tenant)
    return token


def has_any(db: Db) -> bool:
    return db.scalar(select(Token.id).limit(1)) is not None
