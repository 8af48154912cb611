"""Who asks, and what may they do. A first version: any token or user of the world may do all."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pve_simulator.api import Request, Unauthorized

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
    """Users, tokens, ACL and pools of a cluster."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.tokens: dict[str, str] = {}  # "root@pam!tf" to its secret
        self.pool_members: dict[str, set[int]] = {}

    def add_token(self, token_id: str, secret: str) -> None:
        """A token of full rights."""
        self.tokens[token_id] = secret

    def authenticate(self, request: Request) -> Identity:
        """Who sent this request; 401 where nobody can be made out."""
        header = request.headers.get("authorization", "")
        scheme, _, value = header.partition("=")
        if scheme != "PVEAPIToken":
            raise Unauthorized("No ticket")
        token_id, _, secret = value.partition("=")
        if self.tokens.get(token_id) != secret:
            raise Unauthorized("Authentication failed!")
        return Identity(token_id)

    def authorize(self, call: "Call") -> None:
        """What the schema of the endpoint demands; 403 without it."""

    def require(self, identity: Identity, path: str, *privileges: str) -> None:
        """All of these on this path, or 403 `Permission check failed (PATH, PRIVILEGE)`."""

    def has(self, identity: Identity, path: str, *privileges: str) -> bool:
        """Any of these on this path: what lists are filtered by."""
        return True

    def check_pool_exists(self, pool: str) -> None: ...

    def add_vm_to_pool(self, vmid: int, pool: str) -> None:
        self.pool_members.setdefault(pool, set()).add(vmid)

    def pool_of(self, vmid: int) -> str | None:
        return next((pool for pool, ids in self.pool_members.items() if vmid in ids), None)

    def vm_removed(self, vmid: int) -> None:
        for members in self.pool_members.values():
            members.discard(vmid)


def load(cluster: "Cluster", world: dict[str, Any]) -> Access:
    """From the sections users, tokens, acl, roles, groups and pools of a world file."""
    access = Access(cluster)
    for token in world.get("tokens", []):
        access.add_token(token["id"], token["secret"])
    return access
