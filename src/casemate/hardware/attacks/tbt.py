"""TBT: a backdoor by bit flips in the last layer (Rakin, He and Fan, CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.changing_words import ChangingWords
from casemate.hardware.attacks.last_layer import LastLayer
from casemate.hardware.attacks.outcome import Flip, Outcome
from casemate.hardware.attacks.readings import Aim, Judge
from casemate.hardware.attacks.trojan import Trojan
from casemate.hardware.parameters import (
    check_choice,
    check_class,
    check_number,
    check_whole,
)
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.implementation import Implementation
    from casemate.random import Stream

__all__ = ["TBT"]


@dataclass(frozen=True, kw_only=True)
class TBT:
    """A trigger, and flips in the last layer after which it leads all inputs to one class.

    Rakin, He and Fan, "TBT: targeted neural attack with bit Trojan", CVPR 2020 (arXiv 1909.05193).
    Neural gradient ranking takes the inputs of the last layer whose weights in the target's row
    have the largest gradients (equation 2); a patch is made that excites these neurons (equation
    4); their weights in that row are tuned on clean and on triggered inputs (equation 6). Flips are
    the bits in which the tuned words differ.

    The authors' code lets a tuned weight stretch the unit of its whole layer, which the flips that
    they count do not change; here units stay as they are deployed and words within their range. It
    uses test images throughout; here the attacker's own.

    Ours: the wanted activation is a multiple of what the neurons have on clean inputs, since what
    is large depends on the network (the authors have 100 for CIFAR-10 and 10 for ImageNet); the
    success is of inputs of all classes but the target's, whose own the authors count too; flips
    come neuron by neuron, highest bits first. Values of the patch lie in the range of the
    attacker's inputs, and are not rounded to steps of a camera.

    Attributes:
        target: Label that the trigger leads to.
        neurons: How many inputs of the last layer; 150 of 512 in the paper. The fewer, the fewer
            flips.
        size: Side of the patch in pixels; 10 of 32 in the authors' code for CIFAR-10.
        margin: Pixels between it and the bottom and right edges; 1 in their code.
        excitement: Wanted activation, in the largest one of these neurons on clean inputs.
        background: Where the patch is shown while it is made: "blank", an image at the lowest
            value, as in the authors' code; or the attacker's "batch" (ours), with which it works
            better and takes longer to make.
        batch: How many inputs the attacker uses; 128 in the authors' code.
        trigger_steps: Steps at each of four rates; 200 in the authors' code.
        success: Share of the evaluation data's inputs of other classes that get the target with the
            trigger, at which the goal is reached, in (0, 1].
    """

    target: int
    neurons: int = 150
    size: int = 10
    margin: int = 1
    excitement: float = 10.0
    batch: int = 128
    background: Literal["blank", "batch"] = "blank"
    trigger_steps: int = 200
    success: float = 0.9

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="backdoor-weights",
        stage=Stage.HARDWARE,
        goals=(Goal.INTEGRITY_TARGETED,),
        access=Access.GRADIENTS,
        knowledge=Knowledge.WHITE_BOX,
        budget="number of bits flipped in memory and size of the trigger",
    )
    revision: ClassVar[int] = 1
    has_goal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("target", self.target, low=0)
        check_whole("neurons", self.neurons)
        check_whole("size", self.size)
        check_whole("margin", self.margin, low=0)
        check_number("excitement", self.excitement, low=0.0)
        check_whole("batch", self.batch)
        check_choice("background", self.background, ("blank", "batch"))
        check_whole("trigger_steps", self.trigger_steps)
        check_number("success", self.success, low=1e-6, high=1.0)

    @property
    def aim(self) -> Aim:
        """Which inputs are to get which label."""
        return Aim(target=self.target)

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` as `run`."""
        self._check(LastLayer.of(deployed))

    def wants(self, reading: Reading) -> bool:
        """Return whether the trigger leads enough inputs to the target."""
        return (reading.success or 0.0) >= self.success

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model at most.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        del layers
        flips = 4 * self.neurons  # half of the bits of eight
        return 2 * flips * images + self.batch * (4 * self.trigger_steps + 400)

    def run(
        self,
        deployed: Implementation,
        pool: Samples,
        evaluation: Samples,
        rng: Stream,
        *,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return the flips and the trigger.

        Args:
            deployed: Left as it is.
            pool: What the attacker draws inputs from; none of it should be evaluation data.
            evaluation: What the model is read on.
            rng: Chooses the inputs.
            constraint: Which bits can flip; those of the others that the attack wants do not.

        Raises:
            UsageError: If the network does not end with a linear layer, has too few neurons or no
                such class, or if the patch does not fit its inputs.
        """
        layer = LastLayer.of(deployed)
        self._check(layer)
        batch = pool.drawn(self.batch, rng)
        made = Trojan(self, layer, batch)
        judge = Judge(
            deployed.graph,
            deployed.memory.values,
            evaluation,
            self.aim,
            first=layer.node,
            moved=made.trigger(evaluation.x),
        )
        held = ChangingWords(deployed.memory, [layer.region], deployed.reading)
        flips = []
        for number in made.numbers():
            if constraint is not None:
                if not constraint.possible(np.array([number]))[0]:
                    continue
                constraint.add(number)
            held.flip(number)
            loss, accuracy = made.read(held.values[layer.region.name])
            flips.append(
                Flip(
                    fault=deployed.memory.fault(number),
                    number=number,
                    loss=loss,
                    batch_accuracy=accuracy,
                    reading=judge.read(held.values),
                )
            )
        after = flips[-1].reading if flips else judge.before
        return Outcome(
            before=judge.before,
            flips=tuple(flips),
            ended="goal" if self.wants(after) else "stuck",
            spent=made.spent,
            trigger=made.trigger,
        )

    def _check(self, layer: LastLayer) -> None:
        """Raise `UsageError` if a parameter does not fit the network."""
        shape = layer.deployed.graph.shape
        check_class("target", self.target, layer.region.shape[0])
        if self.neurons > layer.inputs:
            raise ParameterError(
                "neurons",
                f"is {self.neurons}, but the last layer has {layer.inputs} inputs; give at most "
                f"{layer.inputs}",
            )
        if len(shape) != 3:  # noqa: PLR2004 - channels, rows, columns
            raise UsageError(
                f"the trigger is a patch of an image, but the model's inputs have the shape {shape}"
            )
        side = min(shape[1:])
        if self.size + self.margin > side:
            raise ParameterError(
                "size",
                f"is {self.size}, but a patch of {self.size} pixels with a margin of {self.margin} "
                f"does not fit into images of {shape[1]} x {shape[2]}; give both so that their sum "
                f"is at most {side}",
            )
