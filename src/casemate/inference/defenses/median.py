"""The median filter in front of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import UsageError
from casemate.inference.defenses.images import check_images

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain

__all__ = ["Median"]

_LARGEST = 15


@dataclass(frozen=True, kw_only=True)
class Median:
    """Each pixel becomes the median of the square window around it, channel by channel.

    Xu, Evans and Qi, "Feature squeezing: detecting adversarial examples in deep neural networks",
    NDSS 2018 (arXiv 1704.01155, local smoothing): borders are reflected. The median passes the
    gradient to the pixel it picked, so an attacker who knows the filter can differentiate through
    it.

    Attributes:
        window: Side of the window in pixels, odd, 3 to 15.
    """

    window: int = 3

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not (3 <= self.window <= _LARGEST and self.window % 2 == 1):  # noqa: PLR2004 - 1 filters nothing
            raise UsageError(
                f"window is {self.window}, but it must be odd and between 3 and {_LARGEST} pixels"
            )

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if the inputs are no images, or smaller than the window reaches."""
        check_images("a median filter", domain)
        height, width = domain.shape[1:]
        reach = self.window // 2
        if min(height, width) <= reach:
            raise UsageError(
                f"a median window of {self.window} pixels needs images larger than {reach} pixels, "
                f"but they are {height} x {width}; choose a smaller window"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the filtered (b, channels, height, width) images."""
        reach = self.window // 2
        padded = F.pad(x, (reach,) * 4, mode="reflect")
        windows = padded.unfold(2, self.window, 1).unfold(3, self.window, 1)
        return windows.flatten(4).median(dim=4).values
