"""Run Terraform for one machine: a directory of its own, its state lent and taken back, its words
made notes. Secrets go by environment alone; what comes back is free of them."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daas import process
from daas.errors import CommandFailed, StepFailed
from daas.providers.base import Progress
from daas.providers.terraform import backend, golden, state, tfvars, workdir
from daas.providers.terraform.errors import StateUnusable, TerraformFailed
from daas.providers.terraform.output import Output
from daas.providers.terraform.slots import slot

RUN_S = 1800.0  # a full clone of a large disk; the step's own deadline comes first
# From the interrupt to the kill. Terraform ends the call that it is in and writes its state: a
# clone that waits for a lock of the storage does so for 10 s.
GRACE_S = 12.0
VARIABLES = "daas.auto.tfvars.json"  # beats the environment
IS_SECRET = re.compile("secret|password|private", re.IGNORECASE)


@dataclass(frozen=True)
class Errand:
    """What is to be done for which machine, and who listens."""

    verb: str
    name: str
    variables: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)
    state: str | None = field(repr=False)
    keep: Callable[[str], None]
    note: Progress


class Terraform:
    """One installation's: a program, a module, a mirror of providers (None: the registry) and
    `slots` processes at once. `environment` is what a run gets besides ours."""

    def __init__(
        self,
        program: str,
        module_dir: Path,
        work_dir: Path,
        mirror: Path | None,
        slots: int,
        environment: Mapping[str, str],
    ):
        # It runs in another directory than we do.
        self._program = str(Path(found).resolve()) if (found := shutil.which(program)) else program
        self._module_dir, self._slots = module_dir, slots
        work_dir = work_dir.resolve()
        self._runs, self._locks = work_dir / "runs", work_dir / "slots"
        self._golden = golden.Golden(self._program, module_dir, work_dir / "golden", mirror)
        self._environment = dict(environment)

    def prepare(self) -> None:
        """The module is initialised. TerraformFailed if that cannot be."""
        self._golden.ready()

    def apply(
        self,
        name: str,
        variables: Mapping[str, Any],
        secrets: Mapping[str, str],
        state: str | None,
        keep: Callable[[str], None],
        note: Progress,
    ) -> dict[str, Any]:
        """The machine of these variables exists; the module's outputs. `keep` gets the state that
        the run left, also if it failed or was stopped. TerraformFailed; StateUnusable, and then
        nothing was run; Stopped."""
        return self._do(Errand("apply", name, variables, secrets, state, keep, note))

    def destroy(
        self,
        name: str,
        variables: Mapping[str, Any],
        secrets: Mapping[str, str],
        state: str | None,
        keep: Callable[[str], None],
        note: Progress,
    ) -> None:
        """What the state knows is gone; of a machine that it does not know this says nothing.
        Keeps and raises as `apply` does. Stop the machine first: telmate believes a list that is
        10 s old, and then tries to delete one that runs."""
        self._do(Errand("destroy", name, variables, secrets, state, keep, note))

    def forget(self, prefix: str) -> None:
        """Nothing is left here of runs whose names begin so, their states least of all. NotYet
        while one still ends."""
        workdir.forget(self._runs, prefix)

    def _do(self, errand: Errand) -> dict[str, Any]:
        given = errand.state and state.checked(errand.state)
        ready = self._golden.ready()
        workdir.forget_old(self._runs)
        with workdir.held(self._runs, errand.name) as (folder, lock):
            known = state.newer(given, state.on_disk(folder))
            if known and known != given:  # of a run that was killed before it could hand it over
                errand.keep(known)
            is_local = backend.kind(ready) == backend.LOCAL
            if is_local and errand.verb == "destroy" and known is None:
                shutil.rmtree(folder, ignore_errors=True)
                return {}
            with slot(self._locks, self._slots):
                # One that a killed run left may know a machine whose number is somebody else's by
                # now, and `apply` would replace it: it is handed over, and not used unasked.
                lent = known if errand.verb == "destroy" else given
                _furnish(folder, ready, errand.variables, lent if is_local else None)
                return self._run(errand, folder, ready, lock)

    def _run(self, errand: Errand, folder: Path, ready: Path, lock: int) -> dict[str, Any]:
        known = {**tfvars.read(self._module_dir), **errand.secrets}
        secrets = {value for name, value in known.items() if IS_SECRET.search(name)}
        output = Output(secrets | set(errand.secrets.values()), errand.note)
        args = [self._program, errand.verb, "-json", "-auto-approve", "-input=false"]
        if errand.verb == "apply" and not (folder / state.STATE).exists():
            args.append("-refresh=false")  # nothing is known that could have changed
        try:
            process.run(
                args,
                RUN_S,
                cwd=folder,
                env=self._environment_of(errand, ready),
                on_line=output.line,
                is_bound=True,
                grace_s=GRACE_S,
                holds=[lock],
            )
        except CommandFailed as error:
            raise self._failure(errand, error, output) from None
        finally:
            left = state.on_disk(folder)
            if left is not None:
                errand.keep(left)
            shutil.rmtree(folder, ignore_errors=True)
        return output.values

    def _environment_of(self, errand: Errand, ready: Path) -> dict[str, str]:
        """An administrator's terraform.tfvars, then what our own environment has of them, then
        what we were given."""
        values = {f"TF_VAR_{name}": value for name, value in tfvars.read(self._module_dir).items()}
        values |= {key: value for key, value in os.environ.items() if key in values}
        values |= {f"TF_VAR_{name}": value for name, value in errand.secrets.items()}
        given = {**os.environ, **self._environment}
        whose = backend.environment(backend.kind(ready), errand.name, given)
        return {**self._golden.environment(ready), **self._environment, **values, **whose}

    def _failure(self, errand: Errand, error: CommandFailed, output: Output) -> StepFailed:
        words = f"{Path(self._program).name} {errand.verb}"
        refusal = next((d for d in output.diagnostics if d.summary in state.REFUSALS), None)
        if refusal:
            return StateUnusable(f"{words} cannot use the state of {errand.name}: {refusal}")
        tail = output.scrubbed(error.tail)
        return TerraformFailed(words, error.exit_code, tail, output.diagnostics)


def _furnish(folder: Path, ready: Path, variables: Mapping[str, Any], known: str | None) -> None:
    """The directory is as `init` would leave it, with variables and state."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    golden.copy(ready, folder)
    workdir.write_private(folder / VARIABLES, json.dumps(variables))
    if known is not None:
        workdir.write_private(folder / state.STATE, known)
