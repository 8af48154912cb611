"""Settings: typed, read once, and a mistake stops the program with the variable's name."""

import pytest
from pydantic import ValidationError

from daas.config import Settings, desktop_module, load
from daas.errors import ConfigError

V1 = {
    "FLASK_ENV": ("flask_env", "development", "production"),
    "ORCHESTRATOR_PORT": ("orchestrator_port", "8080", 5000),
    "TERRAFORM_DIR": ("terraform_dir", "/srv/terraform", None),
    "ANSIBLE_DIR": ("ansible_dir", "/srv/ansible", None),
    "PROXMOX_URL": ("proxmox_url", "https://pve:8006", ""),
    "MAX_CONCURRENT_SESSIONS": ("max_concurrent_sessions", "3", 10),
    "SESSION_TIMEOUT": ("session_timeout_s", "900", 1800),
}


@pytest.mark.parametrize("name", V1)
def test_the_variables_of_version_1_0_keep_their_names_and_defaults(name):
    field, value, default = V1[name]

    assert str(getattr(load({name: value}), field)) in (value, value + ".0")
    if default is not None:
        assert getattr(load({}), field) == default


def test_an_installation_of_version_1_0_keeps_its_module_and_a_new_one_gets_the_better(tmp_path):
    (tmp_path / "ephemeral").mkdir()
    new = desktop_module(tmp_path)
    (tmp_path / "ephemeral/terraform.tfvars").write_text('token_secret = "x"')
    kept = desktop_module(tmp_path)

    assert (new.name, kept.name) == ("ephemeral-bpg", "ephemeral")


def test_the_module_in_use_is_there():
    assert (load({}).terraform_dir / "main.tf").is_file()


def test_a_variable_of_version_1_0_has_no_second_name():
    """Catches: DAAS_SESSION_TIMEOUT that is read by some and not by others."""
    with pytest.raises(ConfigError, match="DAAS_SESSION_TIMEOUT"):
        load({"DAAS_SESSION_TIMEOUT": "9"})


@pytest.mark.parametrize(
    "name, near", [("DAAS_LISTN", "DAAS_LISTEN"), ("DAAS_MAX_ATTEMPT", "DAAS_MAX_ATTEMPTS")]
)
def test_an_unknown_variable_of_ours_stops_the_program_and_names_the_near_one(name, near):
    with pytest.raises(ConfigError, match=rf"{name} .*Did you mean {near}\?"):
        load({name: "x"})


def test_variables_of_others_are_none_of_our_business():
    load({"PATH": "/bin", "DJANGO_SETTINGS": "x", "daas_lower": "x"})


def test_variables_that_only_a_client_or_a_tool_reads_are_no_mistake():
    load({"DAAS_URL": "http://x", "DAAS_TOKEN": "t", "DAAS_TEST_POSTGRES": "required"})


@pytest.mark.parametrize(
    "name, value",
    [
        ("ORCHESTRATOR_PORT", "0"),
        ("ORCHESTRATOR_PORT", "70000"),
        ("ORCHESTRATOR_PORT", "http"),
        ("MAX_CONCURRENT_SESSIONS", "-1"),
        ("SESSION_TIMEOUT", "0"),
        ("FLASK_ENV", "prod"),
        ("DAAS_PROVIDER", "vmware"),
        ("DAAS_SESSION_MAX_LIFE", "never"),
        ("DAAS_LEASE_S", "0"),
        ("DAAS_MACHINE_THREADS", "0"),
        ("DAAS_NO_ROOM", "panic"),
        ("DAAS_LOG_LEVEL", "loud"),
        ("DAAS_LXD_PROXY_PORT_BASE", "80"),
    ],
)
def test_a_bad_value_stops_the_program_with_the_variables_name(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: "):
        load({name: value})


def test_several_mistakes_are_told_at_once():
    with pytest.raises(ConfigError, match=r"ORCHESTRATOR_PORT: .*DAAS_LEASE_S: "):
        load({"ORCHESTRATOR_PORT": "0", "DAAS_LEASE_S": "0"})


def test_a_database_of_a_kind_we_do_not_know_is_refused_without_its_password():
    """Catches: a connection string in the error that a person pastes into a ticket."""
    with pytest.raises(ConfigError, match=r"^DAAS_DATABASE_URL: ") as error:
        load({"DAAS_DATABASE_URL": "mysql://daas:hunter2@db/daas"})
    assert "hunter2" not in str(error.value)


def test_the_database_is_a_file_in_the_data_directory_unless_said_otherwise():
    url = "postgresql+psycopg://daas:hunter2@db/daas"

    assert load({"DAAS_DATA_DIR": "/d"}).database == "sqlite:////d/daas.db"
    assert load({"DAAS_DATABASE_URL": ""}).database.startswith("sqlite:///")
    assert load({"DAAS_DATABASE_URL": url}).database == url


def test_a_secret_does_not_show_when_settings_are_printed():
    said = repr(load({"DAAS_DATABASE_URL": "postgresql+psycopg://daas:hunter2@db/daas"}))
    assert "hunter2" not in said and "**********" in said


def test_a_secret_comes_from_a_file(tmp_path):
    (tmp_path / "url").write_text("sqlite:////from/file.db\n")
    given = {"DAAS_DATABASE_URL_FILE": str(tmp_path / "url")}

    assert load(given).database == "sqlite:////from/file.db"
    both = {**given, "DAAS_DATABASE_URL": "sqlite:////from/environment.db"}
    assert load(both).database == "sqlite:////from/environment.db"


def test_a_secret_comes_from_systemd(tmp_path):
    (tmp_path / "DAAS_DATABASE_URL").write_text("sqlite:////from/credential.db")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert load(given).database == "sqlite:////from/credential.db"


def test_a_secret_file_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"DAAS_DATABASE_URL_FILE: /no/such cannot be read"):
        load({"DAAS_DATABASE_URL_FILE": "/no/such"})


def test_a_file_for_something_that_is_no_setting_is_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(ConfigError, match="DAAS_TYPO is not a setting"):
        load({"DAAS_TYPO_FILE": str(tmp_path / "x")})


@pytest.fixture
def dotenv(tmp_path, monkeypatch):
    path = tmp_path / "env"
    monkeypatch.setenv("DAAS_ENV_FILE", str(path))
    return path


def test_settings_come_from_a_dotenv_file(dotenv):
    dotenv.write_text(
        "# a comment\n\nORCHESTRATOR_PORT=5001\nexport SESSION_TIMEOUT=60 # a minute\n"
        "DAAS_DEFAULT_TEMPLATE='debian-13-xfce'\nDAAS_LXD_POOL=\"p # q\"\n"
    )
    read = load({})

    assert (read.orchestrator_port, read.session_timeout_s) == (5001, 60)
    assert (read.default_template, read.lxd_pool) == ("debian-13-xfce", "p # q")


def test_the_environment_goes_before_the_dotenv_file(dotenv):
    dotenv.write_text("ORCHESTRATOR_PORT=5001\n")
    assert load({"ORCHESTRATOR_PORT": "5002"}).orchestrator_port == 5002


def test_a_mistake_in_the_dotenv_file_is_one_too(dotenv):
    dotenv.write_text("DAAS_LISTN=1\n")
    with pytest.raises(ConfigError, match="DAAS_LISTN"):
        load({})


@pytest.mark.parametrize("listen", ["0.0.0.0", "192.168.1.4", "::", "desk.example"])
def test_off_loopback_needs_a_deliberate_word(listen):
    """Catches: an API without TLS or login on the LAN because of one variable."""
    with pytest.raises(ConfigError, match="DAAS_AUTH=none"):
        load({"DAAS_LISTEN": listen})
    assert load({"DAAS_LISTEN": listen, "DAAS_AUTH": "none"}).listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_none(listen):
    assert load({"DAAS_LISTEN": listen}).auth == "token"


def test_settings_do_not_change_while_we_run():
    with pytest.raises(ValidationError):
        load({}).lease_s = 1  # type: ignore[misc]


def test_a_lease_outlives_two_lost_heartbeats():
    assert Settings.model_validate({}).lease_s >= 3 * Settings.model_validate({}).heartbeat_s


def test_a_setting_that_is_a_file_is_not_taken_for_the_file_of_a_secret(tmp_path):
    """Catches: DAAS_PROXMOX_CA_FILE read as the secret DAAS_PROXMOX_CA."""
    file = tmp_path / "ca.pem"

    assert load({"DAAS_PROXMOX_CA_FILE": str(file)}).proxmox_ca_file == file
