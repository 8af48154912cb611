"""The sections of a world file that are about people: users, groups, tokens, roles, pools, acl."""

from collections.abc import Callable, Mapping
from typing import Any

from pve_simulator.access.directory import (
    TOKEN_ID,
    AclNode,
    Directory,
    Pool,
    Realm,
    Token,
    User,
    UserGroup,
    is_acl_path,
    normalize,
)
from pve_simulator.formats import split_list

SECTIONS = ("users", "groups", "tokens", "roles", "realms", "pools", "acl")

USER_KEYS = ("enable", "expire", "firstname", "lastname", "email", "comment", "keys", "password")


class BadSection(ValueError):
    """The world file asks for something that cannot be; the text names the entry."""


def fill(directory: Directory, world: Mapping[str, Any], random_secret: Callable[[], str]) -> None:
    """Put all sections in. A later section may name what an earlier one made."""
    for row in world.get("realms") or []:
        _add_realm(directory, row)
    for row in world.get("users") or []:
        _add_user(directory, row)
    for row in world.get("groups") or []:
        _add_group(directory, row)
    for row in world.get("tokens") or []:
        _add_token(directory, row, random_secret)
    for row in world.get("roles") or []:
        directory.roles[_take(row, "roles", "id")] = frozenset(_words(row.get("privs")))
    for row in world.get("pools") or []:
        _add_pool(directory, row)
    for row in world.get("acl") or []:
        _add_acl(directory, row)


def _add_realm(directory: Directory, row: Mapping[str, Any]) -> None:
    options = {str(k): str(v) for k, v in row.items() if k not in ("id", "type", "comment")}
    name = _take(row, "realms", "id")
    directory.realms[name] = Realm(_take(row, "realms", "type"), row.get("comment", ""), options)


def _add_user(directory: Directory, row: Mapping[str, Any]) -> None:
    name = _take(row, "users", "id")
    _only(row, "users", "id", "groups", *USER_KEYS)
    values = {key: row[key] for key in USER_KEYS if key in row}
    for flag in ("enable", "expire"):
        if flag in values:
            values[flag] = int(values[flag])
    if "password" in values:
        values["password"] = str(values["password"])
    directory.users[name] = User(**values)
    for group in _words(row.get("groups")):
        directory.groups.setdefault(group, UserGroup()).users.add(name)


def _add_group(directory: Directory, row: Mapping[str, Any]) -> None:
    _only(row, "groups", "id", "comment", "users")
    group = directory.groups.setdefault(_take(row, "groups", "id"), UserGroup())
    group.comment = row.get("comment", "")
    group.users |= set(_words(row.get("users")))


def _add_token(
    directory: Directory, row: Mapping[str, Any], random_secret: Callable[[], str]
) -> None:
    _only(row, "tokens", "id", "secret", "privsep", "expire", "comment")
    name = _take(row, "tokens", "id")
    found = TOKEN_ID.match(name)
    if not found or found[1] not in directory.users:
        raise BadSection(f"tokens: {name!r} is not USER@REALM!NAME of a user of this world")
    directory.users[found[1]].tokens[found[4]] = Token(
        str(row.get("secret") or random_secret()),
        int(row.get("privsep", 1)),
        int(row.get("expire", 0)),
        row.get("comment", ""),
    )


def _add_pool(directory: Directory, row: Mapping[str, Any]) -> None:
    _only(row, "pools", "id", "comment", "vms", "storages")
    directory.pools[_take(row, "pools", "id")] = Pool(
        row.get("comment", ""),
        {int(vmid) for vmid in row.get("vms") or []},
        set(_words(row.get("storages"))),
    )


def _add_acl(directory: Directory, row: Mapping[str, Any]) -> None:
    _only(row, "acl", "path", "roles", "users", "groups", "tokens", "propagate")
    path = normalize(_take(row, "acl", "path"))
    if path is None or not is_acl_path(path):
        raise BadSection(f"acl: {row['path']!r} is no path of an ACL")
    node = directory.acl.setdefault(path, AclNode())
    for role in _words(row.get("roles")):
        if role not in directory.roles:
            raise BadSection(f"acl: {path}: there is no role {role!r}")
        for kind in ("user", "group", "token"):
            for name in _words(row.get(f"{kind}s")):
                given = node.holders.setdefault((kind, name), {})
                given[role] = int(row.get("propagate", 1))


def _words(value: Any) -> list[str]:
    """A list, or a string of words as the API takes it."""
    if value is None:
        return []
    return split_list(value) if isinstance(value, str) else [str(one) for one in value]


def _take(row: Mapping[str, Any], section: str, key: str) -> str:
    if row.get(key) in (None, ""):
        raise BadSection(f"{section}: an entry has no {key}")
    return str(row[key])


def _only(row: Mapping[str, Any], section: str, *keys: str) -> None:
    unknown = set(row) - set(keys)
    if unknown:
        raise BadSection(
            f"{section}: no such key: {', '.join(sorted(unknown))}; there are {', '.join(keys)}"
        )
