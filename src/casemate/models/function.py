"""A function of the user's on NumPy arrays: a black box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from casemate.errors import UsageError
from casemate.identity import key
from casemate.models.fingerprint import fingerprint
from casemate.models.imports import imported
from casemate.models.section import ModelSection
from casemate.target import FunctionTarget, Outputs, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate.data.domain import Domain

__all__ = ["FunctionModel", "function_target"]


class FunctionModel(ModelSection):
    """A function from float32 arrays (n, *shape) to scores (n, classes) or labels (n,).

    Attributes:
        function: "package.module:function".
    """

    tag: ClassVar[str] = "function"

    function: str
    outputs: Outputs = "probabilities"

    def load(
        self,
        *,
        domain: Domain,
        classes: tuple[str, ...],
        base_dir: Path,
        device: str,  # noqa: ARG002 - a function runs where it runs
    ) -> FunctionTarget:
        """Return the function behind the target's interface.

        Raises:
            UsageError: If it cannot be imported or is no function.
        """
        function = imported(self.function, key="model.function", base_dir=base_dir)
        if isinstance(function, type) or not callable(function):
            raise UsageError(
                f'model.function: "{self.function}" is of type {type(function).__name__} and no '
                "function; name a function that takes an array of inputs"
            )
        return function_target(
            function,
            domain=domain,
            classes=classes,
            preprocessing=self.preprocessing,
            outputs=self.outputs,
        )


def function_target(
    function: Callable[[Any], Any],
    *,
    domain: Domain,
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None,
    outputs: Outputs,
    content: str | None = None,
    notes: tuple[str, ...] = (),
) -> FunctionTarget:
    """Return the target around a function.

    The digest names the function's source file, defaults, closure and the global values that it
    reads (see `fingerprint`), preprocessing, outputs, domain and classes; not what it reads from
    files or the network when called.

    Args:
        function: From float32 arrays (n, *shape) to scores or labels.
        domain: What an input is.
        classes: Class names by label.
        preprocessing: What happens to an input before the function.
        outputs: What the function returns.
        content: Hash of what decides its results, where the function itself does not tell.
        notes: For the target.

    Raises:
        UsageError: If the preprocessing does not fit the domain.
    """
    return FunctionTarget(
        function,
        domain=domain,
        classes=classes,
        digest=key(
            "function model",
            content or fingerprint(function),
            preprocessing,
            outputs,
            domain,
            list(classes),
        ),
        preprocessing=preprocessing,
        outputs=outputs,
        notes=notes,
    )
