"""What goes wrong with Terraform. A text of it is scrubbed of secrets before it gets here."""

from dataclasses import dataclass

from daas.errors import CommandFailed, StepFailed


@dataclass(frozen=True)
class Diagnostic:
    """One error as Terraform printed it: what, and what the provider said about it."""

    summary: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.summary}: {self.detail}" if self.detail else self.summary


class TerraformFailed(CommandFailed):
    """`diagnostics` are its errors, the first first; none where it ended without a word."""

    def __init__(
        self, command: str, exit_code: int, tail: str = "", diagnostics: tuple[Diagnostic, ...] = ()
    ):
        super().__init__(command, exit_code, tail)
        self.diagnostics = diagnostics
        if diagnostics:
            self.args = (f"{command} failed: {'; '.join(d.summary for d in diagnostics)}",)


class StateUnusable(StepFailed):
    """The state cannot be read, or somebody holds its lock. The machine may well be there: look
    for it by its mark, and go on without the state."""

    code = "state-unusable"
