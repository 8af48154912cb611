"""One desktop as its owner has it, from the request to the last trace."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daas.providers.lxd.client import LxdClient
from e2e.product import BUILD, Product, until
from e2e.rdp import Client, NotShown, connected, has_panel

PANEL_S = 40.0
TERMINAL = (168, 782)  # its launcher on the panel
TYPED = "éèçà€"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def desktop(product: Product) -> Json:
    made = product.create(owner="ada", wait_s=60)
    assert made["status"] == "ready", made
    return made


@pytest.fixture(scope="module")
def secret(product: Product, desktop: Json) -> str:
    return product.credential(desktop["id"])[1]


@pytest.fixture(scope="module")
def ada(desktop: Json, secret: str) -> Iterator[Client]:
    """Ada at her desktop, the panel painted."""
    with connected(*_where(desktop), secret, _certificate(desktop)) as client:
        client.wait_for_panel(PANEL_S)
        yield client


@pytest.fixture(scope="module")
def root(desktop: Json) -> Iterator[Any]:
    """Runs a shell line as root of the desktop: what it printed."""
    client = LxdClient()

    def run(line: str) -> str:
        ended = client.exec(desktop["id"], ["sh", "-c", line])
        assert ended.exit_code == 0, (line, ended)
        return ended.stdout.decode()

    yield run
    client.close()


def test_the_owner_logs_in_by_rdp_and_sees_the_panel(ada: Client) -> None:
    time.sleep(2)  # for the wallpaper and the icons of the picture that is kept
    ada.screen.save(BUILD / "e2e/desktop.png")

    assert has_panel(ada.screen.picture())


def test_it_is_that_users_session(ada: Client, desktop: Json, root: Any) -> None:
    panel = "/proc/$(pidof xfce4-panel)"

    assert root(f"stat -c %U {panel}").strip() == "ada"
    assert root(f"tr '\\0' '\\n' < {panel}/environ | grep ^HOME=").strip() == "HOME=/home/ada"
    assert root("hostname").strip() == desktop["id"]


def test_a_french_keyboard_types_its_letters(ada: Client, root: Any) -> None:
    ada.click(*TERMINAL)
    until(lambda: _is_up(root, "xfce4-terminal"), 20.0, lambda: "no terminal came up")
    time.sleep(1.5)  # for its window to have the keyboard

    ada.type("cat > typed.txt")
    ada.press("Return")
    ada.type(TYPED)
    ada.press("Return")
    ada.press("ctrl+d")

    until(lambda: TYPED in root("cat /home/ada/typed.txt || true"), 10.0, lambda: _seen(ada, root))
    assert root("cat /home/ada/typed.txt") == f"{TYPED}\n"


def test_no_process_shows_the_password(ada: Client, secret: str, root: Any) -> None:
    everywhere = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"

    assert secret not in root(everywhere)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        assert secret.encode() not in _read(process)


def test_another_certificate_is_not_accepted(desktop: Json, secret: str) -> None:
    with connected(*_where(desktop), secret, "00" * 32) as client:
        assert client.wait_for_end(15.0)


def test_the_check_fails_on_the_greeter(desktop: Json) -> None:
    """A wrong password leaves xrdp's own window on the screen: that is no desktop."""
    with connected(*_where(desktop), "not the password", _certificate(desktop)) as client:
        until(lambda: _is_painted(client), 15.0, lambda: "xrdp painted nothing")

        with pytest.raises(NotShown):
            client.wait_for_panel(4.0)
        client.screen.save(BUILD / "e2e/greeter.png")
        assert not has_panel(client.screen.picture())


def test_the_check_fails_with_the_panel_killed(ada: Client, root: Any) -> None:
    assert has_panel(ada.screen.picture())

    # Not to be started again by the session.
    root("chmod -x /usr/bin/xfce4-panel; kill -9 $(pidof xfce4-panel)")
    until(lambda: not has_panel(ada.screen.picture()), 10.0, lambda: "the panel is still there")

    with pytest.raises(NotShown):
        ada.wait_for_panel(2.0)
    assert ada.is_connected  # it is the panel that is missing, not the desktop


def test_nothing_is_left_of_a_destroyed_desktop(
    product: Product, desktop: Json, secret: str, ada: Client
) -> None:
    name = desktop["id"]
    assert product.named(name) != [] and _machines(name) == [name]

    product.delete(name)
    product.wait_for(name, "deleted", timeout_s=15.0)

    assert ada.wait_for_end(5.0)
    assert _machines(name) == []
    secrets = "password, personal, endpoints, provider_state"
    assert product.rows(f"SELECT {secrets} FROM sessions WHERE name = ?", name) == [
        (None, None, None, "{}")
    ]
    assert product.rows("SELECT * FROM reservations WHERE session = ?", name) == []
    assert product.rows("SELECT * FROM jobs WHERE key = ?", name) == []
    assert product.named(name) == []
    assert _files_with(product.data_dir, secret.encode()) == []


def _where(desktop: Json) -> tuple[str, str]:
    return f"{desktop['rdp']['host']}:{desktop['rdp']['port']}", desktop["local_user"]


def _certificate(desktop: Json) -> str:
    return str(desktop["certificate"]["sha256"])


def _is_painted(client: Client) -> bool:
    return bool(np.unique(client.screen.picture()).size > 8)


def _is_up(root: Any, program: str) -> bool:
    return bool(root(f"pidof {program} || true").strip())


def _seen(ada: Client, root: Any) -> str:
    ada.screen.save(BUILD / "e2e/typed.png")
    return f"typed: {root('cat /home/ada/typed.txt || true')!r}; see build/e2e/typed.png"


def _machines(name: str) -> list[str]:
    client = LxdClient()
    found = client.request("GET", "/1.0/instances?recursion=1")
    client.close()
    return [one["name"] for one in found if name in str(one["config"]) or one["name"] == name]


def _files_with(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and needle in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that ended meanwhile
        return b""
