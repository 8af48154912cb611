"""The golden directory: a module with its providers, initialised once. `init` is slow, asks the
registry, and is not safe beside itself; a copy of its result takes a millisecond."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from daas import process
from daas.errors import CommandFailed, ConfigError
from daas.providers.terraform.errors import Diagnostic, TerraformFailed

INIT_S = 600  # a registry far away
UNUSED_S = 86400  # one that nobody used for so long goes when the next is made
NOT_OURS = shutil.ignore_patterns(
    ".terraform", "*.tfstate*", "*.tfvars", "*.tfvars.json", "*.example"
)
CLI_CONFIG = "cli.tfrc"
QUIET = {  # what an administrator's shell may hold, and would change what we run or print
    **dict.fromkeys(("TF_LOG", "TF_LOG_CORE", "TF_LOG_PROVIDER", "TF_LOG_PATH"), ""),
    **dict.fromkeys(("TF_CLI_ARGS", "TF_CLI_ARGS_init", "TF_CLI_ARGS_apply"), ""),
    **dict.fromkeys(("TF_CLI_ARGS_destroy", "TF_DATA_DIR", "TF_WORKSPACE"), ""),
    "TF_PLUGIN_CACHE_DIR": "",  # not safe for two `init` at once (terraform#31964)
    "TF_REATTACH_PROVIDERS": "",
    "TF_IN_AUTOMATION": "1",
    "CHECKPOINT_DISABLE": "1",
}


class Golden:
    def __init__(self, program: str, module_dir: Path, folder: Path, mirror: Path | None):
        self._program, self._module, self._mirror = program, module_dir, mirror
        self._folder = folder

    def ready(self) -> Path:
        """The directory of this module, program and mirror as they are now; made if need be, by
        one of those who need it, and only whole."""
        path = self._folder / self._key()
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._forget_unused()
                    self._make(path)
        os.utime(path)
        return path

    def environment(self, golden: Path) -> dict[str, str]:
        return {**QUIET, "TF_CLI_CONFIG_FILE": str(golden / CLI_CONFIG)}

    def _key(self) -> str:
        if not self._module.is_dir():
            raise ConfigError(f"TERRAFORM_DIR: {self._module} is not a folder.")
        parts = [str(self._module), *_looks(_program_file(self._program)), str(self._mirror)]
        for file in sorted(_module_files(self._module)):
            parts += [str(file), file.read_text(errors="replace")]
        if self._mirror:
            parts += _looks(*sorted(self._mirror.rglob("*")))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _make(self, path: Path) -> None:
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
        try:
            shutil.copytree(self._module, new, ignore=NOT_OURS, dirs_exist_ok=True)
            (new / CLI_CONFIG).write_text(_cli_config(self._mirror))
            self._init(new)
            new.rename(path)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _init(self, folder: Path) -> None:
        args = [self._program, "init", "-input=false", "-no-color"]
        try:
            process.run(args, INIT_S, cwd=folder, env=self.environment(folder), is_bound=True)
        except CommandFailed as error:
            words = f"{self._program} init of {self._module}"
            text = error.tail or str(error)
            raise TerraformFailed(
                words, error.exit_code, text, diagnostics=tuple(_told(text))
            ) from error

    def _forget_unused(self) -> None:
        for old in self._folder.iterdir():
            if old.is_dir() and old.stat().st_mtime < time.time() - UNUSED_S:
                shutil.rmtree(old, ignore_errors=True)


def copy(golden: Path, folder: Path) -> None:
    """`folder` is as initialised as `golden`; providers are not copied but pointed to."""
    shutil.copytree(golden, folder, ignore=shutil.ignore_patterns("providers"), dirs_exist_ok=True)
    providers = golden / ".terraform/providers"
    if providers.exists():
        (folder / ".terraform/providers").symlink_to(providers)


def _module_files(module: Path) -> Iterable[Path]:
    for folder, folders, files in os.walk(module):
        ignored = NOT_OURS(folder, [*folders, *files])
        folders[:] = [one for one in folders if one not in ignored]
        yield from (Path(folder, one) for one in files if one not in ignored)


def _program_file(program: str) -> Path:
    return Path(shutil.which(program) or program).resolve()


def _looks(*files: Path) -> list[str]:
    """Names, sizes and times: a new version of a program or provider changes one of them."""
    stats = ((file, file.stat()) for file in files if file.exists())
    return [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats]


def _cli_config(mirror: Path | None) -> str:
    checkpoint = "disable_checkpoint = true\n"
    if not mirror:
        return checkpoint
    path = str(mirror.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    return (
        checkpoint
        + f'provider_installation {{\n  filesystem_mirror {{\n    path = "{path}"\n  }}\n}}\n'
    )


def _told(text: str) -> Iterable[Diagnostic]:
    """Errors in the prose of a command that has no -json in every version."""
    summaries = [
        line.partition("Error: ")[2].strip() for line in text.splitlines() if "Error: " in line
    ]
    return [Diagnostic(summary) for summary in summaries]
