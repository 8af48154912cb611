"""The official API schema: which methods there are, and whether a call's parameters are right.

Complaints are worded and found in the order in which Proxmox VE's own checker has them. The data
is of version 8.4; what version 9 changed about permissions is in `access/versions.py`.
"""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from pve_simulator.api import Invalid
from pve_simulator.formats import (
    CHECKS,
    PROPERTIES,
    VALIDATORS,
    BadFormat,
    parse_boolean,
    split_list,
)

DATA = "pve-apidata-8.4.21.json.gz"

# How many of each numbered parameter there are; the schema writes `net[n]`.
COUNTS = {
    "net": 32, "ipconfig": 32, "scsi": 31, "sata": 6, "ide": 4, "virtio": 16, "usb": 14,
    "hostpci": 16, "parallel": 3, "serial": 4, "numa": 8, "unused": 256, "virtiofs": 10,
    "mp": 256, "dev": 256, "link": 8, "acmedomain": 6,
}  # fmt: skip

Errors = dict[str, str]
Properties = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Method:
    """One method of one path. `check` is the permissions entry, None for root@pam only."""

    name: str
    properties: Properties
    allows_more: bool
    check: Mapping[str, Any] | None
    is_protected: bool
    is_proxied: bool
    allows_token: bool
    returns: Mapping[str, Any]


@cache
def methods() -> Mapping[tuple[str, str], Method]:
    """All methods by (verb, path template)."""
    raw = resources.files("pve_simulator").joinpath("data").joinpath(DATA).read_bytes()
    found: dict[tuple[str, str], Method] = {}
    _collect(json.loads(gzip.decompress(raw)), found)
    return found


def find(verb: str, template: str) -> Method | None:
    return methods().get((verb, template))


def validate(verb: str, template: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, whole numbers and flags as int; Invalid with a complaint for each bad one.

    `params` holds those of the path, too. A method that the schema does not know takes anything.
    """
    method = find(verb, template)
    if method is None:
        return dict(params)
    errors: Errors = {}
    values = {name: _as_text(value) for name, value in params.items() if value is not None}
    _normalize(values, method.properties)
    _check_object("", method.properties, values, method.allows_more, errors)
    if errors:
        raise Invalid(**errors)
    return {name: _typed(value, method.properties.get(name)) for name, value in values.items()}


def parse_property_string(
    text: str, format_: str | Properties, path: str = "", *, allows_more: bool = False
) -> dict[str, str]:
    """The keys and values of a `key=value,...` string. Raises BadFormat."""
    validator = VALIDATORS.get(format_) if isinstance(format_, str) else None
    properties: Properties = PROPERTIES[format_] if isinstance(format_, str) else format_
    result: dict[str, str] = {}
    default_key = ""
    for part in text.split(","):
        if not part.strip():
            continue
        pair = re.match(r"^([^=]+)=(.+)$", part)
        if pair:
            _take_pair(pair[1], pair[2], properties, result)
        elif "=" not in part:
            default_key = _take_default(part, properties, result, default_key)
        else:
            raise BadFormat("missing key in comma-separated list property\n")
    errors: Errors = {}
    _check_object(path, properties, result, allows_more, errors)
    if errors:
        lines = "".join(f"{name}: {errors[name]}\n" for name in sorted(errors))
        raise BadFormat(f"format error\n{lines}")
    if validator:
        validator(result)
    return result


def _collect(nodes: Any, found: dict[tuple[str, str], Method]) -> None:
    for node in nodes:
        for verb, info in (node.get("info") or {}).items():
            parameters = info.get("parameters") or {}
            found[verb, node["path"]] = Method(
                name=info["name"],
                properties=_expand(parameters.get("properties") or {}),
                # Perl's undef: nothing is said about more parameters, so they pass.
                allows_more=bool(parameters.get("additionalProperties", 1)),
                check=info.get("permissions"),
                is_protected=bool(info.get("protected")),
                is_proxied="proxyto" in info,
                allows_token=bool(info.get("allowtoken", 1)),
                returns=info.get("returns") or {},
            )
        _collect(node.get("children") or [], found)


def _expand(properties: Properties) -> Properties:
    expanded: dict[str, Mapping[str, Any]] = {}
    for name, schema in properties.items():
        if name.endswith("[n]"):
            expanded |= {f"{name[:-3]}{n}": schema for n in range(COUNTS[name[:-3]])}
        else:
            expanded[name] = schema
    return expanded


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return value if isinstance(value, dict) else str(value)


def _typed(value: Any, schema: Mapping[str, Any] | None) -> Any:
    if schema is not None and schema.get("type") in ("integer", "boolean"):
        return int(value)
    return value


def _normalize(values: dict[str, Any], properties: Properties) -> None:
    for name, value in values.items():
        schema = properties.get(name)
        if schema is None or not value:
            continue
        if isinstance(value, list) and schema.get("type") == "string":
            if str(schema.get("format", "")).endswith("-list"):
                values[name] = ",".join(value)
        elif schema.get("type") == "array" and not isinstance(value, list):
            values[name] = [value]


def _take_pair(key: str, value: str, properties: Properties, result: dict[str, str]) -> None:
    if key in result:
        raise BadFormat(f"duplicate key in comma-separated list property: {key}\n")
    schema = properties.get(key)
    if schema is not None and "alias" in schema:
        named = schema.get("keyAlias")
        if named:
            if named in result:
                raise BadFormat(f"key alias '{named}' is already defined\n")
            result[named] = key
        key = schema["alias"]
        schema = properties.get(key)
    if schema is None:
        raise BadFormat(f"invalid key in comma-separated list property: {key}\n")
    if schema.get("type") == "boolean":
        flag = parse_boolean(value)
        value = value if flag is None else str(flag)
    result[key] = value


def _take_default(part: str, properties: Properties, result: dict[str, str], taken: str) -> str:
    if taken:
        raise BadFormat(f"duplicate key in comma-separated list property: {taken}\n")
    for key, schema in properties.items():
        if schema.get("default_key"):
            if result.get(key):
                raise BadFormat(f"duplicate key in comma-separated list property: {key}\n")
            result[key] = part
            return key
    raise BadFormat("value without key, but schema does not define a default key\n")


def _check_object(
    path: str, properties: Properties, values: Mapping[str, Any], allows_more: bool, errors: Errors
) -> None:
    for name, schema in properties.items():
        _check_property(_join(path, name), schema, values.get(name), errors)
    for name in values:
        schema_of = properties.get(name)
        if schema_of is None:
            if not allows_more:
                _add(
                    errors,
                    _join(path, name),
                    "property is not defined in schema "
                    "and the schema does not allow additional properties",
                )
            continue
        needed = schema_of.get("requires")
        if isinstance(needed, str) and values.get(needed) is None:
            text = f"missing property - '{_join(path, name)}' requires this property"
            _add(errors, _join(path, needed), text)


def _check_property(path: str, schema: Mapping[str, Any], value: Any, errors: Errors) -> None:
    if value is None:
        if not any(schema.get(key) for key in ("optional", "alias", "group")):
            _add(errors, path, "property is missing and it is not optional")
        return
    complaint = _type_complaint(schema.get("type"), value)
    if complaint:
        _add(errors, path, complaint)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            _check_property(f"{path}[{index}]", schema.get("items") or {}, element, errors)
    elif isinstance(value, str):
        complaint = _format_complaint(schema, value, path) or _limit_complaint(schema, value)
        if complaint:
            _add(errors, path, complaint)


def _type_complaint(kind: str | None, value: Any) -> str:
    failed = f"type check ('{kind}') failed"
    if kind == "array":
        return "" if isinstance(value, list) else failed
    if kind == "object":
        return "" if isinstance(value, dict) else failed
    if not isinstance(value, str):
        if kind in (None, "any") or (kind == "boolean" and isinstance(value, bool)):
            return ""
        name = {bool: "JSON::PP::Boolean", list: "ARRAY", dict: "HASH"}[type(value)]
        return f"{failed} - got {name}"
    fits = {
        "boolean": lambda: value in ("0", "1"),
        "integer": lambda: bool(re.search(r"^[+-]?\d+$", value)),
        "number": lambda: _is_number(value),
    }.get(kind or "")
    return "" if fits is None or fits() else f"{failed} - got '{value}'"


def _format_complaint(schema: Mapping[str, Any], value: str, path: str) -> str:
    try:
        _check_format(schema.get("format"), value, path)
    except BadFormat as error:
        return f"invalid format - {error}"
    return ""


def _check_format(format_: Any, value: str, path: str) -> None:
    if not format_:
        return
    if format_ == "pve-qm-ide":
        format_ = methods()["PUT", "/nodes/{node}/qemu/{vmid}/config"].properties["ide0"]["format"]
    if not isinstance(format_, str) or format_ in PROPERTIES:
        parse_property_string(value, format_, path)
        return
    base, _, kind = format_.rpartition("-")
    if kind == "list":
        for one in split_list(value):
            CHECKS.get(base, CHECKS["string"])(one)
    elif kind == "opt":
        if value:
            CHECKS.get(base, CHECKS["string"])(value)
    else:
        CHECKS.get(format_, CHECKS["string"])(value)


def _limit_complaint(schema: Mapping[str, Any], value: str) -> str:
    pattern = schema.get("pattern")
    if pattern and not re.search(f"^{_python_pattern(pattern)}$", value, re.ASCII):
        return "value does not match the regex pattern"
    most, least = schema.get("maxLength"), schema.get("minLength")
    if most is not None and len(value) > int(most):
        return f"value may only be {most} characters long"
    if least is not None and len(value) < int(least):
        return f"value must be at least {least} characters long"
    if _is_number(value):
        most, least = schema.get("maximum"), schema.get("minimum")
        if most is not None and float(value) > float(most):
            return f"value must have a maximum value of {most}"
        if least is not None and float(value) < float(least):
            return f"value must have a minimum value of {least}"
    words = schema.get("enum")
    if words and value not in [str(word) for word in words]:
        listed = ", ".join(str(word) for word in words)
        return f"value '{value}' does not have a value in the enumeration '{listed}'"
    return ""


def _python_pattern(pattern: str) -> str:
    # How Perl prints a compiled pattern: `(?^i:...)`, the caret meaning "no other flags".
    return re.sub(r"\(\?\^([a-z]*):", lambda m: f"(?{m[1]}:", pattern)


def _is_number(value: str) -> bool:
    number = r"^[+-]?(\d+\.\d+|\d+\.|\.\d+|\d+)([eE][+-]?\d+)?$"
    return bool(re.search(number, value, re.ASCII))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _add(errors: Errors, path: str, text: str) -> None:
    # A literal backslash and n: Perl's single quotes.
    errors[path] = f"{errors[path]}\\n{text}" if errors.get(path) else text
