"""What the checks look at, gathered from this machine and its database."""

import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session as Db

from daas import process, wiring
from daas.cli.doctor import host, install, lxd, module, proxmox, v1
from daas.cli.doctor.finding import Finding, fail
from daas.cli.doctor.install import Built, Facts, Images
from daas.cli.doctor.v1 import Trace
from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database, now
from daas.errors import ConfigError, DaasError, NotYet
from daas.events import Event
from daas.installation import CLUSTER
from daas.jobs.models import Job
from daas.logs import LogLine
from daas.sessions.models import Installation
from daas.templates.models import Build, BuildStatus, Template

PROGRAM_S = 30.0
RECENT_S = 7 * 86400.0
TRACES = 2000
WORDS = ("terraform", "ansible_host", "realm", "join the domain", "pam_mount", "mount error")
UNITS = [Path(folder) / v1.UNIT for folder in ("/etc/systemd/system", "/usr/lib/systemd/system")]


def findings(settings: Settings) -> Iterator[Finding]:
    """All checks of this machine, one after the other."""
    has_guests = settings.provider == "lxd"
    yield install.secrets(settings.secrets_dir)
    yield host.disk(str(settings.data_dir), host.free_gib(settings.data_dir))
    if has_guests:
        yield from host.kernel_limits(host.sysctl)
        yield host.programs(service_path(), _which)
    images: Images | None = None
    if settings.provider == "proxmox":
        images = yield from _of_proxmox(settings)
    if has_guests:
        provider = wiring.lxd(settings, _instance(settings))
        ask = partial(provider.client.request, "GET")
        yield from lxd.look(ask, settings.lxd_pool, settings.lxd_bridge)
        with suppress(DaasError, NotYet):  # said by the checks just done
            images = dict.fromkeys(provider.images(), "")
    yield from _of_database(settings, images)


def service_path() -> str:
    """The PATH of the systemd service where it is installed, else our own."""
    for unit in UNITS:
        if unit.is_file() and (path := v1.path_of_unit(unit.read_text())):
            return path
    return os.environ.get("PATH", os.defpath)


def _of_proxmox(settings: Settings) -> Generator[Finding, None, dict[str, str] | None]:
    """Return what the cluster has of images, and what is wrong with each; None where it could not
    be asked."""
    path = f"{service_path()}:/usr/local/bin:/usr/bin:/bin"
    yield host.programs(service_path(), _which, host.PROGRAMS_OF_PROXMOX)
    yield module.program(settings.terraform, shutil.which(settings.terraform, path=path), _run)
    yield module.files(settings.terraform_dir)
    yield module.secrets(settings.terraform_dir)
    yield module.provider(wiring.terraform(settings).prepare, settings.tf_mirror)
    try:
        doors, token_id = wiring.proxmox_doors(settings), wiring.proxmox_token(settings)
    except DaasError as error:
        yield fail("proxmox.settings", str(error), "See docs/howto/connect-proxmox.md.")
        return None
    cluster = proxmox.Cluster(
        doors, wiring.why_no_storage, wiring.choose_storage, host.certificate_fingerprint
    )
    yield from proxmox.look(cluster, _wants(settings, token_id))
    for ask in doors.values():
        with suppress(DaasError, NotYet):
            return proxmox.images(ask)
    return None


def _wants(settings: Settings, token_id: str) -> proxmox.Wants:
    nodes = tuple(one.strip() for one in settings.proxmox_nodes.split(",") if one.strip())
    return proxmox.Wants(
        token_id=token_id,
        instance=_instance(settings),
        nodes=nodes,
        storage=settings.proxmox_storage,
        bridge=settings.proxmox_bridge,
        vlan=settings.proxmox_vlan,
        pool=settings.proxmox_pool,
        numbers=settings.proxmox_vmid_range,
        is_insecure=settings.proxmox_tls_insecure,
        is_full_clone=settings.proxmox_full_clone,
        max_sessions=settings.max_concurrent_sessions,
    )


def _run(args: list[str]) -> str:
    """Without what a shell may say to Terraform, and without its look for a newer one."""
    return process.run(args, PROGRAM_S, env={"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": ""})


def _of_database(settings: Settings, images: Images | None) -> Iterator[Finding]:
    database = Database(settings.database, threads=1)
    try:
        first = install.schema(*database.revision())
        yield first
        if first.result == "ok":
            with database.reading() as db:
                facts, traces = read_facts(db), read_traces(db)
            yield host.clock(time.time() - facts.now_s, host.is_synchronized())
            yield install.same_instance(facts.instance, _instance(settings))
            yield install.worker(facts)
            yield from install.templates(facts, images, settings.default_template)
            needs = settings.provider == "proxmox" and settings.terraform == "terraform"
            yield from v1.look(traces, service_path(), needs, _which)
    except DaasError as error:
        yield fail("database", str(error), "Run `daas init` once; see DAAS_DATABASE_URL.")
    finally:
        database.dispose()


def read_facts(db: Db) -> Facts:
    """What the checks of install.py want to know."""
    now_s = db.scalar(select(now())) or 0.0
    # The look at the nodes is due each 30 s, so an idle worker is told from a dead one.
    standing = (Job.kind == "node", Job.key == CLUSTER, Job.leased_until == 0)
    run_at = db.scalar(select(Job.run_at).where(*standing))
    names = select(Template.name).distinct().order_by(Template.name)
    built = [_built(db, name) for name in db.scalars(names)]
    instance = db.scalar(select(Installation.id))
    return Facts(now_s, max(0.0, now_s - run_at) if run_at else 0.0, built, instance)


def read_traces(db: Db) -> list[Trace]:
    """What was said lately that a check might know, oldest first."""
    since = (db.scalar(select(now())) or 0.0) - RECENT_S
    failed = select(Event.subject, Event.reason).where(Event.at > since, Event.after == "failed")
    said = select(LogLine.subject, LogLine.text).where(
        LogLine.at > since, or_(*(func.lower(LogLine.text).contains(w) for w in WORDS))
    )
    newest = [
        *db.execute(said.order_by(LogLine.id.desc()).limit(TRACES)),
        *db.execute(failed.order_by(Event.id.desc()).limit(TRACES)),
    ]
    return [Trace(subject, text) for subject, text in reversed(newest)]


def _built(db: Db, template: str) -> Built:
    good = (Build.template == template, Build.status == BuildStatus.BUILT.value)
    newest = select(Build).where(*good).order_by(Build.version.desc(), Build.ended_at.desc())
    build = db.scalar(newest.limit(1))
    return Built(template, build.image, build.ended_at) if build else Built(template, None, None)


def _instance(settings: Settings) -> str:
    try:
        return Vault(settings.secrets_dir).instance
    except ConfigError:
        return ""


def _which(program: str, path: str) -> str | None:
    # Debian keeps what only root runs in the sbin folders, which PATH of a user lacks.
    return shutil.which(program, path=f"{path}:/usr/sbin:/sbin")
