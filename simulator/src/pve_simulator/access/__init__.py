"""Who asks, and what may they do: users, tokens, tickets, roles, ACL and pools of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pve_simulator.access import sections
from pve_simulator.access.directory import ROOT, Directory, Token
from pve_simulator.access.login import Login
from pve_simulator.access.rules import Rules, refused
from pve_simulator.access.versions import rule_of
from pve_simulator.api import Failed, Request
from pve_simulator.schema import find

if TYPE_CHECKING:
    from pve_simulator.dispatch import Call
    from pve_simulator.engine.cluster import Cluster


@dataclass(frozen=True)
class Identity:
    """`name` as a UPID has it: `root@pam` or `root@pam!tf`."""

    name: str

    @property
    def user(self) -> str:
        return self.name.partition("!")[0]


class Access:
    """`directory` holds what there is; the rest asks it."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.major = int(cluster.version.split(".")[0])
        self.directory = Directory(self.major)
        self.login = Login(self.directory, lambda: cluster.unix_time)

    def add_token(self, token_id: str, secret: str) -> None:
        """A token of full rights."""
        user, _, name = token_id.partition("!")
        self.directory.users[user].tokens[name] = Token(secret, privsep=0, is_hidden=True)

    def authenticate(self, request: Request) -> Identity:
        """Who sent this request; 401 where nobody can be made out."""
        return Identity(self.login.authenticate(request))

    def authorize(self, call: "Call") -> None:
        """What the schema of the endpoint demands; 403 without it."""
        method, template = call.endpoint.method, call.endpoint.template
        known = find(method, template)
        if known and not known.allows_token and self.login.is_token(call.identity.name):
            uri = call.request.path
            raise refused(f"URI '{uri}' not available with API token, need proper ticket.\n")
        rule = rule_of(method, template, self.major)
        self.rules(call.identity).check_method(rule, call.params)

    def rules(self, identity: Identity) -> Rules:
        return Rules(self.directory, identity.name)

    def require(self, identity: Identity, path: str, *privileges: str) -> None:
        """All of these on this path, or 403 `Permission check failed (PATH, PRIVILEGE)`."""
        self.rules(identity).all(path, privileges)

    def require_any(self, identity: Identity, path: str, *privileges: str) -> None:
        """One of these on this path, or 403 `Permission check failed (PATH, A|B)`."""
        self.rules(identity).any(path, privileges)

    def has(self, identity: Identity, path: str, *privileges: str) -> bool:
        """Any of these on this path: what lists are filtered by."""
        return self.rules(identity).any(path, privileges, quiet=True)

    def is_root(self, identity: Identity) -> bool:
        """Whether this is root@pam itself: a token of root is not."""
        return identity.name == ROOT

    def check_pool_exists(self, pool: str) -> None:
        self.directory.need_pool(pool)

    def add_vm_to_pool(self, vmid: int, pool: str) -> None:
        self.directory.pools[pool].vms.add(vmid)

    def pool_of(self, vmid: int) -> str | None:
        return self.directory.pool_of(vmid)

    def vm_removed(self, vmid: int) -> None:
        """A VM is gone: its pool forgets it. Its ACL goes only when the VM is destroyed."""
        self.directory.remove_vm(vmid)

    def storage_removed(self, storage: str) -> None:
        """A storage is gone from storage.cfg, and with it its ACL and its place in pools."""
        self.directory.acl.pop(f"/storage/{storage}", None)
        for pool in self.directory.pools.values():
            pool.storages.discard(storage)

    def change(self, what: str) -> "Change":
        """Use as `with access.change("create user failed"):` around a change of user.cfg."""
        return Change(self._cluster, what)


class Change:
    """The lock around user.cfg: what fails under it is told with what was to be done."""

    def __init__(self, cluster: "Cluster", what: str, file: str = "user_cfg") -> None:
        self._cluster, self._what, self._file = cluster, what, file

    def __enter__(self) -> None:
        if not self._cluster.is_quorate:
            raise Failed(f"{self._what}: cfs-lock 'file-{self._file}' error: no quorum!")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Only what is a plain die gets the prefix: 400 and 403 pass as they are.
        if isinstance(error, Failed):
            raise Failed(f"{self._what}: {error.message}") from error


def load(cluster: "Cluster", world: Mapping[str, Any]) -> Access:
    """From the sections users, tokens, acl, roles, groups, pools and realms of a world file."""
    access = Access(cluster)
    sections.fill(access.directory, world, cluster.random_uuid)
    return access
