"""/access: tickets, passwords, permissions, groups, roles, realms and the ACL."""

import re
from typing import Any

from pve_simulator.access.directory import (
    ROOT,
    TOKEN_ID,
    AclNode,
    Directory,
    Permissions,
    Realm,
    UserGroup,
    is_acl_path,
    normalize,
)
from pve_simulator.access.privileges import all_privileges
from pve_simulator.access.rules import refused
from pve_simulator.api import ApiError, Failed, Invalid
from pve_simulator.dispatch import Call
from pve_simulator.endpoints.users import directory_of
from pve_simulator.formats import split_list
from pve_simulator.router import endpoint

Row = dict[str, Any]

SUBDIRS = ("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password")
CAPABILITIES = {
    "vms": r"VM\.|Permissions\.Modify",
    "access": r"(User|Group)\.|Permissions\.Modify",
    "storage": r"Datastore\.|Permissions\.Modify",
    "nodes": r"Sys\.|Permissions\.Modify",
    "sdn": r"SDN\.|Permissions\.Modify",
    "dc": r"Sys\.Audit|Sys\.Modify|SDN\.",
    "mapping": r"Mapping\.|Permissions.Modify",
}


@endpoint("GET", "/access")
def index(call: Call) -> list[Row]:
    return [{"subdir": name} for name in SUBDIRS]


@endpoint("GET", "/access/ticket")
def login_page(call: Call) -> None:
    """A dummy that real ones have, too."""


@endpoint("POST", "/access/ticket", protected=True, latency="login")
def create_ticket(call: Call) -> Row:
    """A ticket, its CSRF token, and what the user may do in which part of the surface."""
    name = str(call.params["username"])
    if call.params.get("realm"):
        name += f"@{call.params['realm']}"
    access = call.cluster.access
    access.login.login(name, str(call.params["password"]))
    if call.params.get("path"):
        row: Row = _verified(call, name)
    else:
        row = {
            "username": name,
            "ticket": access.login.ticket(name),
            "CSRFPreventionToken": access.login.csrf_token(name),
        }
    directory = directory_of(call)
    row["cap"] = _capabilities(directory, name)
    if call.cluster.name and "Sys.Audit" in directory.permissions(name, "/"):
        row["clustername"] = call.cluster.name
    return row


def _verified(call: Call, name: str) -> Row:
    path = normalize(call.params["path"])
    wanted = split_list(str(call.params["privs"]))
    held = directory_of(call).permissions(name, path) if path else {}
    if not wanted or not all(privilege in held for privilege in wanted):
        raise ApiError(401, "authentication failure", delay_s=3.0)
    return {"username": name}


def _capabilities(directory: Directory, name: str) -> Row:
    found: dict[str, Permissions] = {area: {} for area in CAPABILITIES}
    top = ["/", "/nodes", "/access/groups", "/vms", "/storage", "/sdn", "/mapping"]
    for path in dict.fromkeys([*top, *directory.acl_paths()]):
        held = directory.permissions(name, path)
        area = path.split("/")[1] or "dc"
        if area == "pool":
            _add_pool_capabilities(found, held)
        elif area in CAPABILITIES:
            found[area] |= {p: 1 for p in held if re.match(CAPABILITIES[area], p)}
    return dict(found)


def _add_pool_capabilities(found: dict[str, Permissions], held: Permissions) -> None:
    for privilege in held:
        if privilege.startswith("VM.") or privilege == "Permissions.Modify":
            found["vms"][privilege] = 1
        if privilege.startswith("Datastore.") or privilege == "Permissions.Modify":
            found["storage"][privilege] = 1


@endpoint("PUT", "/access/password", protected=True)
def change_password(call: Call) -> None:
    name, who = str(call.params["userid"]), call.identity.name
    directory = directory_of(call)
    user = directory.user(name)
    if name == ROOT and who != ROOT:
        raise refused()
    if who != ROOT:
        confirmation = call.params.get("confirmation-password")
        if confirmation is None:
            raise Invalid(**{"confirmation-password": "password is required to modify user"})
        call.cluster.access.login.login(who, confirmation)
        if who != name and name.endswith("@pam"):
            raise refused()
    user.password = str(call.params["password"])


@endpoint("GET", "/access/permissions")
def permissions(call: Call) -> Row:
    """Path to privilege to whether it is propagated, of oneself or of another user or token."""
    who = str(call.params.get("userid") or call.identity.name)
    owner = TOKEN_ID.match(who)
    me = call.identity.name
    if who != me and not (owner and owner[1] == me):
        call.cluster.access.require(call.identity, "/access", "Sys.Audit")
    path = call.params.get("path")
    directory = directory_of(call)
    if path:
        return {path: directory.permissions(who, path)}
    return dict(directory.effective(who))


# -- groups ------------------------------------------------------------------------------------


@endpoint("GET", "/access/groups")
def list_groups(call: Call) -> list[Row]:
    privileges = ("User.Modify", "Sys.Audit", "Group.Allocate")
    return [
        {"groupid": name, **_comment(group), "users": ",".join(sorted(group.users))}
        for name, group in directory_of(call).groups.items()
        if call.cluster.access.has(call.identity, f"/access/groups/{name}", *privileges)
    ]


@endpoint("POST", "/access/groups", protected=True)
def create_group(call: Call) -> None:
    name, groups = call.params["groupid"], directory_of(call).groups
    with call.cluster.access.change("create group failed"):
        if name in groups:
            raise Failed(f"group '{name}' already exists")
        groups[name] = UserGroup(call.params.get("comment", ""))


@endpoint("GET", "/access/groups/{groupid}")
def read_group(call: Call) -> Row:
    group = _group(call)
    return {"members": sorted(group.users), **_comment(group)}


@endpoint("PUT", "/access/groups/{groupid}", protected=True)
def update_group(call: Call) -> None:
    with call.cluster.access.change("update group failed"):
        group = _group(call)
        group.comment = call.params.get("comment", group.comment)


@endpoint("DELETE", "/access/groups/{groupid}", protected=True)
def delete_group(call: Call) -> None:
    with call.cluster.access.change("delete group failed"):
        _group(call)
        del directory_of(call).groups[call.params["groupid"]]
        directory_of(call).forget("group", call.params["groupid"])


def _group(call: Call) -> UserGroup:
    name = call.params["groupid"]
    found = directory_of(call).groups.get(name)
    if found is None:
        raise Failed(f"group '{name}' does not exist")
    return found


def _comment(thing: UserGroup) -> Row:
    return {"comment": thing.comment} if thing.comment else {}


# -- roles -------------------------------------------------------------------------------------


@endpoint("GET", "/access/roles")
def list_roles(call: Call) -> list[Row]:
    directory = directory_of(call)
    return [
        # `special` is a Perl truth: 1, or the empty string.
        {
            "roleid": name,
            "privs": ",".join(sorted(privileges)),
            "special": 1 if directory.is_special(name) else "",
        }
        for name, privileges in directory.roles.items()
    ]


@endpoint("GET", "/access/roles/{roleid}")
def read_role(call: Call) -> Row:
    return dict.fromkeys(sorted(_role(call)), 1)


@endpoint("POST", "/access/roles", protected=True)
def create_role(call: Call) -> None:
    name, roles = call.params["roleid"], directory_of(call).roles
    if name.lower().startswith("pve"):
        text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"
        raise Invalid(roleid=text)
    with call.cluster.access.change("create role failed"):
        if name in roles:
            raise Failed(f"role '{name}' already exists")
        roles[name] = _privileges(call)


@endpoint("PUT", "/access/roles/{roleid}", protected=True)
def update_role(call: Call) -> None:
    name = call.params["roleid"]
    if directory_of(call).is_special(name):
        raise Failed(f"auto-generated role '{name}' cannot be modified")
    with call.cluster.access.change("update role failed"):
        kept = _role(call) if call.params.get("append") else frozenset[str]()
        _role(call)
        directory_of(call).roles[name] = kept | _privileges(call)


@endpoint("DELETE", "/access/roles/{roleid}", protected=True)
def delete_role(call: Call) -> None:
    name = call.params["roleid"]
    if directory_of(call).is_special(name):
        raise Failed(f"auto-generated role '{name}' cannot be deleted")
    with call.cluster.access.change("delete role failed"):
        _role(call)
        del directory_of(call).roles[name]


def _role(call: Call) -> frozenset[str]:
    name = call.params["roleid"]
    found = directory_of(call).roles.get(name)
    if found is None:
        raise Failed(f"role '{name}' does not exist")
    return found


def _privileges(call: Call) -> frozenset[str]:
    names = split_list(call.params.get("privs") or "")
    for name in names:
        if name not in all_privileges(call.cluster.access.major):
            raise Failed(f"invalid privilege '{name}'")
    return frozenset(names)


# -- realms ------------------------------------------------------------------------------------


@endpoint("GET", "/access/domains")
def list_realms(call: Call) -> list[Row]:
    return [
        {"realm": name, "type": realm.type}
        | ({"comment": realm.comment} if realm.comment else {})
        | ({"default": 1} if realm.options.get("default") == "1" else {})
        for name, realm in directory_of(call).realms.items()
    ]


@endpoint("GET", "/access/domains/{realm}")
def read_realm(call: Call) -> Row:
    name = call.params["realm"]
    found: Realm | None = directory_of(call).realms.get(name)
    if found is None:
        raise Failed(f"domain '{name}' does not exist")
    return {"type": found.type, "comment": found.comment, **found.options}


# -- acl ---------------------------------------------------------------------------------------


@endpoint("GET", "/access/acl")
def list_acl(call: Call) -> list[Row]:
    """Where one may hand out permissions, or everywhere with Sys.Audit on /access."""
    access = call.cluster.access
    audits, rules = access.has(call.identity, "/access", "Sys.Audit"), access.rules(call.identity)
    return [
        {"path": path, "type": kind, "ugid": name, "roleid": role, "propagate": flag}
        for path, node in sorted(directory_of(call).acl.items())
        if audits or rules.can_modify(path, quiet=True)
        for (kind, name), roles in node.holders.items()
        for role, flag in roles.items()
        # The file does not keep it: root@pam is Administrator anyway.
        if (kind, name) != ("user", ROOT)
    ]


@endpoint("PUT", "/access/acl", protected=True)
def update_acl(call: Call) -> None:
    holders = [kind for kind in ("users", "groups", "tokens") if call.params.get(kind)]
    if not holders:
        text = "either 'users', 'groups' or 'tokens' is required."
        raise Invalid(users=text, groups=text, tokens=text)
    path = normalize(call.params["path"])
    if path is None or not (call.params.get("delete") or is_acl_path(path)):
        raise Invalid(path=f"invalid ACL path '{call.params['path']}'")
    with call.cluster.access.change("ACL update failed"):
        _change_acl(call, path)


def _change_acl(call: Call, path: str) -> None:
    directory = directory_of(call)
    changes: list[tuple[str, str, str]] = []
    for role in split_list(call.params["roles"]):
        if role not in directory.roles:
            raise Failed(f"role '{role}' does not exist")
        _check_may_hand_out(call, path, role)
        for kind in ("group", "user", "token"):
            for name in split_list(call.params.get(f"{kind}s") or ""):
                _need_holder(directory, kind, name)
                changes.append((kind, name, role))
    for kind, name, role in changes:
        given = directory.acl.setdefault(path, AclNode()).holders.setdefault((kind, name), {})
        if call.params.get("delete"):
            given.pop(role, None)
        else:
            given[role] = int(bool(call.params.get("propagate", 1)))


def _check_may_hand_out(call: Call, path: str, role: str) -> None:
    """Who has no Permissions.Modify may pass on what he has himself, and no more."""
    directory, is_removal = directory_of(call), bool(call.params.get("delete"))
    held = directory.permissions(call.identity.name, path)
    if "Permissions.Modify" in held:
        return
    start = f"Cannot {'remove' if is_removal else 'add'} role '{role}'"
    propagates = int(bool(call.params.get("propagate", 1)))
    for privilege in sorted(directory.roles[role]):
        if privilege not in held:
            raise Invalid(
                role=f"{start} - requires 'Permissions.Modify' or superset of privileges."
            )
        if propagates and not held[privilege] and not is_removal:
            raise Invalid(
                role=f"{start} with propagation - requires 'Permissions.Modify' "
                "or propagated superset of privileges."
            )
    if role == "NoAccess":
        raise Invalid(role=f"{start} - requires 'Permissions.Modify'")


def _need_holder(directory: Directory, kind: str, name: str) -> None:
    if kind == "group" and name not in directory.groups:
        raise Failed(f"group '{name}' does not exist")
    if kind == "user" and name not in directory.users:
        raise Failed(f"user '{name}' does not exist")
    if kind == "token":
        user, _, token = name.partition("!")
        directory.token(user, token)
