"""One function per endpoint, registered by method and the official schema's path template."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pve_simulator.api import ApiError


@dataclass(frozen=True)
class Endpoint:
    """`protected`: done by pvedaemon, which has three workers; one that blocks holds a worker."""

    method: str
    template: str
    function: Callable[[Any], Any]
    protected: bool
    latency: str


@dataclass(frozen=True)
class Match:
    endpoint: Endpoint
    path_params: dict[str, str]


_endpoints: dict[tuple[str, str], Endpoint] = {}
_tree: dict[str, Any] = {}


def endpoint(
    method: str, template: str, *, protected: bool = False, latency: str = ""
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register a function. It gets a `Call` and returns `data`, or is a generator that does."""

    def register(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = latency or ("read" if method == "GET" else "write")
        _add(Endpoint(method, template, function, protected, name))
        return function

    return register


def find(method: str, path: str) -> Match:
    """The endpoint for a path. 501 where there is none."""
    parts = [part for part in path.split("/") if part]
    found = _descend(_tree, parts)
    if found is not None and method in found["/"]:
        chosen: Endpoint = found["/"][method]
        names = [part for part in chosen.template.split("/") if part]
        # A volume's name has slashes of its own: its parameter takes all that is left.
        parts[len(names) - 1 :] = ["/".join(parts[len(names) - 1 :])]
        pairs = zip(names, parts, strict=True)
        return Match(chosen, {n[1:-1]: value for n, value in pairs if n.startswith("{")})
    raise ApiError(501, f"Method '{method} {path}' not implemented")


def all_endpoints() -> list[Endpoint]:
    return list(_endpoints.values())


def _add(new: Endpoint) -> None:
    key = (new.method, new.template)
    assert key not in _endpoints, f"{key} is registered twice"
    _endpoints[key] = new
    place = _tree
    for part in new.template.split("/"):
        if part:
            place = place.setdefault("{}" if part.startswith("{") else part, {})
    place.setdefault("/", {})[new.method] = new


def _takes_rest(methods: dict[str, Endpoint]) -> bool:
    return all(endpoint.template.endswith("/{volume}") for endpoint in methods.values())


def _descend(place: dict[str, Any], parts: list[str]) -> dict[str, Any] | None:
    if set(place) == {"/"} and place["/"] and _takes_rest(place["/"]):
        return place
    # A literal segment wins over a parameter: /snapshot/{name}/config, /qemu/{vmid}/status.
    if not parts:
        return place if "/" in place else None
    for key in (parts[0], "{}"):
        if key in place:
            found = _descend(place[key], parts[1:])
            if found is not None:
                return found
    return None
