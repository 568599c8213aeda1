"""`casemate init`: a first specification to fill in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from casemate.errors import UsageError

__all__ = ["init", "specification"]

_NAMED = ("digits", "mnist", "gtsrb")


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What to write.")] = Path(
        "casemate.yaml"
    ),
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory", metavar="MODULE:NAME", help="Your function that makes the model."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="FILE", help="Its weights, as safetensors.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="digits, mnist, gtsrb, a folder or an .npz file."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Write a commented specification to start from."""
    from casemate.cli.console import plain, say  # noqa: PLC0415 - keeps --help fast

    if weights is not None and factory is None:
        raise UsageError(
            "--weights needs --factory, the function that makes the model they belong to"
        )
    text = specification(factory=factory, weights=weights, data=data)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already; overwrite it with --force, or name another"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); name another place"
        ) from error
    say(f"wrote {plain(path, 1000)}; next: casemate check {plain(path, 1000)}")


def specification(*, factory: str | None, weights: str | None, data: str | None) -> str:
    """Return the text of a specification for these."""
    return _TEMPLATE.format(
        model=_model(factory, weights),
        data=_data(data),
        training=_TRAINING if factory is None else _NO_TRAINING,
        hardware=_HARDWARE,
    )


def _data(data: str | None) -> str:
    if data is None or data in _NAMED:
        return f"{{source: {data or 'digits'}}}"
    if data.endswith(".npz"):
        return f"{{source: npz, path: {_quoted(data)}}}"
    return f"{{source: folder, path: {_quoted(data)}}}    # size: 32 resizes images of many sizes"


def _model(factory: str | None, weights: str | None) -> str:
    if factory is None:
        return _TRAINED
    lines = [f"  factory: {_quoted(factory)}"]
    if weights is not None:
        lines.append(f"  weights: {_quoted(weights)}")
        return "\n".join([*lines, *_OWN])
    return "\n".join([*lines, _RECIPE, *_OWN])


def _quoted(text: str) -> str:
    """Return any text as a YAML scalar: JSON's strings are YAML's."""
    return json.dumps(text)


_TRAINED = """\
  architecture: lenet               # trained here; casemate list models
  recipe: {epochs: 10}
  # your own network instead, trained here by that recipe:
  # factory: "package.module:make"  # a function that returns a torch.nn.Module
  # or your own trained model:
  # factory: "package.module:make"
  # weights: model.safetensors      # instead of the recipe
  # onnx: model.onnx                # or a black box: onnx, sklearn: "module:fitted",
  #                                 # function: "module:predict\""""

_TRAINING = """\
  # poison in the training data, and what stands against it; ends with the trained model
  # - training:
  #     attack: [null, {name: badnets, target: 0, amount: {percent: 1}}]  # null: nobody attacks
  #     defense: [null, {name: near-duplicates}, {name: fine-tuning}]
  #     clean: 100                   # held out for defenses that need clean samples
  #   samples: null                  # all of the test split
  #   seed: [0, 1, 2]                # one model is one observation of training's randomness
"""

_HARDWARE = """\
  # what wrong bits do to the model as deployed, by accident and chosen, and behind a defense
  # - hardware:
  #     format: [float32, int8]
  #     attack: [{name: random-faults}, {name: bfa}, {name: random-flips}]
  #     defense: [null, {name: secded}]
"""

_NO_TRAINING = """\
  # attacks on training need a model that is trained here: a factory with a recipe and no weights
"""

_RECIPE = "  # recipe: {epochs: 10}            # trains it here; then without preprocessing"

_OWN = (
    "  # what your model expects behind inputs in [0, 1]; one number a channel",
    "  # preprocessing: {mean: [0.5], std: [0.5]}",
    "  # accuracy: 0.97                # what you believe it to be; casemate check compares",
)

_TEMPLATE = """\
# A campaign: what is attacked, how, and what counts as good enough.
# casemate check FILE | casemate plan FILE | casemate run FILE
casemate: 1                         # version of this format
name: my-audit
description: What this campaign is for.
seed: 0                             # everything random follows from it

data: {data}
model:
{model}

defaults: {{samples: 100}}            # merged under each trial

# any list inside a trial makes a grid; casemate list attacks, casemate list defenses
trials:
  - attack: {{name: pgd, epsilon: [2/255, 4/255, 8/255], restarts: 2}}
  - attack: {{name: uniform-noise, epsilon: 8/255}}   # control: random noise of the same size
  # - attack: {{name: pgd, epsilon: 8/255}}
  #   goal: {{from: 3, to: 8}}         # class names or numbers; without "to", any wrong class
  #   defense: {{name: median}}
  #   attacker: [before, aware]      # not knowing the defense, or differentiating through it
{training}{hardware}
# fail, pass or inconclusive, judged by the 95 % interval; exit code 1 if violated
policy:
  - {{measure: attack success rate, at_most: 0.3, where: {{attack: pgd, attack.epsilon: 2/255}}}}

# chosen with --size, merged over all of the above
sizes:
  quick: {{defaults: {{samples: 20}}}}
"""
