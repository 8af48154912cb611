"""A person at a desktop: FreeRDP on an X server in memory, whose picture is read and whose keys
are pressed. The password goes in by stdin: it is in no command line."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # height x width x (red, green, blue)

WIDTH, HEIGHT = 1280, 800
FRENCH = "0x0000040C"
PANEL = Path(__file__).parent / "panel.png"  # its menu button, cut from a real desktop
NOT_SHOWN = Path(__file__).resolve().parents[2] / "build/e2e/not-shown.png"
TOLERANCE = 24  # of 255, a channel: RDP compresses
ALIKE = 0.97  # of the pixels of the reference
ANCHORS = 12  # pixels of the reference that sort out most places at once
CORNER = (48, 300)  # rows from the bottom, columns from the left
LOOK_S = 0.015
START_S = 10.0


class NotShown(Exception):
    """What was looked for did not come up; the text says what FreeRDP said."""


class Screen:
    """An X server in memory. `picture()` is what a person would see."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="daas-screen-")
        reader, writer = os.pipe()
        args = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{WIDTH}x{HEIGHT}x24"]
        args += ["-fbdir", self._folder.name, "-nolisten", "tcp", "-noreset"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._x = subprocess.Popen(args, pass_fds=[writer], **quiet)
        os.close(writer)
        with os.fdopen(reader) as display:  # it writes its number once it accepts clients
            self.name = f":{display.readline().strip()}"
        file = Path(self._folder.name) / "Xvfb_screen0"
        self._pixels = _map(file)
        self.run("setxkbmap", "fr")

    def close(self) -> None:
        self._x.terminate()
        self._x.wait()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DISPLAY": self.name}

    def run(self, *args: str) -> None:
        """Run an X program, to its end."""
        subprocess.run(args, env=self.environment, check=True, capture_output=True, timeout=60)

    def picture(self) -> Picture:
        return np.array(self._pixels[:, :, 2::-1])  # X keeps blue, green, red, nothing

    def corner(self) -> Picture:
        """Where the panel's menu button is to be: cheap enough to be looked at all the time."""
        return np.array(self._pixels[-CORNER[0] :, : CORNER[1], 2::-1])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.picture()).save(path)


class Client:
    """FreeRDP, connected or about to be; `fingerprint` (SHA-256, hex) is the only certificate it
    accepts."""

    def __init__(self, screen: Screen, endpoint: str, user: str, password: str, fingerprint: str):
        self.screen = screen
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with us)
        args = ["xfreerdp", f"/v:{endpoint}", f"/u:{user}", "/from-stdin:force", "/sec:tls"]
        args += [f"/cert:fingerprint:sha256:{_colons(fingerprint)}", f"/size:{WIDTH}x{HEIGHT}"]
        args += ["/bpp:32", "/network:lan", f"/kbd:{FRENCH}", "/log-level:WARN"]
        self._client = subprocess.Popen(
            args,
            env={**screen.environment, "HOME": screen._folder.name},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._client.stdin
        self._client.stdin.write(f"{password}\n")
        self._client.stdin.close()

    def close(self) -> None:
        self._client.send_signal(signal.SIGTERM)
        self._client.wait()
        self._log.close()

    @property
    def is_connected(self) -> bool:
        return self._client.poll() is None

    def said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:]

    def wait_for_panel(self, timeout_s: float) -> float:
        """Return the time (monotonic) at which the panel was seen. NotShown if it was not."""
        deadline = time.monotonic() + timeout_s
        while not has_panel(self.screen.corner()):
            if not self.is_connected:
                raise NotShown(f"FreeRDP ended: {self.said()}")
            if time.monotonic() > deadline:
                self.screen.save(NOT_SHOWN)
                raise NotShown(f"no panel in {timeout_s:.0f} s; see {NOT_SHOWN}. {self.said()}")
            time.sleep(LOOK_S)
        return time.monotonic()

    def ended(self) -> bool:
        return not self.is_connected

    def wait_for_end(self, timeout_s: float) -> bool:
        """Return whether the connection ended by itself in that time."""
        try:
            self._client.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def click(self, x: int, y: int) -> None:
        self.screen.run("xdotool", "mousemove", str(x), str(y), "click", "1")

    def type(self, text: str) -> None:
        self.screen.run("xdotool", "type", "--delay", "40", text)

    def press(self, key: str) -> None:
        self.screen.run("xdotool", "key", key)


@contextmanager
def connected(endpoint: str, user: str, password: str, fingerprint: str) -> Iterator[Client]:
    """A client with a screen of its own, for the time of the block."""
    screen = Screen()
    try:
        client = Client(screen, endpoint, user, password, fingerprint)
        try:
            yield client
        finally:
            client.close()
    finally:
        screen.close()


def has_panel(picture: Picture) -> bool:
    """Is the menu button of the XFCE panel somewhere in the picture?"""
    return find(picture, _reference()) is not None


def find(picture: Picture, wanted: Picture) -> tuple[int, int] | None:
    """Return where (x, y) `wanted` is in the picture, the first place from the top."""
    height, width = wanted.shape[:2]
    rows, columns = (picture.shape[0] - height + 1, picture.shape[1] - width + 1)
    if rows <= 0 or columns <= 0:
        return None
    fits = np.ones((rows, columns), dtype=bool)
    for y, x in _anchors(wanted):
        fits &= _near(picture[y : y + rows, x : x + columns], wanted[y, x])
    for y, x in np.argwhere(fits):
        if _near(picture[y : y + height, x : x + width], wanted).mean() >= ALIKE:
            return int(x), int(y)
    return None


@lru_cache(maxsize=1)
def _reference() -> Picture:
    return np.array(Image.open(PANEL).convert("RGB"))


def _anchors(wanted: Picture) -> list[tuple[int, int]]:
    """The pixels that differ most from the commonest colour: they are rarest elsewhere, too."""
    background = np.median(wanted.reshape(-1, 3), axis=0)
    strange = np.abs(wanted.astype(int) - background).sum(axis=2)
    best = np.argsort(strange, axis=None)[:: -max(1, strange.size // 400)][:ANCHORS]
    return [(int(i) // wanted.shape[1], int(i) % wanted.shape[1]) for i in best]


def _near(a: Picture, b: Picture) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = (np.abs(a.astype(np.int16) - b.astype(np.int16)) <= TOLERANCE).all(
        axis=-1
    )
    return near


def _map(file: Path) -> NDArray[np.uint8]:
    """The pixels of an XWD file that the X server keeps writing to, as they are now."""
    deadline = time.monotonic() + START_S
    while not file.exists() or file.stat().st_size < WIDTH * HEIGHT * 4:
        if time.monotonic() > deadline:
            raise NotShown("Xvfb made no picture file; is it installed (apt: xvfb)?")
        time.sleep(LOOK_S)
    header = np.fromfile(file, dtype=">u4", count=25)
    offset = int(header[0]) + 12 * int(header[19])  # header and name, colour table
    assert (header[4], header[5], header[11]) == (WIDTH, HEIGHT, 32), "another XWD than expected"
    return np.memmap(file, np.uint8, "r", offset, (HEIGHT, int(header[12]) // 4, 4))


def _colons(fingerprint: str) -> str:
    return ":".join(fingerprint[i : i + 2] for i in range(0, len(fingerprint), 2))
