"""What goes in and out of /api/v1: types with their limits and an example each. What a pattern
here lets through is safe in a shell, in YAML and in a file name."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from daas.sessions import names
from daas.templates.document import TemplateDocument

STATUSES = Literal[
    "requested",
    "provisioning",
    "booting",
    "personalizing",
    "assigning",
    "ready",
    "unreachable",
    "stopping",
    "stopped",
    "starting",
    "deleting",
    "deleted",
    "failed",
]
WAYS = Literal["running", "stopped", "deleted"]
ROLES = Literal["user", "admin", "operator"]
BUILD_STATUSES = Literal["queued", "building", "built", "failed"]
PROVIDERS = Literal["lxd", "proxmox", "simulated"]
YEAR_S = 31_536_000.0


def _not_a_system_name(name: str) -> str:
    if names.is_system(name):
        raise ValueError(f"{name} is an account of the system; take another name")
    return name


Owner = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
LocalUser = Annotated[
    str, StringConstraints(pattern=names.LOCAL_USER), AfterValidator(_not_a_system_name)
]
# One line: the guest reads `name:hash` lines, people type it, bcrypt reads 72 bytes.
Password = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,40}$")]
Life = Annotated[float, Field(ge=60, le=YEAR_S)]
SESSION = r"^desktop-[a-z2-7]{6}$"
Cursor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
LastId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")]
When = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class Body(BaseModel):
    """What is sent to us: no unknown field, and no guessing at types ("1" is not 1)."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        return super().model_validate(obj, **{**options, "strict": True})


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Header(BaseModel):
    pass


# ---- sessions


class SessionPath(BaseModel):
    id: str = Field(pattern=SESSION, description="the session's id")


class SessionIn(Body):
    template: Name | None = Field(None, description="default: the installation's")
    size: Name | None = Field(None, description="default: the template's")
    owner: Owner | None = Field(None, description="for somebody else: administrators only")
    local_user: LocalUser | None = Field(None, description="default: made from the owner's name")
    password: Password | None = Field(None, description="default: one is made up")
    life_s: Life | None = Field(None, description="ends by itself after so many seconds")
    reuse: bool = Field(False, description="the owner's running desktop instead of a second one")

    model_config = example(template="debian-12-xfce", size="small", life_s=28800)


class CreateHeader(Header):
    key: Key | SkipJsonSchema[None] = Field(
        None,
        alias="Idempotency-Key",
        description="asked again with it, a create makes no second desktop",
    )
    prefer: str | SkipJsonSchema[None] = Field(
        None, alias="Prefer", description="wait=N: answer when it is ready, or after N seconds"
    )


class ListQuery(Query):
    cursor: Cursor | SkipJsonSchema[None] = Field(None, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=200)
    status: list[STATUSES] = Field(
        default_factory=list, max_length=20, description="any of these; deleted ones only if asked"
    )
    owner: Owner | SkipJsonSchema[None] = None
    template: Name | SkipJsonSchema[None] = None


class ExtendIn(Body):
    life_s: Life = Field(description="ends by itself so many seconds from now")

    model_config = example(life_s=7200)


class Endpoint(BaseModel):
    host: str
    port: int


class Certificate(BaseModel):
    sha256: str


class SessionOut(BaseModel):
    id: str
    owner: str | None
    tenant: str
    template: str
    template_version: int
    size: str
    status: STATUSES
    desired: WAYS
    waiting_for: str | None
    position: int | None = Field(description="place in line for room on a node, from 1")
    eta_s: int | None = Field(description="until it is ready, from measured creates")
    failure: str | None
    created_at: When
    ready_at: When | None
    ended_at: When | None
    expires_at: When | None
    rdp: Endpoint | None
    certificate: Certificate | None = Field(description="that its RDP port shows")
    local_user: str | None
    node: str | None = Field(description="administrators only")
    version: int

    model_config = example(
        id="desktop-k3x7qa",
        owner="ada",
        tenant="default",
        template="debian-12-xfce",
        template_version=1,
        size="small",
        status="ready",
        desired="running",
        waiting_for=None,
        position=None,
        eta_s=None,
        failure=None,
        created_at="2026-01-12T08:00:00.000Z",
        ready_at="2026-01-12T08:00:01.200Z",
        ended_at=None,
        expires_at=None,
        rdp={"host": "10.88.0.101", "port": 3389},
        certificate={"sha256": "7d0a" * 16},
        local_user="ada",
        node=None,
        version=7,
    )


class SessionList(BaseModel):
    items: list[SessionOut]
    next: str | None = Field(description="cursor of the next page; null on the last one")


class CredentialOut(BaseModel):
    user: str
    password: str


# ---- events, logs


class EventQuery(Query):
    after: int = Field(0, ge=0, le=2**53, description="the last `seq` you have")
    limit: int = Field(100, ge=1, le=500)


class EventHeader(Header):
    last_id: LastId | SkipJsonSchema[None] = Field(
        None,
        alias="Last-Event-ID",
        description="goes on after it; sent by browsers that come back to a stream",
    )


class LogQuery(Query):
    after: int = Field(0, ge=0, le=2**53, description="the last line's id you have")
    follow: bool = Field(False, description="stay for the lines that are yet to come")


class EventOut(BaseModel):
    seq: int
    at: When
    tenant: str
    subject: str
    before: str
    after: str
    actor: str
    reason: str

    model_config = example(
        seq=42,
        at="2026-01-12T08:00:01.200Z",
        tenant="default",
        subject="session/desktop-k3x7qa",
        before="assigning",
        after="ready",
        actor="system",
        reason="step finished",
    )


class EventList(BaseModel):
    items: list[EventOut]
    next: int = Field(description="`after` of the next page")


# ---- templates


class TemplatePath(BaseModel):
    name: Name


class BuildQuery(Query):
    cluster: Name | None = Field(None, description="where; the first one if left out")
    provider: PROVIDERS | None = Field(None, description="on a cluster of that kind")


class BuildPath(TemplatePath):
    id: str = Field(pattern=r"^build-[a-z2-7]{6}$")


class TemplateIn(Body, TemplateDocument):
    """A template's document, as in templates/NAME.yaml."""

    model_config = example(
        name="debian-12-xfce",
        base={"kind": "mmdebstrap", "suite": "bookworm"},
        sizes={"small": {"cpus": 2, "memory_mib": 2048, "disk_gib": 10}},
        default_size="small",
    )


class SizeOut(BaseModel):
    cpus: int
    memory_mib: int
    disk_gib: int


class TemplateOut(BaseModel):
    name: str
    version: int
    built_version: int | None = Field(description="what desktops are made from now")
    tenant: str | None = Field(description="null: everybody's")
    title: dict[str, str]
    description: dict[str, str]
    sizes: dict[str, SizeOut]
    default_size: str
    created_at: When
    created_by: str


class TemplateFull(TemplateOut):
    document: dict[str, Any]


class TemplateList(BaseModel):
    items: list[TemplateOut]


class BuildOut(BaseModel):
    id: str
    template: str
    version: int
    cluster: str
    status: BUILD_STATUSES
    image: str | None
    failure: str | None
    created_at: When
    started_at: When | None
    ended_at: When | None


class BuildList(BaseModel):
    items: list[BuildOut]


# ---- nodes, capacity


class NodePath(BaseModel):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


class NodeIn(Body):
    is_maintenance: bool = Field(False, description="takes no new desktop")
    max_desktops: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="null: as many as fit"
    )

    model_config = example(is_maintenance=True)


class NodeOut(BaseModel):
    name: str
    cluster: str
    is_online: bool
    why: str | None = Field(description="why it is not online")
    offline_since: When | None
    is_maintenance: bool
    max_desktops: int | None
    desktops: int
    cpus: int
    memory_mib: int
    reserved_mib: int = Field(description="promised to desktops")
    foreign_mib: int = Field(description="of machines that are not ours")
    free_mib: int


class NodeList(BaseModel):
    items: list[NodeOut]


class CapacityQuery(Query):
    template: Name | SkipJsonSchema[None] = Field(None, description="default: the installation's")
    size: Name | SkipJsonSchema[None] = Field(None, description="default: the template's")


class FitOut(BaseModel):
    node: str
    fits: int = Field(description="how many more")
    limited_by: str = Field(description="what ends first, or why it takes none")
    desktops: int


class CapacityOut(BaseModel):
    template: str
    size: str
    cluster: str
    cpus: int
    memory_mib: int = Field(description="that placement counts for each")
    fits: int = Field(description="how many more, in all")
    limited_by: str
    fits_one_lost: int = Field(
        description="how many more once `lost` is lost and its desktops were made again elsewhere"
    )
    lost: str | None = Field(description="the node whose loss would hurt most")
    nodes: list[FitOut]


# ---- tokens, me


class TokenPath(BaseModel):
    id: str = Field(pattern=r"^token-[0-9a-f]{8}$")


class TokenIn(Body):
    name: Owner | None = Field(None, description="who it speaks for; default: yourself")
    tenant: Name | None = Field(None, description="default: yours")
    role: ROLES = "user"

    model_config = example(name="ada", role="user")


class TokenOut(BaseModel):
    id: str
    name: str
    tenant: str
    role: ROLES
    created_at: When
    revoked_at: When | None


class TokenMade(TokenOut):
    token: str = Field(description="shown this once")


class TokenList(BaseModel):
    items: list[TokenOut]


class MeOut(BaseModel):
    name: str
    tenant: str
    role: ROLES
    auth: Literal["token", "none"]


# ---- health, errors


class Part(BaseModel):
    name: Literal["database", "schema", "worker", "nodes"]
    ok: bool
    detail: str


class HealthOut(BaseModel):
    status: Literal["ok", "degraded", "down"]
    version: str
    parts: list[Part]


class LiveOut(BaseModel):
    status: Literal["ok"]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: str | None = None

    model_config = example(
        type="about:blank",
        title="Bad Request",
        status=400,
        code="bad-request",
        detail="owner: String should match pattern …",
        request_id="4f1c9a7be2d05c33",
        field="owner",
    )
