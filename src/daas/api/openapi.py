"""The OpenAPI 3.1 document, from the code. The library's own model of a schema drops keywords of
JSON Schema that we need (patternProperties, examples), so the components are put in here."""

from http import HTTPStatus
from typing import Any

from flask_openapi3.models.info import Info
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from daas.api import errors, schemas
from daas.api.core import VERSION
from daas.templates.document import TemplateDocument

Answers = dict[str | int | HTTPStatus, Any]
REF = "#/components/schemas/{model}"
SECURITY: Any = {"token": {"type": "http", "scheme": "bearer"}}
GUARDED: list[dict[str, list[str]]] = [{"token": []}]
TEXT = {"type": "string", "pattern": "^[^\\u0000]*$"}
JSON = {"$ref": REF.format(model="Json")}
# Any value, but with the one thing that PostgreSQL cannot keep left out.
JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": ["null", "boolean", "integer", "number"]},
        TEXT,
        {"type": "array", "items": JSON},
        {"type": "object", "propertyNames": TEXT, "additionalProperties": JSON},
    ]
}
TITLES = {
    304: "You have it already",
    400: "Malformed; `field` names what",
    401: "No login",
    403: "Visible, but not yours",
    404: "Absent, or invisible to you",
    409: "It cannot do that now, or contradicts itself",
    413: "More than 64 KiB",
    415: "Not application/json",
    429: "Quota or rate",
    503: "No room, or a part is away; see Retry-After",
}
HEADERS = {
    "X-Request-Id": {"description": "names this request in our log", "schema": {"type": "string"}}
}

TAGS = {
    name: Tag(name=name, description=text)
    for name, text in (
        ("sessions", "Desktops, from request to deletion"),
        ("templates", "What desktops are made from"),
        ("nodes", "Hypervisor hosts and what is left of them"),
        ("events", "The record of what happened"),
        ("access", "Who is asking"),
        ("health", "Whether this works"),
    )
}


class Api(OpenAPI):
    """Flask, with the document of its own routes at /openapi/openapi.json."""

    def generate_spec_json(self) -> None:
        super().generate_spec_json()  # type: ignore[no-untyped-call]
        self.spec_json["components"]["schemas"] = components()
        for path in self.spec_json["paths"].values():
            for operation in path.values():
                _tidy(operation)


def make() -> Api:
    about = Info(
        title="DaaS Orchestrator",
        version=VERSION,
        description="Desktops as a service on one's own hardware.",
    )
    return Api(
        "daas.api",
        info=about,
        security_schemes=SECURITY,
        validation_error_status=400,
        validation_error_model=schemas.Problem,
        validation_error_callback=errors.of_validation,
    )


def answers(*refusals: int, **shown: Any) -> Answers:
    """What an operation answers: `ok`, `accepted`, `created` with a model or media types; and
    problem details for each status it refuses with."""
    codes = {"ok": "200", "created": "201", "accepted": "202", "gone": "204", "same": "304"}
    found: Answers = {codes[word]: _content(what) for word, what in shown.items()}
    problem = {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}
    for status in sorted({400, *refusals}):
        found[str(status)] = {"description": TITLES[status], "content": problem}
    return found


def components() -> dict[str, Any]:
    """The schemas of all our models, by name."""
    found: dict[str, Any] = {"Json": JSON_SCHEMA}
    for model in vars(schemas).values():
        if isinstance(model, type) and issubclass(model, BaseModel) and _is_shown(model):
            is_asked = issubclass(model, schemas.Body)
            found |= _schemas(model, "validation" if is_asked else "serialization")
    return found


def _is_shown(model: type[BaseModel]) -> bool:
    parts = (schemas.Query, schemas.Header, schemas.Body)
    is_base = model in (BaseModel, *parts, TemplateDocument)
    return not (is_base or issubclass(model, parts[:2]) or model.__name__.endswith("Path"))


def _schemas(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF, mode=mode)
    parts = schema.pop("$defs", {})
    return {
        name: _strict(part) if mode == "validation" else part
        for name, part in {**parts, model.__name__: schema}.items()
    }


def _strict(schema: Any) -> Any:
    """Say what the models and `requests.parsed` insist on, and pydantic leaves unsaid: keys that
    match no pattern are refused, so are NULs in a free text."""
    if not isinstance(schema, dict):
        return [_strict(s) for s in schema] if isinstance(schema, list) else schema
    found = {
        key: part if key in ("examples", "default", "enum") else _strict(part)
        for key, part in schema.items()
    }
    if "patternProperties" in found:
        found.setdefault("additionalProperties", False)
        found["patternProperties"] = {k: v or JSON for k, v in found["patternProperties"].items()}
    elif found.get("type") == "object" and found.get("additionalProperties") is True:
        found |= {"additionalProperties": JSON, "propertyNames": TEXT}
    if found.get("type") == "string" and not {"pattern", "enum", "const"} & found.keys():
        found |= {"pattern": TEXT["pattern"]}
    return found


def _content(what: Any) -> Any:
    """A model, or {media type: schema}; each answer carries the id of its request."""
    if what is None:
        return {"description": "Done", "headers": HEADERS}
    if isinstance(what, dict):
        content = {media: {"schema": schema} for media, schema in what.items()}
        return {"description": "OK", "content": content, "headers": HEADERS}
    return _content({"application/json": {"$ref": REF.format(model=what.__name__)}})


def _tidy(operation: dict[str, Any]) -> None:
    """No `null` defaults and examples that only a form in the browser would send."""
    for parameter in operation.get("parameters", ()):
        if parameter["schema"].get("default", 0) is None:
            del parameter["schema"]["default"]
