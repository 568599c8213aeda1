"""The JSON Schema of a specification, with the parameters of every plugin that is installed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from casemate import registry
from casemate.campaign.parameters import docs, parameters
from casemate.campaign.plugins import TAGS
from casemate.campaign.rules import RuleFile
from casemate.campaign.sections import USER_MODELS, Goal, HeldOut, Options
from casemate.campaign.spec import SpecFile
from casemate.hardware.deployment import Deployment

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["specification_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def specification_schema() -> dict[str, Any]:
    """Return the JSON Schema.

    A section without its name is allowed where it is merged over another one, so names are not
    required; reading a specification is stricter.
    """
    definitions: dict[str, Any] = {}
    for kind in TAGS:
        definitions[kind] = _plugins(kind, definitions)
    definitions["goal"] = {
        **_model(parameters(Goal), "goal", definitions),
        "type": ["object", "null"],
    }
    definitions["rule"] = _model(RuleFile, "rule", definitions)
    definitions["trial"] = _trial(definitions)
    frame = _model(SpecFile, "frame", definitions)
    properties = frame["properties"]
    for kind in ("data", "model"):
        properties[kind] = _described(_reference(kind), properties[kind])
    properties["defaults"] = _described(_reference("trial"), properties["defaults"])
    properties["trials"]["items"] = _reference("trial")
    properties["policy"]["items"] = _reference("rule")
    changeable = {k: v for k, v in properties.items() if k not in ("casemate", "name", "sizes")}
    size = {"type": "object", "properties": changeable, "additionalProperties": False}
    properties["sizes"]["additionalProperties"] = size
    properties["casemate"]["const"] = 1
    return {"$schema": _DIALECT, "title": "Casemate campaign", **frame, "$defs": definitions}


def _trial(definitions: dict[str, Any]) -> dict[str, Any]:
    options = _model(parameters(Options), "option", definitions)["properties"]
    sections = {
        **{kind: _reference(kind) for kind in ("data", "model", "goal")},
        "attack": _or_none("attack"),
        "defense": _or_none("defense"),
        "monitor": _or_none("monitor"),
        "training": {"anyOf": [_gate(HeldOut, "training", definitions), {"type": "null"}]},
        "hardware": {"anyOf": [_gate(Deployment, "hardware", definitions), {"type": "null"}]},
    }
    properties = {name: _grid(p) for name, p in {**sections, **options}.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _gate(plain: type, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    rest = _model(parameters(plain), name, definitions)["properties"]
    if "format" in rest:  # its name alone will do
        rest["format"] = {"anyOf": [rest["format"], {"type": "string"}]}
    sections = {"attack": _or_none("attack"), "defense": _or_none("defense"), **rest}
    properties = {name: _grid(p) for name, p in sections.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _or_none(kind: str) -> dict[str, Any]:
    return {"anyOf": [_reference(kind), {"type": "null"}]}


def _plugins(kind: registry.Kind, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the section that names a plugin: one alternative each, and one for several names."""
    tag, every = TAGS[kind], registry.names(kind)
    shared: dict[str, Any] = {}
    if kind == "model":
        from casemate.training.recipe import Recipe  # noqa: PLC0415 - imports torch

        definitions["recipe"] = _gridded(parameters(Recipe), "recipe", definitions)
        shared = {"recipe": _reference("recipe")}
    alternatives = []
    together: dict[str, Any] = {}
    for name in every:
        cls = registry.get(kind, name)
        section = _gridded(parameters(cls), f"{kind}.{name}", definitions)
        together |= section["properties"]
        section["properties"] = {tag: {"const": name}, **section["properties"], **shared}
        section["description"] = inspect.getdoc(cls) or ""
        section.pop("required", None)
        alternatives.append(section)
    several = {"type": "array", "items": {"enum": every}, "minItems": 1}
    alternatives.append(
        {
            "type": "object",
            "description": "Several at once, with parameters that all of them take.",
            "properties": {tag: several, **together, **shared},
            "additionalProperties": False,
        }
    )
    if kind == "model":
        alternatives += _user_models(definitions, shared)
    return {"anyOf": alternatives}


def _user_models(definitions: dict[str, Any], trained_here: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sections of a user's models; a factory may have a recipe instead of weights."""
    from casemate.models.load import SECTIONS  # noqa: PLC0415 - imports torch

    found = []
    for kind in USER_MODELS:
        section = _gridded(SECTIONS[kind], f"model.{kind}", definitions)
        section["description"] = (inspect.getdoc(SECTIONS[kind]) or "").partition("\n")[0]
        for name, text in docs(SECTIONS[kind]).items():
            if name in section["properties"]:
                section["properties"][name].setdefault("description", text)
        if kind == "factory":
            section["properties"] |= trained_here
        found.append(section)
    return found


def _model(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model; what it refers to goes to `definitions`."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, nested in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = nested
    schema.pop("title", None)
    return schema


def _gridded(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _model(model, prefix, definitions)
    schema["properties"] = {k: _grid(p) for k, p in schema.get("properties", {}).items()}
    schema["additionalProperties"] = False
    return schema


def _grid(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also takes a list of values, which makes a grid."""
    inner = {k: v for k, v in schema.items() if k not in ("title", "description", "default")}
    kept: dict[str, Any] = {k: schema[k] for k in ("description", "default") if k in schema}
    return {**kept, "anyOf": [inner, {"type": "array", "items": inner, "minItems": 1}]}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _described(schema: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "description": like["description"]}
