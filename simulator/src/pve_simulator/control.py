"""The control API over HTTP: `/control/…` on every port, beside the API and without a login.

`POST /control/NAME` with a JSON object calls the method NAME of `sim.faults` (dashes for
underscores).
"""

import json
import re
from typing import Any

from aiohttp import web

from pve_simulator.api import ApiError
from pve_simulator.engine.faults import Faults
from pve_simulator.engine.holds import Hold

PREFIX = "/control/"


async def serve(faults: Faults, request: web.Request) -> web.Response:
    name = request.path.removeprefix(PREFIX).strip("/")
    try:
        if request.method == "GET":
            return web.json_response(await _read(faults, name, request))
        body = await request.text()
        return web.json_response(_call(faults, name, json.loads(body) if body else {}))
    except (ApiError, LookupError, TypeError, ValueError, re.error) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _read(faults: Faults, name: str, request: web.Request) -> Any:
    if name == "calls":
        since = int(request.query.get("since", 0))
        return [call.as_dict() for call in faults.calls[since:]]
    if name == "holds":
        return [_hold(hold) for hold in faults.holds]
    raise LookupError(f"nothing to read at {PREFIX}{name}: try calls or holds")


def _call(faults: Faults, name: str, options: dict[str, Any]) -> Any:
    method = getattr(faults, name.replace("-", "_"), None)
    if not getattr(method, "is_control", False):
        raise LookupError(f"no control {name!r}; there are {', '.join(names())}")
    assert method is not None
    result = method(**options)
    return _hold(result) if isinstance(result, Hold) else {"ok": True}


def names() -> list[str]:
    """All that can be armed."""
    methods = ((name, getattr(Faults, name)) for name in dir(Faults) if not name.startswith("_"))
    return [name.replace("_", "-") for name, method in methods if hasattr(method, "is_control")]


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "hold": hold.id,
        "is_held": hold.is_held,
        "call": hold.call.as_dict() if hold.call else None,
    }
