"""Carry out one build: the provider bakes, its lines go to the log. Run again after a crash it
goes on; the provider makes the image true, not twice."""

import logging
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events, process
from daas.db import now
from daas.errors import CommandFailed, DaasError, LeaseLost, NotReady, NotYet, Stopped
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.logs import LogWriter
from daas.nodes.models import Cluster
from daas.providers.base import Baking, Provider
from daas.templates.models import Build, BuildStatus, Template

log = logging.getLogger(__name__)


def reconcile(work: Work, providers: Mapping[str, Provider], instance: str, work_dir: Path) -> None:
    found = _look(work, instance, work_dir)
    if found is None:
        return
    kind, baking = found
    write = LogWriter(work.database, f"build/{work.job.key}")
    stop = process.stop.set(work.stop)
    image, failure = None, None
    try:
        with work.heartbeat(lambda db: True):
            image = providers[kind].bake(baking, write)
    except (LeaseLost, Stopped):
        return _again(work, 0.0)
    except NotReady:  # the database is away: that says nothing about the build
        raise
    except NotYet as wait:
        write(f"waiting for {wait.why}")
        return _again(work, wait.after_s)
    except DaasError as error:
        failure = str(error)
        for line in error.tail.splitlines() if isinstance(error, CommandFailed) else ():
            log.info("build %s: %s", work.job.key, line)
    except Exception as error:  # its text may hold anything: that is for the log
        log.exception("build %s: unexpected error", work.job.key)
        failure = f"internal error ({type(error).__name__}); the worker's log has the details"
    finally:
        process.stop.reset(stop)
        write.flush()
    _conclude(work, image, failure)


def _look(work: Work, instance: str, work_dir: Path) -> tuple[str, Baking] | None:
    with work.database.transaction() as db:
        build = db.get(Build, work.job.key, with_for_update=True)
        if build is None or build.status in (BuildStatus.BUILT, BuildStatus.FAILED):
            queue.settle(db, work.job, None, Lane.BULK, Priority.PERSON)
            return None
        if build.status == BuildStatus.QUEUED:
            build.started_at = db.scalar(select(now()))
            _move(db, build, BuildStatus.BUILDING, "started")
        which = (Template.name == build.template, Template.version == build.version)
        template = db.scalars(select(Template).where(*which)).one()
        kind = db.get_one(Cluster, build.cluster).kind
        folder = str(work_dir / "builds" / build.name)
        return kind, Baking(build.template, build.version, template.document, instance, folder)


def _conclude(work: Work, image: str | None, failure: str | None) -> None:
    with work.database.transaction() as db:
        build = db.get_one(Build, work.job.key, with_for_update=True)
        build.image, build.failure = image, failure
        build.ended_at = db.scalar(select(now()))
        after = BuildStatus.BUILT if image else BuildStatus.FAILED
        _move(db, build, after, failure or f"made {image}")
        if image:  # whoever waits for it need not wait until the nodes are looked at anyway
            queue.wake(db, "node", build.cluster, Lane.LOOK, Priority.PERSON)
        queue.settle(db, work.job, None, Lane.BULK, Priority.PERSON)


def _again(work: Work, after_s: float) -> None:
    with work.database.transaction() as db:
        at = (db.scalar(select(now())) or 0.0) + after_s
        queue.settle(db, work.job, at, Lane.BULK, Priority.PERSON)


def _move(db: Db, build: Build, after: BuildStatus, reason: str) -> None:
    events.record(db, f"build/{build.name}", build.status, after.value, "system", reason)
    build.status = after.value
