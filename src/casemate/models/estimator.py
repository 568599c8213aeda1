"""A fitted scikit-learn estimator of the user's, on flattened inputs: a black box."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from casemate.errors import UsageError
from casemate.models.fingerprint import fingerprint
from casemate.models.function import function_target
from casemate.models.imports import importable, imported, said
from casemate.models.section import ModelSection
from casemate.target import FunctionTarget, Outputs, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from casemate.data.domain import Domain

__all__ = ["SklearnModel", "estimator_target", "is_estimator"]

_METHODS = {"probabilities": "predict_proba", "logits": "decision_function", "labels": "predict"}


class SklearnModel(ModelSection):
    """A fitted estimator with scikit-learn's interface.

    Attributes:
        sklearn: "package.module:object", a fitted estimator or a function that returns one.
        arguments: Keyword arguments for the function.
    """

    tag: ClassVar[str] = "sklearn"

    sklearn: str
    arguments: dict[str, Any] | None = None

    def load(
        self,
        *,
        domain: Domain,
        classes: tuple[str, ...],
        base_dir: Path,
        device: str,  # noqa: ARG002 - estimators run on the CPU
    ) -> FunctionTarget:
        """Return the estimator behind the target's interface.

        Raises:
            UsageError: If there is no such estimator, or `estimator_target` refuses it.
        """
        estimator = imported(self.sklearn, key="model.sklearn", base_dir=base_dir)
        if not is_estimator(estimator):
            if not callable(estimator):
                raise UsageError(
                    f'model.sklearn: "{self.sklearn}" is of type {type(estimator).__name__}; '
                    "name a fitted estimator or a function that returns one"
                )
            try:
                with importable(base_dir):
                    estimator = estimator(**(self.arguments or {}))
            except (Exception, SystemExit) as error:
                raise UsageError(
                    f'model.sklearn: "{self.sklearn}" raised {said(error)}; mend it'
                ) from error
        if not is_estimator(estimator):
            raise UsageError(
                f'model.sklearn: "{self.sklearn}" returned a value of type '
                f"{type(estimator).__name__}, which has no predict; return a fitted classifier"
            )
        return estimator_target(
            estimator,
            domain=domain,
            classes=classes,
            preprocessing=self.preprocessing,
            outputs=self.outputs,
        )


def is_estimator(value: Any) -> bool:
    """Return whether an object has scikit-learn's interface; a class is not yet an estimator."""
    return not isinstance(value, type) and hasattr(value, "predict") and hasattr(value, "fit")


def estimator_target(
    estimator: Any,
    *,
    domain: Domain,
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None,
    outputs: Outputs | None,
) -> FunctionTarget:
    """Return the target around a fitted classifier.

    It gives probabilities where the classifier has `predict_proba`, else logits where it has a
    `decision_function` with one column a class (two classes: one column becomes two), else labels.
    Its `classes_` must be the labels 0..k-1 or the class names, in any order; columns are put into
    the order of `classes`. The digest names the estimator's parameters and learned attributes
    (see `fingerprint`), preprocessing, outputs, domain and classes.

    Args:
        estimator: The classifier; gets (n, values) float32, each input flattened.
        domain: What an input is.
        classes: Class names by label.
        preprocessing: What happens to an input before the classifier.
        outputs: Which of these to use; None takes the most telling.

    Raises:
        UsageError: If it is not fitted, no classifier, fitted on other classes or another number
            of values, or does not have the outputs.
    """
    name = type(estimator).__name__
    _require_fitted(estimator, name)
    _require_features(estimator, name, domain, preprocessing or Preprocessing())
    order = _order(estimator, name, classes)
    chosen = outputs or _offered(estimator)
    method = getattr(estimator, _METHODS[chosen], None)
    if method is None:
        raise UsageError(
            f"model.outputs is {chosen} but {name} has no {_METHODS[chosen]}; "
            f"it offers outputs: {_offered(estimator)}"
        )
    in_order = list(order) == list(range(len(order)))
    note = f"the columns of {name} were put into the order of the classes"
    return function_target(
        _Estimator(method=method, order=order, outputs=chosen),
        domain=domain,
        classes=classes,
        preprocessing=preprocessing,
        outputs=chosen,
        content=fingerprint([estimator, chosen, order]),
        notes=() if in_order else (note,),
    )


@dataclass(frozen=True, kw_only=True)
class _Estimator:
    """Calls a classifier on flattened inputs and answers in the order of the classes.

    Attributes:
        method: The classifier's method.
        order: (k,) the label that each of the classifier's classes stands for.
        outputs: What the method gives.
    """

    method: Callable[[np.ndarray], Any]
    order: np.ndarray
    outputs: Outputs

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # fitted on a data frame, an estimator complains at each call that arrays have no names
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            out = np.asarray(self.method(x.reshape(len(x), -1)))
        if self.outputs == "labels":
            return self._labels(out)
        if out.ndim == 1 and len(self.order) == 2:  # noqa: PLR2004 - the sign decides two classes
            out = np.stack([np.zeros_like(out), out], axis=1)
        if out.shape != (len(x), len(self.order)):
            return out  # the target says what is wrong with it
        ordered = np.empty_like(out)
        ordered[:, self.order] = out
        return ordered

    def _labels(self, predicted: np.ndarray) -> np.ndarray:
        known = getattr(self.method.__self__, "classes_", None)  # type: ignore[attr-defined]
        if known is None:
            return predicted
        # classes_ is sorted by scikit-learn, but other libraries need not sort it
        sorter = np.argsort(known)
        return self.order[sorter[np.searchsorted(known, predicted, sorter=sorter)]]


def _offered(estimator: Any) -> Outputs:
    if hasattr(estimator, "predict_proba"):
        return "probabilities"
    if hasattr(estimator, "decision_function") and not _one_versus_one(estimator):
        return "logits"
    return "labels"


def _one_versus_one(estimator: Any) -> bool:
    """Whether decision_function has a column a pair of classes instead of one a class."""
    last = getattr(estimator, "best_estimator_", estimator)
    last = last.steps[-1][1] if hasattr(last, "steps") else last
    several = len(getattr(estimator, "classes_", ())) > 2  # noqa: PLR2004 - one pair has one column
    return several and getattr(last, "decision_function_shape", None) == "ovo"


def _require_fitted(estimator: Any, name: str) -> None:
    from sklearn.base import is_regressor  # noqa: PLC0415 - takes long to import
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - as above
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415 - as above

    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise UsageError(f"model.sklearn: {name} is not fitted; call its fit first") from error
    except (TypeError, AttributeError):  # not of scikit-learn: it must know itself
        return
    if is_regressor(estimator):
        raise UsageError(f"model.sklearn: {name} is a regressor; give a classifier")


def _require_features(
    estimator: Any, name: str, domain: Domain, preprocessing: Preprocessing
) -> None:
    wanted = getattr(estimator, "n_features_in_", None)
    shape = preprocessing.shape(domain)
    if wanted is not None and int(wanted) != math.prod(shape):
        raise UsageError(
            f"model.sklearn: {name} was fitted on {int(wanted)} values an input, but inputs of "
            f"shape {shape} have {math.prod(shape)}; set preprocessing.size or give the data it "
            "was fitted on"
        )


def _order(estimator: Any, name: str, classes: Sequence[str]) -> np.ndarray:
    """Return the label of each of the estimator's classes."""
    known = getattr(estimator, "classes_", None)
    labels = list(range(len(classes)))
    if known is None:  # nothing to check: predict must give labels
        return np.asarray(labels)
    given = [k.item() if isinstance(k, np.generic) else k for k in known]
    by_name = {c: i for i, c in enumerate(classes)}
    # numbers are labels first: a data set's classes may be named by numbers in another order
    numbers = all(isinstance(g, (int, float)) for g in given)
    found = given if numbers and sorted(given) == labels else None
    if found is None and {str(g) for g in given} == set(by_name) and len(given) == len(classes):
        found = [by_name[str(g)] for g in given]
    if found is None:
        raise UsageError(
            f"model.sklearn: {name} was fitted on {len(given)} classes ({_few(given)}), but the "
            f"data has {len(classes)} ({_few(classes)}); fit it on the labels 0 to "
            f"{len(classes) - 1} or on the class names"
        )
    return np.asarray([int(f) for f in found])


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(str(v)[:20] for v in values[:4])
    return shown + (", …" if len(values) > 4 else "")  # noqa: PLR2004 - as many as are shown
