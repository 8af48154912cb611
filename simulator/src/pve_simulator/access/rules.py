"""The permission expressions of the schema: and, or, perm, userid-group, userid-param, perm-modify.

A check that fails raises Forbidden with the text Proxmox VE has; inside `or` it is only a no. Some
checks raise even there, as theirs do.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pve_simulator.access.directory import ROOT, Directory, normalize
from pve_simulator.api import Failed, Forbidden
from pve_simulator.formats import BadFormat, check_user, split_list

Params = Mapping[str, Any]


class Rules:
    """Checks for one user or token."""

    def __init__(self, directory: Directory, who: str) -> None:
        self._directory = directory
        self._who = who

    def check_method(self, rule: Mapping[str, Any] | None, params: Params) -> None:
        """What a method of the schema demands before anything else is looked at."""
        if not self._who:
            if rule and rule.get("user") == "world":
                return
            raise refused("user != null")
        if self._who == ROOT:
            return
        if not rule:
            raise refused("user != root@pam")
        if rule.get("user") == "all":
            return
        if "check" not in rule:
            raise refused()
        self.evaluate(rule["check"], params, quiet=False)

    def evaluate(self, check: Sequence[Any], params: Params, *, quiet: bool) -> bool:
        kind = check[0]
        if kind == "and":
            # A part that says no raises, even when the whole is asked quietly.
            for part in check[1:]:
                self.evaluate(part, params, quiet=False)
            return True
        if kind == "or":
            if any(self.evaluate(part, params, quiet=True) for part in check[1:]):
                return True
            return self._no(quiet)
        if kind == "perm":
            return self._perm(check, params, quiet)
        if kind == "userid-group":
            return self._userid_group(check, params, quiet)
        if kind == "userid-param":
            return self._userid_param(check[1], params, quiet)
        if kind == "perm-modify":
            path = normalize(_fill(check[1], params))
            return self.can_modify(path, quiet=quiet) if path else False
        raise ValueError(f"unknown permission test {kind}")

    def all(self, path: str, privileges: Sequence[str], *, quiet: bool = False) -> bool:
        held = self._directory.permissions(self._who, path)
        for privilege in privileges:
            if privilege not in held:
                return self._no(quiet, f"{path}, {privilege}")
        return True

    def any(self, path: str, privileges: Sequence[str], *, quiet: bool = False) -> bool:
        held = self._directory.permissions(self._who, path)
        if any(privilege in held for privilege in privileges):
            return True
        return self._no(quiet, f"{path}, {'|'.join(privileges)}")

    def can_modify(self, path: str, *, quiet: bool = False) -> bool:
        """Whether permissions on this path may be handed out."""
        privileges = ["Permissions.Modify"]
        for start, privilege in (
            ("/storage/", "Datastore.Allocate"),
            ("/vms/", "VM.Allocate"),
            ("/pool/", "Pool.Allocate"),
        ):
            if path.startswith(start) and len(path) > len(start):
                privileges.append(privilege)
        return self.any(path, privileges, quiet=quiet)

    def users_of_groups(self, privileges: Sequence[str]) -> set[str]:
        """The members of the groups that one has any of the privileges on."""
        found: set[str] = set()
        for name, group in self._directory.groups.items():
            if self.any(f"/access/groups/{name}", privileges, quiet=True):
                found |= group.users
        return found

    def _perm(self, check: Sequence[Any], params: Params, quiet: bool) -> bool:
        options = dict(zip(check[3::2], check[4::2], strict=True))
        needed = options.get("require_param")
        if needed and params.get(needed) is None:
            return self._no(quiet)
        path = normalize(_fill(check[1], params)) or ""
        test = self.any if options.get("any") else self.all
        return test(path, check[2], quiet=quiet)

    def _userid_group(self, check: Sequence[Any], params: Params, quiet: bool) -> bool:
        privileges = check[1]
        options = dict(zip(check[2::2], check[3::2], strict=True))
        groups_param = options.get("groups_param")
        userid = str(params.get("userid") or "")
        needs_user = groups_param != "create"
        if needs_user and not self._exists(userid, quiet):
            return False
        if self.any("/access/groups", privileges, quiet=True):
            return True
        if groups_param:
            named = split_list(str(params.get("groups") or ""))
            if not named:
                raise refused(f"/access/groups, {'|'.join(privileges)}")
            for group in named:
                path = f"/access/groups/{group}"
                known = group in self._directory.groups
                if not known or not self.any(path, privileges, quiet=True):
                    raise refused(f"{path}, {'|'.join(privileges)}")
        if needs_user and userid not in self.users_of_groups(privileges):
            return self._no(quiet)
        return True

    def _userid_param(self, what: str, params: Params, quiet: bool) -> bool:
        userid = str(params.get("userid") or "")
        try:
            check_user(userid)
        except BadFormat as error:
            raise Failed(str(error)) from None
        if what == "self":
            if not self._exists(userid, quiet):
                return False
            return True if self._who == userid else self._no(quiet)
        realm = userid.rpartition("@")[2]
        return self.all(f"/access/realm/{realm}", ["Realm.AllocateUser"], quiet=quiet)

    def _exists(self, userid: str, quiet: bool) -> bool:
        if quiet:
            return userid in self._directory.users
        self._directory.user(userid)
        return True

    def _no(self, quiet: bool, what: str = "") -> bool:
        if quiet:
            return False
        raise refused(what)


def refused(what: str = "") -> Forbidden:
    return Forbidden(f"Permission check failed ({what})" if what else "Permission check failed")


def _fill(template: str, params: Params) -> str:
    return re.sub(r"\{([^}]+)\}", lambda m: str(params.get(m[1]) or ""), template)
