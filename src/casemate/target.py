"""`Target`: the model under attack behind one interface, in its declared input domain.

Preprocessing (resize, mean, std) and defenses that stand in front of the model are part of the
target, so that epsilon always means the declared domain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from casemate.data.domain import Domain

__all__ = ["FrontDefense", "FunctionTarget", "Outputs", "Preprocessing", "Target", "TorchTarget"]

Outputs = Literal["logits", "probabilities", "labels"]


class FrontDefense(Protocol):
    """A defense in front of the model: inputs in the domain to inputs in the domain."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the defended inputs, (b, *shape); differentiable where the defense is."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to an input between its domain and the network.

    Attributes:
        mean: Subtracted from each channel, in the domain's units.
        std: Divides each channel after that; positive.
        size: (height, width) to resize to first (bilinear, antialiased), or None.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if any(s <= 0 for s in self.std):
            raise UsageError(f"preprocessing.std must be positive, got {list(self.std)}")
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise UsageError(
                f"preprocessing.mean has {len(self.mean)} values but std has {len(self.std)}; "
                "give one a channel"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the network's input for (b, *shape) inputs in the domain."""
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)
        spread = (1, -1) + (1,) * (x.ndim - 2)
        if self.mean:
            x = x - torch.tensor(self.mean, dtype=x.dtype, device=x.device).view(spread)
        if self.std:
            x = x / torch.tensor(self.std, dtype=x.dtype, device=x.device).view(spread)
        return x

    def problem(self, domain: Domain) -> str | None:
        """Return why this cannot stand before a model of that domain, or None."""
        channels = domain.shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) not in (1, channels):
                return f"preprocessing.{name} has {len(values)} values but inputs have {channels} channels"
        if self.size is not None and not domain.is_image:
            return "preprocessing.size needs images, but inputs are features"
        return None


class Target(ABC):
    """A model in its declared input domain.

    Attributes:
        domain: What an input is.
        classes: Class names by label.
        outputs: What the model gives at most.
        digest: Content hash of all that decides the outputs.
        device: Where inputs have to lie.
    """

    domain: Domain
    classes: tuple[str, ...]
    outputs: Outputs
    digest: str
    device: torch.device
    front: tuple[FrontDefense, ...] = ()

    @property
    def differentiable(self) -> bool:
        """Whether `scores` can be differentiated with respect to the inputs."""
        return False

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Return (b, classes) scores of (b, *shape) inputs; one-hot if only labels are given."""

    @abstractmethod
    def behind(self, defense: FrontDefense) -> Target:
        """Return the same model with one more defense in front, the outermost."""

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The torch modules whose state an attack must leave as it was."""
        return ()

    def labels(self, x: Tensor) -> Tensor:
        """Return (b,) int64 predicted labels."""
        return self.scores(x).argmax(1)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return (b, classes) probabilities of this target's scores."""
        return scores.softmax(1) if self.outputs == "logits" else scores

    def _defended(self, x: Tensor) -> Tensor:
        for defense in reversed(self.front):
            x = defense(x)
        return x


class TorchTarget(Target):
    """A torch module that maps (b, channels, height, width) or (b, features) to (b, classes)."""

    def __init__(
        self,
        module: nn.Module,
        *,
        domain: Domain,
        classes: tuple[str, ...],
        digest: str,
        preprocessing: Preprocessing | None = None,
        outputs: Outputs = "logits",
        device: torch.device | str = "cpu",
        front: tuple[FrontDefense, ...] = (),
    ) -> None:
        self.module = module
        self.domain = domain
        self.classes = classes
        self.digest = digest
        self.preprocessing = preprocessing or Preprocessing()
        self.outputs = outputs
        self.device = torch.device(device)
        self.front = front
        problem = self.preprocessing.problem(domain)
        if problem:
            raise UsageError(problem)

    @property
    def differentiable(self) -> bool:
        """A torch module is, unless it gives labels only."""
        return self.outputs != "labels"

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The module under attack."""
        return (self.module,)

    def scores(self, x: Tensor) -> Tensor:
        """Return the module's output for inputs in the domain."""
        out = self.module(self.preprocessing(self._defended(x)))
        if not isinstance(out, Tensor) or out.shape != (len(x), len(self.classes)):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UsageError(
                f"the model returned {shape} for {len(x)} inputs, but {len(self.classes)} classes "
                f"need ({len(x)}, {len(self.classes)}); give a model that returns one score a class"
            )
        return out

    def behind(self, defense: FrontDefense) -> TorchTarget:
        """Return the same module with one more defense in front."""
        from casemate.identity import key  # noqa: PLC0415 - only here

        return TorchTarget(
            self.module,
            domain=self.domain,
            classes=self.classes,
            digest=key("behind", type(defense).__name__, defense, self.digest),
            preprocessing=self.preprocessing,
            outputs=self.outputs,
            device=self.device,
            front=(defense, *self.front),
        )


class FunctionTarget(Target):
    """Any function from a NumPy array of inputs to scores or labels: a black box."""

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        *,
        domain: Domain,
        classes: tuple[str, ...],
        digest: str,
        outputs: Outputs = "probabilities",
        front: tuple[FrontDefense, ...] = (),
    ) -> None:
        self.function = function
        self.domain = domain
        self.classes = classes
        self.digest = digest
        self.outputs = outputs
        self.device = torch.device("cpu")
        self.front = front

    def scores(self, x: Tensor) -> Tensor:
        """Call the function; labels become one-hot scores."""
        import numpy as np  # noqa: PLC0415 - only here at run time

        k = len(self.classes)
        out = np.asarray(self.function(self._defended(x).detach().cpu().numpy()))
        if self.outputs == "labels":
            if out.shape != (len(x),):
                raise UsageError(
                    f"the model returned {out.shape} for {len(x)} inputs; a label model returns "
                    f"({len(x)},) integer labels"
                )
            labels = torch.from_numpy(out.astype(np.int64))
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < k:
                raise UsageError(
                    f"the model returned labels from {int(labels.min())} to {int(labels.max())}, "
                    f"but there are {k} classes; declare all classes in the model's order"
                )
            return F.one_hot(labels, k).to(torch.float32)
        if out.shape != (len(x), k):
            raise UsageError(
                f"the model returned {out.shape} for {len(x)} inputs, but {k} classes need "
                f"({len(x)}, {k}); give a model that returns one score a class"
            )
        return torch.from_numpy(out.astype(np.float32))

    def behind(self, defense: FrontDefense) -> FunctionTarget:
        """Return the same function with one more defense in front."""
        from casemate.identity import key  # noqa: PLC0415 - only here

        return FunctionTarget(
            self.function,
            domain=self.domain,
            classes=self.classes,
            digest=key("behind", type(defense).__name__, defense, self.digest),
            outputs=self.outputs,
            front=(defense, *self.front),
        )
