"""A campaign's specification: read, checked as a whole, expanded to single trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from casemate.campaign.collector import without_collecting
from casemate.campaign.document import Document, Problems, merge
from casemate.campaign.gate_sections import KEYS
from casemate.campaign.numbers import Integer  # noqa: TC001 - pydantic reads the annotation
from casemate.campaign.plugins import TAGS
from casemate.campaign.refusals import MISSING, sentences
from casemate.campaign.rules import Rule, read_rules
from casemate.campaign.sections import USER_MODELS
from casemate.campaign.trials import Trial, expand_trial
from casemate.errors import UsageError, did_you_mean, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from casemate.campaign.document import KeyPath

__all__ = ["VERSION", "Spec", "SpecFile", "read_spec"]

VERSION = 1
"""Version of the specification's format."""

_NAMES: dict[str, set[str]] = {
    **{kind: {tag} for kind, tag in TAGS.items()},
    "model": {"architecture", *USER_MODELS},
}


class SpecFile(BaseModel):
    """A campaign: what is attacked, how, and what counts as good enough.

    `casemate schema` publishes the JSON Schema, with every plugin's parameters.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    casemate: Integer = Field(description="Version of this format: 1.")
    name: str = Field(min_length=1, max_length=200, description="Names the campaign in the store.")
    description: str = Field(default="", max_length=10_000, description="What it is for.")
    seed: Integer = Field(default=0, ge=0, description="Seed of everything random.")
    data: Any = Field(
        default=None, description="Data set: its source and that source's parameters."
    )
    model: Any = Field(default=None, description="Model under test.")
    defaults: dict[str, Any] = Field(default={}, description="Merged under each trial.")
    sizes: dict[str, dict[str, Any]] = Field(
        default={}, description="By --size, merged over the whole: mappings merge, lists replace."
    )
    trials: list[dict[str, Any]] = Field(
        min_length=1, description="Each list in a trial makes a grid."
    )
    policy: list[dict[str, Any]] = Field(default=[], description="What the evidence has to meet.")

    @field_validator("casemate")
    @classmethod
    def _version(cls, value: int) -> int:
        if value != VERSION:
            raise ValueError(
                f"must be {VERSION}, the version of the format that this Casemate reads"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A specification that is well formed.

    Attributes:
        name: Names the campaign in the store; untrusted text.
        description: Untrusted text.
        source: How the user named it: a path or "study:NAME".
        size: Which of `sizes` is merged in, if any.
        document: Where each value stands, for messages.
        base_dir: What relative paths in it are relative to.
        seed: Of the campaign.
        trials: All single trials, numbered from 1.
        rules: The policy.
    """

    name: str
    description: str
    source: str
    size: str | None
    document: Document
    base_dir: Path
    seed: int
    trials: tuple[Trial, ...]
    rules: tuple[Rule, ...]


def read_spec(
    document: Document,
    *,
    base_dir: Path,
    source: str = "",
    size: str | None = None,
    recipe: type | None = None,
) -> tuple[Spec | None, Problems]:
    """Return the specification in a document and all that is wrong with it.

    Args:
        document: From `load_document`.
        base_dir: What relative paths are relative to.
        source: How the user named it.
        size: One of its sizes.
        recipe: Dataclass of training parameters; `casemate.training.Recipe` if omitted.

    Returns:
        The specification with the trials that are well formed (None if there is not even a frame)
        and the problems, of which there are none in a sound one.

    Raises:
        UsageError: If there is no such size.
    """
    if recipe is None:
        from casemate.training.recipe import Recipe  # noqa: PLC0415 - imports torch

        recipe = Recipe
    document = document.with_size(size)
    problems = Problems(document)
    frame, holes = _frame(document.data, problems)
    if frame is None:
        return None, problems
    origins = dict(document.origins)
    merged = {
        i: _with_defaults(frame, i, trial, origins)
        for i, trial in enumerate(frame.trials)
        if i not in holes
    }
    document = Document(
        file=document.file, data=document.data, lines=document.lines, origins=origins
    )
    problems.document = document
    trials: list[Trial] = []
    with without_collecting():
        for i, section in merged.items():
            trials += expand_trial(
                section,
                ("trials", i),
                own=frame.trials[i].keys(),
                base_dir=base_dir,
                recipe=recipe,
                first=len(trials) + 1,
                problems=problems,
            )
    rules = read_rules(frame.policy, problems)
    _check_sizes(frame, problems)
    return (
        Spec(
            name=frame.name,
            description=frame.description,
            source=source or document.file,
            size=size,
            document=document,
            base_dir=base_dir,
            seed=frame.seed,
            trials=tuple(trials),
            rules=rules,
        ),
        problems,
    )


def _frame(data: dict[str, Any], problems: Problems) -> tuple[SpecFile | None, set[int]]:
    """Return the specification's frame and the places of trials that are none.

    What is wrong goes to `problems` and is left out, so that the rest is looked at as well. There
    is no frame where that would make the rest look wrong, too.
    """
    try:
        return SpecFile.model_validate(data), set()
    except ValidationError as error:
        wrong = _without_misspelt(dict(sentences(error, SpecFile)))
    for path, sentence in wrong.items():
        problems.add(path, sentence)
    holes = {path[1] for path in wrong if path[:1] == ("trials",) and len(path) > 1}
    keys = {path[0] for path in wrong if path} - ({"trials"} if holes else set())
    rest: dict[str, Any] = {k: v for k, v in data.items() if k not in keys}
    if keys & {"defaults", "trials"} or not isinstance(rest.get("trials"), list):
        return None, set()
    rest["trials"] = [{} if i in holes else trial for i, trial in enumerate(rest["trials"])]
    try:
        frame = SpecFile.model_validate({"casemate": VERSION, "name": "unnamed", **rest})
    except ValidationError:
        return None, set()
    return frame, {i for i in holes if isinstance(i, int)}


def _without_misspelt(wrong: dict[KeyPath, str]) -> dict[KeyPath, str]:
    """Return what is wrong with the frame, but a key that is there under a slip is not missing."""
    known = SpecFile.model_fields
    meant = {nearest(str(p[0]), known) for p in wrong if len(p) == 1 and p[0] not in known}
    return {p: text for p, text in wrong.items() if not (text == MISSING and p[-1] in meant)}


def _with_defaults(
    frame: SpecFile, i: int, trial: dict[str, Any], origins: dict[KeyPath, KeyPath]
) -> dict[str, Any]:
    """Return a trial over the defaults, and those over the campaign's data, model and seed."""
    at: KeyPath = ("trials", i)
    campaign = {"data": frame.data, "model": frame.model, "seed": frame.seed}
    merged: dict[str, Any] = {}
    for key in dict.fromkeys((*trial, *frame.defaults, *campaign)):
        layers = [
            (source[key], where)
            for source, where in ((trial, at), (frame.defaults, ("defaults",)), (campaign, ()))
            if key in source
        ]
        value, where = layers[0]
        for below, below_at in layers[1:]:
            value = _over(key, below, (*below_at, key), value, (*at, key), origins)
        if where != at:
            origins[(*at, key)] = (*where, key)
        merged[key] = value
    return merged


def _over(
    key: str,
    below: Any,
    below_at: KeyPath,
    value: Any,
    at: KeyPath,
    origins: dict[KeyPath, KeyPath],
) -> Any:
    """Return a trial's section over a default one: one that names its plugin replaces it."""
    if key in KEYS and isinstance(value, dict) and isinstance(below, dict):
        return _gate_over(below, below_at, value, at, origins)
    if isinstance(value, list) and isinstance(below, dict):
        return [
            _over(key, below, below_at, item, (*at, i), origins) if isinstance(item, dict) else item
            for i, item in enumerate(value)
        ]
    if (
        not (isinstance(value, dict) and isinstance(below, dict))
        or _NAMES.get(key, set()) & value.keys()
    ):
        return value
    return merge(below, value, origins=origins, at=at, base_at=below_at)


def _gate_over(
    below: dict[str, Any],
    below_at: KeyPath,
    value: dict[str, Any],
    at: KeyPath,
    origins: dict[KeyPath, KeyPath],
) -> dict[str, Any]:
    """Return one gate over another: attack over attack, defense over defense."""
    merged = dict(value)
    for key, default in below.items():
        if key in value:
            merged[key] = _over(key, default, (*below_at, key), value[key], (*at, key), origins)
        else:
            origins[(*at, key)] = (*below_at, key)
            merged[key] = default
    return merged


def _check_sizes(frame: SpecFile, problems: Problems) -> None:
    """A size may change what the campaign may say, but not its name or its sizes."""
    changeable = SpecFile.model_fields.keys() - {"casemate", "name", "sizes"}
    for size, section in frame.sizes.items():
        for key in section:
            if key not in changeable:
                hint = did_you_mean(str(key), changeable)
                problems.add(("sizes", size, key), f'a size cannot change "{key}".{hint}')


def check_spec(spec: Spec | None, problems: Problems) -> Spec:
    """Return the specification, or raise `UsageError` with everything that is wrong with it."""
    problems.check()
    if spec is None:
        raise UsageError(f"{problems.document.file} holds no campaign")
    return spec
