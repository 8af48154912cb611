"""What the command line prints."""

import json

import pytest

from daas.cli import app, desktop, render

SESSION = {
    "id": "desktop-k3x9qa",
    "owner": "ada",
    "status": "ready",
    "rdp": {"host": "10.88.0.7", "port": 3389},
    "certificate": {"sha256": "AB" * 32},
}


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0.04, "0.0 s"),
        (-1, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (260_000, "3 days"),
    ],
)
def test_a_length_of_time_reads_as_people_say_it(seconds, said):
    assert render.span(seconds) == said


def test_what_reads_a_pipe_gets_whole_cells_and_no_colours(capsys):
    render.rows(("ID", "WHY"), [("desktop-k3x9qa", "w" * 150)], "nothing")

    out = capsys.readouterr().out
    assert "w" * 150 in out and "\x1b" not in out


def test_an_empty_list_says_so_and_leaves_stdout_alone(capsys):
    render.rows(("ID",), [], "There are no sessions.")

    said = capsys.readouterr()
    assert said.out == "" and "There are no sessions." in said.err


def test_square_brackets_of_others_are_not_markup(capsys):
    render.facts({"failure": "[bold]LXD[/bold] said [no]"})
    render.complain("[/] is no path")

    said = capsys.readouterr()
    assert "[bold]LXD[/bold] said [no]" in said.out and "[/] is no path" in said.err


def test_json_keeps_accents(capsys):
    render.as_json({"owner": "Éloïse"})

    out = capsys.readouterr().out
    assert json.loads(out) == {"owner": "Éloïse"} and "Éloïse" in out


def test_the_client_command_pins_the_certificate_and_holds_no_password(tmp_path):
    args = desktop.command(SESSION, "ada")
    path = desktop.keep_password("desktop-k3x9qa", "s3cret", tmp_path / "p" / "f")

    assert f"/cert:deny,fingerprint:sha256:{':'.join(['ab'] * 32)}" in args
    assert {"/v:10.88.0.7:3389", "/u:ada", "/from-stdin:force"} <= set(args)
    assert "s3cret" not in " ".join(args)
    assert path.read_text() == "s3cret\n"


def test_a_password_file_is_private_even_where_an_open_one_was(tmp_path):
    path = tmp_path / "password"
    path.write_text("old")
    path.chmod(0o644)

    desktop.keep_password("desktop-k3x9qa", "new", path)

    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text() == "new\n"


def test_a_login_does_not_print_its_password():
    assert "s3cret" not in repr(desktop.Login("ada", "s3cret"))


@pytest.mark.parametrize(
    "args, words, expected",
    [
        (["session", "list"], {}, ["session"]),
        (["--help"], {}, None),
        (["nonsense"], {}, None),
        ([], {"COMP_WORDS": "daas template bu"}, ["template"]),
        ([], {"COMP_WORDS": "daas se"}, None),
    ],
)
def test_only_the_module_that_was_asked_for_is_imported(args, words, expected):
    everything = list(dict.fromkeys(app.MODULES.values()))

    assert app.modules_for(args, words) == (expected or everything)
