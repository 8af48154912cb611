"""Templates: versions that never change, and builds that are jobs."""

import pytest
from sqlalchemy import select

from daas import logs, process
from daas.errors import (
    BadRequest,
    CommandFailed,
    Forbidden,
    NotFound,
    NotReady,
    Stopped,
    WrongState,
)
from daas.events import Event
from daas.jobs.models import Job
from daas.nodes.models import Cluster
from daas.templates import service
from daas.templates.models import Build, Template
from fakes.dying import Crash, CrashesIn
from fakes.providers import Away, Fails, FakeProvider
from support.world import ADA, BOSS, EVE, OPERATOR

DOCUMENT = {
    "name": "debian",
    "base": {"kind": "mmdebstrap", "suite": "bookworm"},
    "sizes": {
        "small": {"cpus": 1, "memory_mib": 1024, "disk_gib": 8, "reserve_mib": 256},
        "large": {"cpus": 4, "memory_mib": 8192, "disk_gib": 40},
    },
    "default_size": "small",
    "provider": {"lxd": {"shared_usr": True}},
}


def write(world, tenant=None, **changes):
    with world.database.transaction() as db:
        return service.write(db, "op", {**DOCUMENT, **changes}, tenant)


def build(world, name="debian", actor=OPERATOR):
    with world.database.transaction() as db:
        return service.build(db, actor, name).name


def load(world, name):
    with world.database.reading() as db:
        return db.get_one(Build, name)


def lines(world, name):
    with world.database.reading() as db:
        return [line.text for line in logs.after(db, f"build/{name}", 0)]


def recipe(world, *args, actor=ADA, **kw):
    with world.database.reading() as db:
        return service.recipe(db, actor, *args, **kw)


def spoil(world, kind, *args, **kw):
    world.provider = kind(world.vault.instance, *args, **kw)
    return world.provider


def test_a_document_that_differs_is_a_new_version_and_the_same_is_not(world):
    assert [write(world).version, write(world).version] == [1, 1]
    assert write(world, locale="fr_FR.UTF-8").version == 2
    assert write(world).version == 3  # back again is a version, too
    assert [e.after for e in world.all(Event)] == ["version 1", "version 2", "version 3"]


def test_a_bad_document_names_the_field_and_writes_nothing(world):
    with pytest.raises(BadRequest) as error:
        write(world, sizes={"small": {"cpus": 0, "memory_mib": 1024, "disk_gib": 8}})
    assert error.value.field == "sizes.small.cpus"
    assert world.all(Template) == []


def test_16_who_write_at_once_make_versions_not_errors(world):
    """Catches: newest + 1, by two at once: an IntegrityError for one of them."""
    out = world.race(16, lambda i: write(world, timezone=f"Etc/GMT-{i % 8}").version)
    assert not [o for o in out if isinstance(o, Exception)]
    versions = sorted(t.version for t in world.all(Template))
    assert versions == list(range(1, len(versions) + 1))


def test_a_tenants_template_is_its_own(world):
    write(world, tenant="acme")
    with pytest.raises(Forbidden):
        write(world, tenant="evil", locale="fr_FR.UTF-8")
    with world.database.reading() as db:
        assert [t.name for t in service.listed(db, ADA)] == ["debian"]
        assert service.listed(db, EVE) == []
        with pytest.raises(NotFound):
            service.shown(db, EVE, "debian")


def test_lists_show_the_newest_version_of_each(world):
    write(world), write(world, locale="fr_FR.UTF-8"), write(world, name="alpine")
    with world.database.reading() as db:
        assert [(t.name, t.version) for t in service.listed(db, ADA)] == [
            ("alpine", 1),
            ("debian", 2),
        ]
        assert service.shown(db, ADA, "debian", 1).version == 1


def test_a_folder_of_documents_is_read_and_a_bad_one_hides_no_other(world, tmp_path, caplog):
    (tmp_path / "a.yaml").write_text("name: [")
    (tmp_path / "b.yaml").write_text("name: b\n")
    (tmp_path / "c.yaml").write_text(
        "name: c\nbase: {kind: mmdebstrap, suite: x}\ndefault_size: s\n"
        "sizes: {s: {cpus: 1, memory_mib: 512, disk_gib: 4}}\n"
    )
    with world.database.transaction() as db:
        assert service.import_folder(db, tmp_path) == ["c"]
    assert "a.yaml is left out" in caplog.text and "b.yaml is left out" in caplog.text


def test_a_build_makes_the_image_that_sessions_are_made_from(world):
    write(world)
    name = build(world)
    assert (load(world, name).status, load(world, name).image) == ("queued", None)
    world.drain()

    done = load(world, name)
    assert (done.status, done.image) == ("built", "image-debian-1")
    assert done.created_at <= done.started_at <= done.ended_at
    assert lines(world, name) == ["installing the desktop"]
    assert [e.after for e in world.all(Event) if name in e.subject] == [
        *("queued", "building", "built")
    ]
    # Nothing is left to do but the look at the nodes, which now have an image more.
    assert [job.kind for job in world.all(Job)] == ["node"]


def test_a_recipe_is_of_the_newest_version_that_is_built(world):
    write(world)
    build(world)
    world.drain()
    write(world, locale="fr_FR.UTF-8")
    made = recipe(world, "debian")

    assert (made.version, made.image, made.size_name) == (1, "image-debian-1", "small")
    assert (made.size.memory_mib, made.size.reserve_mib) == (1024, 256)
    assert recipe(world, "debian", "large").size.reserve_mib == 8192
    build(world)
    world.drain()
    assert recipe(world, "debian").version == 2


def test_a_session_keeps_the_version_it_was_made_from(world):
    write(world)
    build(world)
    world.drain()
    name = world.ask(recipe=recipe(world, "debian"))
    write(world, locale="fr_FR.UTF-8")
    build(world)
    world.drain()
    assert (world.load(name).template_version, world.load(name).image) == (1, "image-debian-1")


def test_what_cannot_be_made_says_why(world):
    with pytest.raises(NotFound, match="no template nothing"):
        recipe(world, "nothing")
    write(world)
    with pytest.raises(WrongState, match="daas template build debian"):
        recipe(world, "debian")
    build(world)
    world.drain()
    with pytest.raises(NotFound, match="it has small, large"):
        recipe(world, "debian", "huge")
    with pytest.raises(NotFound):
        build(world, "nothing")


def test_building_is_for_administrators(world):
    write(world)
    with pytest.raises(Forbidden):
        build(world, actor=ADA)
    assert build(world, actor=BOSS)


def test_asked_again_meanwhile_it_is_the_same_build(world):
    write(world)
    assert build(world) == build(world)
    world.drain()
    assert len(world.all(Build)) == 1
    assert build(world) and len(world.all(Build)) == 2


def test_asked_by_16_at_once_it_is_one_build(world):
    """Catches: select, then insert: an IntegrityError for a double click."""
    write(world)
    out = world.race(16, lambda i: build(world))
    assert len(set(out)) == 1 and len(world.all(Build)) == 1
    assert len([e for e in world.all(Event) if e.after == "queued"]) == 1


def test_a_build_whose_worker_dies_goes_on(world):
    write(world)
    spoil(world, CrashesIn, "bake")
    name = build(world)
    with pytest.raises(Crash):
        world.drain()
    assert load(world, name).status == "building"
    world.pass_s(16)
    world.drain()

    assert load(world, name).status == "built" and world.provider.count("bake") == 2
    assert load(world, name).started_at <= load(world, name).created_at + 1


@pytest.mark.parametrize(
    "error, said",
    [
        (CommandFailed("mmdebstrap", 25, "token=hunter2"), "mmdebstrap ended with exit code 25."),
        (ValueError("hunter2"), "internal error (ValueError); the worker's log has the details"),
    ],
)
def test_a_build_that_fails_says_why_without_what_may_be_secret(world, error, said):
    write(world)
    spoil(world, Fails, "bake", error)
    name = build(world)
    world.drain()

    assert (load(world, name).status, load(world, name).failure) == ("failed", said)
    assert "hunter2" not in repr([e.reason for e in world.all(Event)])
    assert world.all(Job) == []


def test_a_build_waits_for_a_provider_that_is_away(world):
    write(world)
    away = spoil(world, Away, "bake")
    name = build(world)
    for _ in range(3):
        world.work()
        world.pass_s(61)
    assert load(world, name).status == "building"
    assert lines(world, name)[0] == "waiting for pve1 to answer"
    away.is_away = False
    world.drain()
    assert load(world, name).status == "built"


def test_a_database_that_went_away_during_a_build_fails_nothing(world):
    write(world)
    spoil(world, Fails, "bake", NotReady("The database went away."), times=2)
    name = build(world)
    world.drain()
    assert load(world, name).status == "built"


def test_a_build_that_is_interrupted_goes_on_later(world):
    class Interrupted(FakeProvider):
        def _before(self, verb, name):
            if verb == "bake" and self.count("bake") == 1:
                assert not process.stop.get().is_set()
                raise Stopped(name)

    write(world)
    spoil(world, Interrupted)
    name = build(world)
    world.drain()
    assert load(world, name).status == "built"


def test_without_a_cluster_there_is_nowhere_to_build(world):
    write(world)
    with world.database.transaction() as db:
        assert db.scalar(select(Cluster.name)) == "one"
        with pytest.raises(NotFound, match="no cluster two"):
            service.build(db, OPERATOR, "debian", "two")
