"""What `daas doctor` reads from the database, on both kinds; and the command as a whole."""

import json

import pytest

import daas.db
from daas import events, logs
from daas.cli.doctor import gather, install, v1
from daas.installation import CLUSTER
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.nodes.models import Cluster
from daas.templates.models import Build, Template

DAY_S = 86400.0
DOCUMENT = {"name": "desk", "base": {}, "sizes": {}}


def traces(database):
    with database.reading() as db:
        return gather.read_traces(db)


def facts(database):
    with database.reading() as db:
        return gather.read_facts(db)


@pytest.mark.parametrize(
    "said, check",
    [
        ("fatal: 'ansible_host' is undefined", v1.ansible_host),
        ("realm: Couldn't join realm: Cannot resolve", v1.realm_join),
        ("(pam_mount.c:522): mount failed", v1.pam_mount),
    ],
)
@pytest.mark.parametrize("where", ["a line of its log", "its failure"])
def test_what_a_session_said_is_found_again(world, said, check, where):
    assert check(traces(world.database)).result == "ok"

    with world.database.transaction() as db:
        if where == "its failure":
            events.record(db, "session/desktop-a", "booting", "failed", "system", said)
        else:
            logs.write(db, "session/desktop-a", ["placed on one", said, "goes on"])

    found = check(traces(world.database))
    assert found.result == "fail" and "session/desktop-a" in found.message


def test_what_was_said_long_ago_is_over(world):
    with world.database.transaction() as db:
        logs.write(db, "session/desktop-a", ["realm join failed"])

    daas.db.offset_s = 8 * DAY_S

    assert v1.realm_join(traces(world.database)).result == "ok"


def test_a_reason_that_is_no_failure_is_nothing(world):
    with world.database.transaction() as db:
        events.record(db, "session/desktop-a", "", "ready", "ada", "realm join failed")

    assert v1.realm_join(traces(world.database)).result == "ok"


def test_a_standing_job_that_nobody_does_shows_a_worker_is_missing(world):
    with world.database.transaction() as db:
        db.merge(Cluster(name=CLUSTER, kind="simulated"))
        queue.wake(db, "node", CLUSTER, Lane.LOOK, Priority.REFILL)
    assert install.worker(facts(world.database)).result == "ok"

    daas.db.offset_s = 120.0

    assert install.worker(facts(world.database)).result == "fail"


def test_the_newest_build_that_succeeded_counts(world):
    with world.database.transaction() as db:
        for version in (1, 2):
            words = {"document": DOCUMENT, "digest": str(version), "created_by": "op"}
            db.add(Template(name="desk", version=version, created_at=0.0, **words))
        about = {"template": "desk", "cluster": "one", "created_at": 0.0}
        db.add(Build(name="build-a", version=1, status="built", image="i1", ended_at=5.0, **about))
        db.add(Build(name="build-b", version=2, status="failed", ended_at=9.0, **about))

    built = {b.template: b for b in facts(world.database).built}

    assert (built["desk"].image, built["desk"].at) == ("i1", 5.0)


def test_the_command_says_all_in_json_and_fails_with_a_finding(product):
    good = product.run("doctor", "--json")
    (product.data_dir / "secrets").chmod(0o755)
    (product.data_dir / "secrets/key").chmod(0o644)
    try:
        bad = product.run("doctor", "--json")
    finally:
        (product.data_dir / "secrets").chmod(0o700)
        (product.data_dir / "secrets/key").chmod(0o600)

    before = {f["id"]: f for f in json.loads(good.stdout)}
    after = {f["id"]: f for f in json.loads(bad.stdout)}
    assert good.returncode == 0 and bad.returncode == 1
    assert before["secrets"]["result"] == "ok" and after["secrets"]["result"] == "fail"
    expected = {"disk", "database", "clock", "worker", "template.debian-12-xfce"}
    expected |= {"v1.terraform", "v1.ansible_host", "v1.realm_join", "v1.pam_mount"}
    assert expected <= set(before)
    assert all(f["remedy"] for f in after.values() if f["result"] != "ok")


def test_without_an_installation_it_says_what_to_run(bare):
    done = bare.run("doctor", "--json")

    found = {f["id"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 1 and "daas init" in found["database"]["remedy"]


def test_lxd_that_is_not_there_is_one_finding(product):
    done = product.run("doctor", "--json", DAAS_PROVIDER="lxd", DAAS_LXD_SOCKET="/nonexistent")

    found = {f["id"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["lxd.socket"]["result"] == "fail" and "lxd-up" in found["lxd.socket"]["remedy"]
    assert "lxd.pool" not in found and found["database"]["result"] == "ok"
