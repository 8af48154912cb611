"""An actor and what a role may do. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    USER = "user"  # their own sessions
    ADMIN = "admin"  # their tenant
    OPERATOR = "operator"  # the installation


@dataclass(frozen=True)
class Actor:
    name: str
    tenant: str
    role: Role = Role.USER

    @property
    def is_admin(self) -> bool:
        return self.role is not Role.USER

    @property
    def is_operator(self) -> bool:
        return self.role is Role.OPERATOR

    def sees(self, tenant: str) -> bool:
        return self.is_operator or tenant == self.tenant

    def may_act_for(self, owner: str | None, tenant: str) -> bool:
        return self.sees(tenant) and (self.is_admin or owner == self.name)
