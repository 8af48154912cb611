"""The files that make a desktop its own, on the host: in a folder that only root and the guest's
root can read, for as long as the machine exists."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from daas.errors import Refused

GIVEN = ".given"  # a VM has them already


class PersonalFiles:
    def __init__(self, work_dir: str | Path):
        self._root = Path(work_dir).resolve() / "sessions"

    def write(self, name: str, files: Mapping[str, bytes], owner: int) -> str:
        """The folder of machine `name` holds these files, all of them `owner`'s; return it."""
        folder = self.folder(name)
        for one in (self._root, folder.parent, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content in files.items():
            _write(folder / Path(file).name, content, owner)
        _give(folder, owner)
        return str(folder)

    def due(self, name: str) -> dict[str, bytes]:
        """Return the files of a VM that were not given to it yet."""
        folder = self.folder(name)
        if not folder.is_dir() or (folder / GIVEN).exists():
            return {}
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    def given(self, name: str) -> None:
        """They are not due any more."""
        (self.folder(name) / GIVEN).touch()

    def remove(self, name: str) -> None:
        """The work directory of machine `name` is gone from the host."""
        shutil.rmtree(self.folder(name).parent, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """Return where the files of that machine are; a name cannot lead out of our folder."""
        if Path(name).name != name or name in ("", ".", ".."):
            raise Refused(f"{name!r} is no name for a machine.")
        return self._root / name / "personal"


def _write(path: Path, content: bytes, owner: int) -> None:
    """Never readable by others, not even while it is written."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    _give(part, owner)
    part.replace(path)


def _give(path: Path, owner: int) -> None:
    """Containers shift user ids: their root is another user here."""
    if path.stat().st_uid == owner:
        return
    try:
        os.chown(path, owner, owner)
    except PermissionError as error:
        raise Refused(
            "The worker cannot hand files to a container's root (user "
            f"{owner}): let it run as root, or give it CAP_CHOWN."
        ) from error
