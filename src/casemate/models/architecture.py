"""What an architecture is, and building one without touching anybody's random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from casemate.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from casemate.data.domain import Domain
    from casemate.random import Stream

__all__ = ["Architecture", "image_shape", "initialize", "skeleton", "title"]


class Architecture(Protocol):
    """A frozen dataclass of hyper-parameters; registered as "model".

    `build` draws the initial weights from torch's default generator, as every torch module does,
    and must also work under the "meta" device, or there is a `skeleton(domain, classes)` that
    returns the module without weights. Call `initialize` to get weights for a seed.
    """

    revision: ClassVar[int]

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return a module that maps (b, *domain.shape) float32 to (b, classes) logits.

        Raises:
            UsageError: If the architecture cannot take inputs of that shape.
        """


def initialize(
    architecture: Architecture, domain: Domain, classes: int, stream: Stream
) -> nn.Module:
    """Return the architecture with initial weights from `stream`.

    The state of torch's default generator is the same before and after.

    Raises:
        UsageError: If the architecture cannot take such inputs or classes.
    """
    _check_classes(classes)
    with torch.random.fork_rng(devices=[]):
        # only the CPU's generator: torch.manual_seed would seed every accelerator as well
        torch.default_generator.manual_seed(stream.key >> 1)
        return architecture.build(domain, classes)


def skeleton(architecture: Architecture, domain: Domain, classes: int) -> nn.Module:
    """Return the architecture without weights: shapes only, no memory, no random numbers.

    Raises:
        UsageError: If the architecture cannot take such inputs or classes.
    """
    _check_classes(classes)
    own = getattr(architecture, "skeleton", None)
    if own is not None:
        bare: nn.Module = own(domain, classes)
        return bare
    with torch.device("meta"):
        return architecture.build(domain, classes)


def title(architecture: Architecture) -> str:
    """Return what people call an architecture: "LeNet", "package.module:factory"."""
    return str(getattr(architecture, "title", type(architecture).__name__))


def image_shape(domain: Domain, name: str, *, smallest: int) -> tuple[int, int, int]:
    """Return (channels, height, width), or refuse a domain that `name` cannot take.

    Args:
        domain: Of the inputs.
        name: Of the architecture, for the message.
        smallest: Least height and width in pixels.

    Raises:
        UsageError: If inputs are no images, or too small.
    """
    if not domain.is_image:
        raise UsageError(
            f"{name} takes images, but inputs are {_features(domain)}; "
            'choose the model "mlp" for features'
        )
    channels, height, width = domain.shape
    if min(height, width) < smallest:
        raise UsageError(
            f"{name} needs images of at least {smallest}x{smallest} pixels, but inputs are "
            f"{height}x{width}; choose a model that takes smaller images or resize the data"
        )
    return channels, height, width


def _features(domain: Domain) -> str:
    return "x".join(str(n) for n in domain.shape) + " values"


def _check_classes(classes: int) -> None:
    if classes < 2:  # noqa: PLR2004 - with one class there is nothing to tell apart
        raise UsageError(f"a classifier needs at least 2 classes, but the data has {classes}")
