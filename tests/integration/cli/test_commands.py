"""The commands that speak HTTP, against a service that runs."""

import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

NO_SQL = """
import sys
sys.argv = ["daas", "session", "list", "--help"]
from daas.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {"sqlalchemy", "alembic", "flask", "cryptography", "psycopg"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


@pytest.fixture
def desktop(product):
    made = product.create()
    yield made
    product.run("session", "delete", made["id"], "--no-wait")


def test_a_desktop_from_create_to_delete(product):
    made = product.json("session", "create", "--owner", "ada", "--size", "small")
    listed = product.json("session", "list", "--owner", "ada")
    shown = product.json("session", "show", made["id"])
    gone = product.json("session", "delete", made["id"])

    assert made["status"] == shown["status"] == "ready" and made["size"] == "small"
    assert [s["id"] for s in listed] == [made["id"]]
    assert gone["status"] == "deleted"
    assert product.json("session", "list", "--owner", "ada") == []


def test_create_shows_its_steps_on_stderr_and_the_result_on_stdout(product):
    done = product.run("session", "create", "--owner", "ada")

    name = done.stdout.split()[1]
    assert "✓ starting it" in done.stderr and f"{name} is ready after" in done.stderr
    assert f"daas session connect {name}" in done.stderr
    assert "✓" not in done.stdout and "ready" in done.stdout
    product.run("session", "delete", name)


def test_reuse_gives_the_desktop_that_is_there(product, desktop):
    again = product.json("session", "create", "--owner", "ada", "--reuse")

    assert again["id"] == desktop["id"]


def test_connect_puts_the_password_into_a_private_file_and_not_into_the_command(product, desktop):
    made = product.json("session", "connect", desktop["id"])

    file = Path(made["password_file"])
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and len(password) >= 12
    assert password not in json.dumps(made)
    assert "/from-stdin:force" in made["command"] and made["command"].endswith(f"< {file}")
    assert "deny,fingerprint:sha256:" in made["command"]


def test_connect_in_words_holds_no_password_either(product, desktop):
    done = product.run("session", "connect", desktop["id"])

    file = Path(product.json("session", "connect", desktop["id"])["password_file"])
    assert file.read_text().strip() not in done.stdout + done.stderr
    assert "xfreerdp" in done.stdout and "mode 600" in done.stdout


def test_a_deleted_desktop_takes_its_password_file_along(product):
    made = product.create()
    file = Path(product.json("session", "connect", made["id"])["password_file"])

    product.run("session", "delete", made["id"])

    assert not file.exists()


def test_start_gives_the_client_the_password_on_stdin_only(product, desktop, tmp_path):
    client = tmp_path / "xfreerdp"
    client.write_text('#!/bin/sh\necho "$@" >"$0.args"; cat >"$0.stdin"\n')
    client.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"

    done = product.run("session", "connect", desktop["id"], "--start", PATH=path, DISPLAY=":9")

    password = (tmp_path / "xfreerdp.stdin").read_text().strip()
    kept = Path(product.json("session", "connect", desktop["id"])["password_file"])
    assert done.returncode == 0, done.stderr
    assert password == kept.read_text().strip()
    assert password not in (tmp_path / "xfreerdp.args").read_text()


def test_start_says_what_is_missing(product, desktop):
    blind = product.run("session", "connect", desktop["id"], "--start", DISPLAY="")
    bare = product.run("session", "connect", desktop["id"], "--start", DISPLAY=":9", PATH="/none")

    assert blind.returncode == 1 and "no display" in blind.stderr
    assert bare.returncode == 1 and "apt-get install freerdp2-x11" in bare.stderr


def test_logs_say_what_was_done_for_it(product, desktop):
    words = product.run("session", "logs", desktop["id"]).stdout
    lines = product.run("session", "logs", desktop["id"], "--json").stdout.splitlines()

    assert "placed on" in words and "RDP answers" in words
    assert [json.loads(line)["text"] for line in lines]


def test_ctrl_c_leaves_it_being_made_and_says_how_to_come_back(product):
    slow = product.spawn("session", "create", "--owner", "ben")
    first = slow.stderr.readline()  # a step is told when the next one begins
    slow.send_signal(signal.SIGINT)
    _, said = slow.communicate(timeout=20)

    (made,) = product.json("session", "list", "--owner", "ben")
    assert "✓" in first and slow.returncode == 130
    assert f"daas session show {made['id']}" in said and "Traceback" not in said
    shown = product.run("session", "show", made["id"])  # goes on following it
    assert "ready" in shown.stdout
    product.run("session", "delete", made["id"])


@pytest.mark.parametrize(
    "args, code, said",
    [
        (("session", "show", "desktop-aaaaaa"), 1, "There is no session desktop-aaaaaa"),
        (("session", "create", "--size", "gigantic"), 1, "has no size gigantic"),
        (("session", "create", "--template", "none"), 1, "none"),
        (("session", "create", "--life", "soon"), 2, "--life"),
        (("session", "explode"), 2, "explode"),
        (("template", "build", "none"), 1, "There is no template none"),
        (("template", "create", "/nonexistent.yaml"), 2, "nonexistent"),
        (("token", "revoke", "token-00000000"), 1, "There is no token"),
    ],
)
def test_a_refusal_is_a_sentence_and_an_exit_code(product, args, code, said):
    done = product.run(*args)

    assert done.returncode == code and said in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_nobody_at_the_address_asks_whether_it_runs(product):
    done = product.run("session", "list", DAAS_URL="http://127.0.0.1:1")

    assert done.returncode == 1 and "is `daas serve` running?" in done.stderr


def test_templates_are_made_built_and_shown(product, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small-one\nbase: {kind: mmdebstrap, suite: bookworm}\n"
        "sizes: {tiny: {cpus: 1, memory_mib: 512, disk_gib: 4}}\ndefault_size: tiny\n"
    )

    made = product.json("template", "create", str(file))
    built = product.json("template", "build", "small-one")
    shown = product.json("template", "show", "small-one")
    logs = product.run("template", "logs", "small-one").stdout
    names = [t["name"] for t in product.json("template", "list")]

    assert (made["name"], made["version"]) == ("small-one", 1)
    assert built["status"] == "built" and shown["built_version"] == 1
    assert [b["id"] for b in shown["builds"]] == [built["id"]]
    assert "installing the desktop" in logs
    assert {"small-one", "debian-12-xfce"} <= set(names)


@pytest.mark.parametrize(
    "text, said",
    [
        ("name: [", "is not YAML"),
        ("- a list", "holds no template"),
        ("name: x\nsizes: {}\n", "base"),
        ("name: '$(reboot)'\n", "name"),
    ],
)
def test_a_document_that_is_none_is_refused_by_name(product, tmp_path, text, said):
    file = tmp_path / "broken.yaml"
    file.write_text(text)

    done = product.run("template", "create", str(file))

    assert done.returncode == 1 and said in done.stderr


def test_a_token_opens_until_it_is_revoked(product, tmp_path):
    made = product.json("token", "create", "eve")
    as_eve = {"DAAS_TOKEN": made["token"]}

    assert product.json("session", "list", **as_eve) == []
    assert [t["id"] for t in product.json("token", "list", **as_eve)] == [made["id"]]

    product.run("token", "revoke", made["id"])
    done = product.run("session", "list", **as_eve)
    assert done.returncode == 1 and "revoked" in done.stderr
    assert made["token"] not in done.stderr


def test_a_token_can_go_straight_into_a_private_file(product, tmp_path):
    file = tmp_path / "token"

    made = product.json("token", "create", "eve", "--file", str(file))

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["token"] is None and file.read_text().strip().startswith("daas_")


def test_why_tells_the_same_story_in_both_languages(product, desktop):
    english = product.run("why", desktop["id"]).stdout
    french = product.run("why", desktop["id"], LANG="fr_FR.UTF-8").stdout

    assert "admin asked for it" in english and "it was handed over: ready" in english
    assert "admin l'a demandé" in french and "il est prêt" in french
    assert english.count("\n") == french.count("\n")


def test_why_reads_the_database_where_nobody_answers(product, desktop):
    told = product.json("why", desktop["id"])
    product.stop()
    try:
        here = product.json("why", desktop["id"])
    finally:
        product.serve()

    assert here["happened"] == told["happened"] and here["status"] == "ready"


def test_listing_sessions_loads_no_database_library():
    done = subprocess.run(
        [sys.executable, "-c", NO_SQL], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words, expected",
    [
        ("daas session ", {"create", "list", "show", "connect", "delete", "logs"}),
        ("daas ", {"session", "template", "token", "doctor", "why", "init", "serve"}),
        ("daas template b", {"build"}),
    ],
)
def test_the_shell_completes_commands(product, words, expected):
    count = str(len(words.split()) - (not words.endswith(" ")))
    given = {"_DAAS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}

    done = product.run(**given)

    assert expected <= set(done.stdout.split()) and "supervise" not in done.stdout


def test_no_token_and_no_password_is_in_any_command_line_or_log(product, desktop):
    token = (product.data_dir / "secrets/token").read_text().strip()
    file = Path(product.json("session", "connect", desktop["id"])["password_file"])
    password = file.read_text().strip()
    watched = product.spawn("session", "logs", desktop["id"], "--follow")
    time.sleep(1.0)

    lines = b"".join(p.read_bytes() for p in _command_lines())
    watched.send_signal(signal.SIGINT)
    watched.communicate(timeout=20)

    log = (product.data_dir / "serve.log").read_text()
    for secret in (token, password):
        assert secret.encode() not in lines and secret not in log


def _command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.exists():
            yield path


def test_a_template_is_built_on_the_kind_of_hypervisor_that_is_named(product):
    built = product.run("template", "build", "debian-12-xfce", "--provider", "simulated")
    refused = product.run("template", "build", "debian-12-xfce", "--provider", "proxmox")

    assert built.returncode == 0, built.stderr
    assert refused.returncode == 1 and "DAAS_PROVIDER=proxmox" in refused.stderr
