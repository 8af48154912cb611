"""Users, groups, roles, ACL and pools, and what they let somebody do on a path.

The rules are user.cfg's: the deepest entry wins, a token's over a user's over a group's; NoAccess
ends all; a pool's roles reach its members; a separated token has at most what its user has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pve_simulator.access.privileges import special_roles
from pve_simulator.api import Failed, Forbidden
from pve_simulator.formats import BadFormat, check_user

ROOT = "root@pam"
Permissions = dict[str, int]  # privilege to whether it also holds below the path

TOKEN_ID = re.compile(r"^(([^\s:/]+)@([A-Za-z][A-Za-z0-9.\-_]+))!([A-Za-z][A-Za-z0-9.\-_]+)$")
TOP_PATHS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")


@dataclass
class Token:
    secret: str = ""
    privsep: int = 1
    expire: int = 0
    comment: str = ""
    is_hidden: bool = False  # the library's own: works, and is listed nowhere


@dataclass
class User:
    enable: int = 1
    expire: int = 0
    firstname: str = ""
    lastname: str = ""
    email: str = ""
    comment: str = ""
    keys: str = ""
    password: str | None = None
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass
class UserGroup:
    comment: str = ""
    users: set[str] = field(default_factory=set)


@dataclass
class Pool:
    comment: str = ""
    vms: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass
class Realm:
    type: str
    comment: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class AclNode:
    """Of each holder (`user`, `group` or `token`, and its name) the roles, with propagation."""

    holders: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)


class Directory:
    """What /etc/pve/user.cfg and domains.cfg hold."""

    def __init__(self, major: int) -> None:
        self.users: dict[str, User] = {ROOT: User()}
        self.groups: dict[str, UserGroup] = {}
        self.roles: dict[str, frozenset[str]] = dict(special_roles(major))
        self.acl: dict[str, AclNode] = {}
        self.pools: dict[str, Pool] = {}
        self.realms = {
            "pam": Realm("pam", "Linux PAM standard authentication"),
            "pve": Realm("pve", "Proxmox VE authentication server"),
        }
        self._special = special_roles(major)

    # -- looking up ----------------------------------------------------------------------------

    def user(self, name: str) -> User:
        try:
            check_user(name)
        except BadFormat as error:
            raise Failed(str(error)) from None
        if name not in self.users:
            raise Failed(f"no such user ('{name}')")
        return self.users[name]

    def token(self, user: str, name: str) -> Token:
        tokens = self.user(user).tokens
        if name not in tokens:
            raise Failed(f"no such token '{name}' for user '{user}'")
        return tokens[name]

    def groups_of(self, user: str) -> list[str]:
        return sorted(name for name, group in self.groups.items() if user in group.users)

    def is_special(self, role: str) -> bool:
        return role in self._special

    def pool_of(self, vmid: int) -> str | None:
        return next((name for name, pool in self.pools.items() if vmid in pool.vms), None)

    # -- permissions ---------------------------------------------------------------------------

    def permissions(self, who: str, path: str) -> Permissions:
        """The privileges of a user or token on a path."""
        if who == ROOT:
            return dict.fromkeys(self.roles["Administrator"], 1)
        token = TOKEN_ID.match(who)
        if token is None:
            return self._privileges(who, path)
        owner, name = token[1], token[4]
        info = self.users[owner].tokens.get(name) if owner in self.users else None
        if info is None:
            return {}
        of_owner = self.permissions(owner, path)
        if not info.privsep:
            return of_owner
        own = self._privileges(who, path)
        if owner == ROOT:
            return own
        return {p: int(bool(own[p] and of_owner[p])) for p in own if p in of_owner}

    def effective(self, who: str) -> dict[str, Permissions]:
        """The permissions on every path that somebody or something is named on."""
        paths = dict.fromkeys([*TOP_PATHS, *self.acl_paths()])
        for pool in self.pools.values():
            paths |= dict.fromkeys(f"/vms/{vmid}" for vmid in sorted(pool.vms))
            paths |= dict.fromkeys(f"/storage/{storage}" for storage in sorted(pool.storages))
        found = {path: self.permissions(who, path) for path in paths}
        return {path: permissions for path, permissions in found.items() if permissions}

    def acl_paths(self) -> list[str]:
        """The paths of the ACL tree, those in between included."""
        paths = {"/"}
        for path in self.acl:
            paths |= {"/" + "/".join(parts) for parts in _prefixes(path)}
        return sorted(paths)

    def _privileges(self, who: str, path: str) -> Permissions:
        privileges: Permissions = {}
        for role, propagates in self._roles_with_pools(who, path).items():
            for privilege in self.roles.get(role, ()):
                privileges[privilege] = privileges.get(privilege) or propagates
        return privileges

    def _roles_with_pools(self, who: str, path: str) -> dict[str, int]:
        roles = self._roles(who, path)
        from_pools = self._pool_roles(who, path)
        if not from_pools or "NoAccess" in roles:
            return roles
        if "NoAccess" in from_pools:
            return {"NoAccess": 0}
        return {**dict.fromkeys(from_pools, 0), **roles}

    def _pool_roles(self, who: str, path: str) -> set[str]:
        kind, _, name = path.removeprefix("/").partition("/")
        found: set[str] = set()
        for pool_name, pool in self.pools.items():
            is_member = (kind == "vms" and name.isdecimal() and int(name) in pool.vms) or (
                kind == "storage" and name in pool.storages
            )
            if is_member:
                found |= set(self._roles(who, f"/pool/{pool_name}"))
        return found

    def _roles(self, who: str, path: str) -> dict[str, int]:
        roles: dict[str, int] = {}
        steps = ["/"] if path == "/" else ["/", *_steps(path)]
        for step in steps:
            node = self.acl.get(step)
            if node is not None:
                roles = self._roles_at(node, who, is_last=step == steps[-1]) or roles
        return {"NoAccess": roles["NoAccess"]} if "NoAccess" in roles else roles

    def _roles_at(self, node: AclNode, who: str, *, is_last: bool) -> dict[str, int]:
        def applying(kind: str, name: str) -> dict[str, int]:
            given = node.holders.get((kind, name), {})
            return {role: flag for role, flag in given.items() if is_last or flag}

        own = applying("token", who) or applying("user", who)
        if own:
            return own
        merged: dict[str, int] = {}
        for group in self.groups_of(who):
            merged |= applying("group", group)
        return merged

    # -- changing ------------------------------------------------------------------------------

    def forget(self, kind: str, name: str) -> None:
        """Take a holder out of the whole ACL."""
        for node in self.acl.values():
            node.holders.pop((kind, name), None)

    def remove_user(self, name: str) -> None:
        user = self.users.pop(name, None)
        for group in self.groups.values():
            group.users.discard(name)
        self.forget("user", name)
        for token in user.tokens if user else ():
            self.forget("token", f"{name}!{token}")

    def remove_vm(self, vmid: int) -> None:
        self.acl.pop(f"/vms/{vmid}", None)
        for pool in self.pools.values():
            pool.vms.discard(vmid)

    def need_pool(self, name: str) -> Pool:
        if name not in self.pools:
            raise Forbidden(f"Permission check failed (pool '{name}' does not exist)")
        return self.pools[name]


def normalize(path: str | None) -> str | None:
    """A path as the ACL has it, None for one that cannot be."""
    if not path:
        return None
    path = re.sub(r"/+", "/", path).removesuffix("/") or "/"
    path = path if path.startswith("/") else f"/{path}"
    return path if re.search(r"^[A-Za-z0-9.\-_/]+$", path) else None


_NAME = r"[A-Za-z0-9.\-_]+"
_ACL_PATH = re.compile(
    rf"/|/access|/access/(groups|realm)(/{_NAME})?|/nodes(/{_NAME})?"
    rf"|/pool|/pool/{_NAME}(/{_NAME}){{0,2}}"
    r"|/sdn|/sdn/controllers(/[A-Za-z0-9_\-]+)?|/sdn/(dns|ipams)(/[A-Za-z0-9]+)?"
    rf"|/sdn/zones|/sdn/zones/{_NAME}(/{_NAME}(/[1-9][0-9]{{0,3}})?)?"
    rf"|/storage(/{_NAME})?|/vms|/vms/[1-9][0-9]{{2,}}|/mapping(/{_NAME}){{0,2}}"
)


def is_acl_path(path: str) -> bool:
    return bool(_ACL_PATH.fullmatch(path))


def _steps(path: str) -> list[str]:
    return ["/" + "/".join(parts) for parts in _prefixes(path)]


def _prefixes(path: str) -> Iterator[list[str]]:
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        yield parts[:count]
