"""What a page tells an administrator to type on a node, as calls of the API that the same commands
make there."""

import shlex
from collections.abc import Callable
from typing import Any

from daas.providers.proxmox.client import Client


class Shell:
    """A node's, as root. `secrets` are the values of tokens that were shown."""

    def __init__(self, client: Client):
        self._client = client
        self.secrets: dict[str, str] = {}

    def run(self, script: str) -> None:
        """Each line is a command that this knows; another one is an error of the page."""
        for line in script.strip().splitlines():
            command: list[str] = []
            for word in [*shlex.split(line, comments=True), "&&"]:
                if word == "&&":
                    self._run(command)
                    command = []
                else:
                    command.append(word)

    def _run(self, words: list[str]) -> None:
        for length in (4, 3, 2):
            verb = VERBS.get(" ".join(words[:length]))
            if verb:
                verb(self, *_parsed(words[length:]))
                return
        raise AssertionError(f"not known here: {words}")

    def role_add(self, given: list[str], options: dict[str, str]) -> None:
        self._client.post("access/roles", {"roleid": given[0], **options})

    def role_modify(self, given: list[str], options: dict[str, str]) -> None:
        self._client.put(f"access/roles/{given[0]}", options)

    def user_add(self, given: list[str], options: dict[str, str]) -> None:
        self._client.post("access/users", {"userid": given[0], **options})

    def token_add(self, given: list[str], options: dict[str, str]) -> None:
        user, name = given
        made = self._client.post(f"access/users/{user}/token/{name}", options)
        self.secrets[f"{user}!{name}"] = str(made["value"])

    def acl_modify(self, given: list[str], options: dict[str, str]) -> None:
        self._client.put("access/acl", {"path": given[0], **options})

    def pool_add(self, given: list[str], options: dict[str, str]) -> None:
        self._client.post("pools", {"poolid": given[0], **options})

    def storage_set(self, given: list[str], options: dict[str, str]) -> None:
        self._client.put(f"storage/{given[0]}", options)


Verb = Callable[[Shell, list[str], dict[str, str]], None]
VERBS: dict[str, Verb] = {
    "pveum role add": Shell.role_add,
    "pveum role modify": Shell.role_modify,
    "pveum user add": Shell.user_add,
    "pveum user token add": Shell.token_add,
    "pveum acl modify": Shell.acl_modify,
    "pveum pool add": Shell.pool_add,
    "pvesm set": Shell.storage_set,
}


def _parsed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    given, options = [], {}
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            options[word.removeprefix("--")] = next(rest)
        else:
            given.append(word)
    return given, options
