"""What filters need: images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.errors import UsageError

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["check_images"]


def check_images(filter_: str, domain: Domain) -> None:
    """Raise `UsageError` where inputs are no images.

    Args:
        filter_: What needs them: "a median filter".
        domain: What an input is.
    """
    if not domain.is_image:
        raise UsageError(
            f"{filter_} needs images, but the inputs are features of shape {domain.shape}; leave "
            "the defense out"
        )
