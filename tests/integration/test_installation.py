"""An installation: made once, checked at each start."""

import pytest
from sqlalchemy import select, text

from daas import installation
from daas.access import tokens
from daas.access.actors import Role
from daas.access.tokens import Token
from daas.crypto import Vault
from daas.db import Database
from daas.errors import ConfigError
from daas.jobs.models import Job
from daas.nodes.models import Cluster, Node
from daas.sessions import service
from daas.sessions.models import Installation
from daas.templates.models import Build, Template
from daas.templates.service import Recipe, RecipeSize
from daas.tenants import Tenant
from support.world import settings as make_settings

YAML = """
name: debian
base: {kind: mmdebstrap, suite: bookworm}
sizes: {s: {cpus: 1, memory_mib: 512, disk_gib: 4}}
default_size: s
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/debian.yaml").write_text(YAML)
    return make_settings(
        data_dir=tmp_path / "data", templates_dir=tmp_path / "templates", provider="simulated"
    )


@pytest.fixture
def opened(settings):
    installation.init(settings)
    database = installation.open_database(settings, threads=2)
    yield database
    database.dispose()


def names(database, column):
    with database.reading() as db:
        return list(db.scalars(select(column)))


def test_init_makes_all_that_a_start_needs(settings):
    made = installation.init(settings)
    database = installation.open_database(settings, threads=2)

    assert names(database, Tenant.name) == ["default"] and names(database, Cluster.kind) == [
        "simulated"
    ]
    assert names(database, Template.name) == ["debian"]
    assert sorted(names(database, Job.kind)) == ["node", "sweep"]
    assert names(database, Installation.id) == [made.instance]
    assert Vault(settings.secrets_dir).instance == made.instance
    with database.reading() as db:
        actor = tokens.actor_of(db, made.token)
    assert (actor.tenant, actor.role) == ("default", Role.OPERATOR)
    installation.check_token(database, settings)
    database.dispose()


def test_init_again_changes_nothing_and_shows_no_second_token(settings, opened):
    before = names(opened, Token.id), names(opened, Template.version)
    again = installation.init(settings)
    assert again.token is None
    assert (names(opened, Token.id), names(opened, Template.version)) == before


def test_what_is_made_is_nobody_elses(settings, opened):
    assert settings.data_dir.stat().st_mode & 0o077 == 0
    assert settings.secrets_dir.stat().st_mode & 0o077 == 0


def test_without_init_a_start_says_to_run_it(settings):
    with pytest.raises(ConfigError, match="run `daas init`"):
        installation.open_database(settings, threads=1)


def test_a_database_without_tables_says_so(settings, tmp_path):
    empty = make_settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(ConfigError, match="no tables yet: run `daas init`"):
        installation.open_database(empty, threads=1)


def test_a_database_of_another_version_says_what_to_do(settings, opened):
    """Catches: an old database that works until the first missing column."""
    with opened.transaction() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(ConfigError, match=r"revision 0000.*daas db upgrade"):
        installation.open_database(settings, threads=1)


def test_without_a_token_nobody_could_log_in(settings, opened):
    with opened.transaction() as db:
        db.query(Token).delete()
    with pytest.raises(ConfigError, match="no API token yet"):
        installation.check_token(opened, settings)
    trusting = make_settings(data_dir=settings.data_dir, auth="none")
    installation.check_token(opened, trusting)


def test_each_start_reads_the_templates_again(settings, opened, tmp_path):
    (tmp_path / "templates/debian.yaml").write_text(YAML + "locale: fr_FR.UTF-8\n")
    with opened.transaction() as db:
        installation.prepare(db, settings)
    assert names(opened, Template.version) == [1, 2]


def test_on_postgresql_too(settings, postgresql):
    with postgresql.new() as url:
        there = make_settings(
            data_dir=settings.data_dir, templates_dir=settings.templates_dir, database_url=url
        )
        made = installation.init(there)
        database = Database(url, threads=2)
        assert names(database, Installation.id) == [made.instance]
        database.dispose()


def test_another_provider_knows_nothing_of_the_images_and_nodes_of_the_one_before(settings, opened):
    with opened.transaction() as db:
        db.add(Build(name="build-a", template="debian", version=1, cluster="local", created_at=1))
        db.add(Node(cluster="local", name="sim1"))

    with opened.transaction() as db:
        installation.prepare(db, settings.model_copy(update={"provider": "lxd"}))

    assert names(opened, Cluster.kind) == ["lxd"]
    assert names(opened, Build.name) == [] and names(opened, Node.name) == []


def test_a_provider_cannot_be_changed_under_living_desktops(settings, opened):
    """Catches: machines that nobody can remove any more."""
    with opened.transaction() as db:
        recipe = Recipe("debian", 1, "img", "local", "s", RecipeSize(1, 512, 4, 512), {})
        session = service.refill(db, "pool", "default", recipe)

    with opened.transaction() as db, pytest.raises(ConfigError, match="1 desktops of simulated"):
        installation.prepare(db, settings.model_copy(update={"provider": "lxd"}))

    assert names(opened, Cluster.kind) == ["simulated"] and session.name
