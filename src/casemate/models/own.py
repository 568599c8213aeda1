"""`OwnArchitecture`: a network of the user's that is trained here, named by a factory.

A factory is code. It is imported where the user names it, in a campaign or a call, and nowhere
else: a table of this process says which factories were declared, and whatever else speaks of one,
such as a stored model, is looked up there. Worker processes are told by pickles of this process.
"""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from casemate.errors import UsageError
from casemate.identity import canonical, key
from casemate.models.architecture import initialize
from casemate.models.factory import call_factory, import_factory
from casemate.models.fingerprint import fingerprint
from casemate.models.imports import said
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from casemate.data.domain import Domain

__all__ = ["OwnArchitecture", "declare"]

_FEW = 2  # inputs that a network is tried on: batch normalization needs more than one
_SUMS_TO_ONE = 1e-4


@dataclass(frozen=True, kw_only=True)
class OwnArchitecture:
    """A network that a factory of the user's builds; `declare` makes one.

    Attributes:
        factory: What builds it, "package.module:factory".
        arguments: Of the factory, as plain data.
        source: Content hash of the network as it is built for a fixed seed: of its code, structure
            and initial weights, and of which of them are trained.
    """

    revision: ClassVar[int] = 1

    factory: str
    arguments: dict[str, Any] = field(hash=False)
    source: str

    @property
    def title(self) -> str:
        """What people call it."""
        return self.factory

    @property
    def declared(self) -> bool:
        """Whether this process's own campaign or caller declared it."""
        return _name(self) in _DECLARED

    def build(self, domain: Domain, classes: int) -> nn.Module:
        """Return a new network, its weights drawn from torch's default generator.

        Raises:
            UsageError: If nobody declared it here, or its factory fails.
        """
        return _maker(self).build(domain, classes, source=self.source)

    def skeleton(self, domain: Domain, classes: int) -> nn.Module:
        """Return the network without weights.

        It is built for real first: factories read the values of tensors, which the "meta" device
        does not have.
        """
        with _seeded():
            return self.build(domain, classes).to("meta")

    def __reduce__(self) -> tuple[Any, ...]:
        """Carry to a worker process where the factory is found."""
        parcel = _maker(self).parcel()
        return _received, (self.factory, self.arguments, self.source, parcel)


def declare(
    factory: str | Callable[..., nn.Module],
    *,
    arguments: Mapping[str, Any] | None = None,
    domain: Domain,
    classes: int,
    folder: Path | None = None,
) -> OwnArchitecture:
    """Return the architecture that a factory of the user's builds, tried before it is trained.

    Args:
        factory: "package.module:factory", or the function or class itself, which may be a
            `functools.partial` with keywords.
        arguments: Keyword arguments for it. Where it requires `shape` or `classes` and they are not
            among these, it gets those of the data.
        domain: What an input is.
        classes: How many there are.
        folder: Searched first for the module; the current one if None.

    Raises:
        UsageError: If the factory is not to be had, or builds no network that maps (b,
            *domain.shape) to (b, classes) logits and begins anew each time from torch's default
            generator.
    """
    maker = _Maker.of(factory, dict(arguments or {}), domain, classes, folder)
    name = f'model.factory: "{maker.name}"'
    try:
        plain = canonical(maker.arguments)
    except TypeError as error:
        raise UsageError(
            f"model.arguments: {error}; hand the factory numbers, text, lists and mappings only"
        ) from error
    maker.resolve()
    first, again = maker.sample(), maker.sample()
    if first is again or _tensors(first) & _tensors(again):
        raise UsageError(
            f"{name} returns the same network, or weights of it, when it is called again; let it "
            "build a new one, as each model is trained from the beginning"
        )
    source = _content(first)
    if _content(again) != source:
        raise UsageError(
            f"{name} builds another network each time from the same seed; let it draw from "
            "torch's default generator only, so that results repeat"
        )
    _check(again, name, domain, classes)
    own = OwnArchitecture(factory=maker.name, arguments=plain, source=source)
    _DECLARED[_name(own)] = maker
    return own


@dataclass(frozen=True, kw_only=True)
class _Parcel:
    """What a worker process has to know of a factory."""

    arguments: dict[str, Any]
    domain: Domain
    classes: int
    folder: Path | None
    code: bytes | None  # pickled by reference: of a function that was handed over


class _Maker:
    """Calls a factory; one that another process declared is imported when it is first called."""

    def __init__(self, name: str, parcel: _Parcel, factory: Any = None) -> None:
        self.name = name
        self._parcel = parcel
        self._factory = factory

    @classmethod
    def of(
        cls, factory: Any, arguments: dict[str, Any], domain: Domain, classes: int, folder: Any
    ) -> _Maker:
        """Return the maker of what the user named or handed over."""
        name, found = factory, None
        if isinstance(factory, str):
            folder = Path.cwd() if folder is None else Path(folder).absolute()
        else:
            if isinstance(factory, partial):
                if factory.args:
                    raise UsageError(f"{factory!r} has arguments without names; give keywords only")
                factory, arguments = factory.func, {**factory.keywords, **arguments}
            if isinstance(factory, nn.Module) or not hasattr(factory, "__qualname__"):
                raise UsageError(
                    f"the factory is of type {type(factory).__name__}; give the function or class "
                    "that builds the network, as each model is trained from the beginning"
                )
            name, found = f"{factory.__module__}:{factory.__qualname__}", factory
        parcel = _Parcel(
            arguments=arguments, domain=domain, classes=classes, folder=folder, code=None
        )
        return cls(name, parcel, found)

    @property
    def arguments(self) -> dict[str, Any]:
        """As given."""
        return self._parcel.arguments

    def parcel(self) -> _Parcel:
        """Return what another process needs."""
        if self._parcel.folder is not None or self._parcel.code is not None:
            return self._parcel
        try:
            code = pickle.dumps(self._factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f'worker processes cannot be told of "{self.name}" ({said(error)}); define it at '
                "the top of a module"
            ) from error
        given = self._parcel
        return _Parcel(
            arguments=given.arguments,
            domain=given.domain,
            classes=given.classes,
            folder=None,
            code=code,
        )

    def resolve(self, source: str | None = None) -> None:
        """Import the factory, and hold what it builds against a source if one is given."""
        if self._factory is not None:
            return
        with _seeded():  # what is drawn while it is imported is no part of anybody's weights
            self._factory = self._imported()
        if source is not None and _content(self.sample()) != source:
            self._factory = None
            raise UsageError(
                f'model.factory: "{self.name}" builds another network in a worker process than '
                "when it was declared; leave its code and files alone while models are trained"
            )

    def build(self, domain: Domain, classes: int, *, source: str | None = None) -> nn.Module:
        """Return a new network."""
        self.resolve(source)
        module = call_factory(
            self._factory,
            deepcopy(self.arguments),
            name=self.name,
            folder=self._parcel.folder,
            domain=domain,
            classes=classes,
        )
        if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
            _run(module.eval(), _blank(domain), f'model.factory: "{self.name}"')
        return module

    def sample(self) -> nn.Module:
        """Return the network of a fixed seed, always the same."""
        shape, classes = self._parcel.domain, self._parcel.classes
        return initialize(self, shape, classes, stream(0, "model/own"))  # type: ignore[arg-type]  # builds

    def _imported(self) -> Any:
        parcel = self._parcel
        if parcel.code is None:
            assert parcel.folder is not None  # noqa: S101 - a name has one
            factory = import_factory(self.name, base_dir=parcel.folder)
            if isinstance(factory, nn.Module):
                raise UsageError(
                    f'model.factory: "{self.name}" is a network that is built already; name the '
                    "function or class that builds it, as each model is trained from the beginning"
                )
            return factory
        try:
            # ours: the process that shares out the work wrote it
            return pickle.loads(parcel.code)  # noqa: S301
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f'a worker process cannot import "{self.name}" ({said(error)}); define it at the '
                "top of a module in a file"
            ) from error


_DECLARED: dict[str, _Maker] = {}
"""What this process's own campaign or caller declared, by `_name`."""


def _name(own: OwnArchitecture) -> str:
    return key("own architecture", own)


def _maker(own: OwnArchitecture) -> _Maker:
    found = _DECLARED.get(_name(own))
    if found is None:
        raise UsageError(
            f'nobody declared the factory "{own.factory[:100]}" of this source here; declare it in '
            "the campaign, or by casemate.own_architecture"
        )
    return found


def _received(
    factory: str, arguments: dict[str, Any], source: str, parcel: _Parcel
) -> OwnArchitecture:
    """Return an architecture that another process of ours declared; nothing is imported yet."""
    own = OwnArchitecture(factory=factory, arguments=arguments, source=source)
    _DECLARED.setdefault(_name(own), _Maker(factory, parcel))
    return own


def _tensors(module: nn.Module) -> set[int]:
    return {id(t) for t in (*module.parameters(), *module.buffers())}


def _content(module: nn.Module) -> str:
    """Return the hash of all that decides what a network becomes when it is trained."""
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    return key("own network", fingerprint(module), trained)


def _check(module: nn.Module, name: str, domain: Domain, classes: int) -> None:
    """Raise `UsageError` if a network cannot be trained to classify such inputs."""
    if not any(p.requires_grad for p in module.parameters()):
        raise UsageError(f"{name} builds a network without weights to train; give it some")
    if not all(isinstance(v, Tensor) for v in module.state_dict().values()):
        raise UsageError(
            f"{name} builds a network whose state_dict holds more than tensors; keep only tensors"
        )
    module.cpu()
    with _seeded():
        x = torch.randn(_FEW, *domain.shape)  # as normalized inputs are
        out = _run(module.train(), x, name)
        for mode, given in (("", out), (" in evaluation mode", _run(module.eval(), x, name))):
            _check_scores(given, f"{name} builds a network that{mode}", domain, classes)
        if not out.requires_grad:
            raise UsageError(f"{name} builds a network whose output has no gradient; mend that")


def _check_scores(out: Any, said_of: str, domain: Domain, classes: int) -> None:
    shape = "x".join(map(str, domain.shape))
    wanted = f"for {_FEW} inputs of shape {shape}; it must return ({_FEW}, {classes}) logits"
    if not isinstance(out, Tensor):
        raise UsageError(f"{said_of} returns a value of type {type(out).__name__} {wanted}")
    if tuple(out.shape) != (_FEW, classes) or not out.is_floating_point():
        kind = "" if out.is_floating_point() else f" of {str(out.dtype).removeprefix('torch.')}"
        raise UsageError(f"{said_of} returns {tuple(out.shape)}{kind} {wanted}")
    if bool((out >= 0).all()) and bool(((out.sum(1) - 1).abs() < _SUMS_TO_ONE).all()):
        raise UsageError(
            f"{said_of} returns probabilities, but training needs logits; leave the softmax out"
        )


def _run(module: nn.Module, x: Tensor, name: str) -> Any:
    """Return what a network gives for inputs, or say in one sentence why not."""
    try:
        return module(x)
    except (Exception, SystemExit) as error:
        shape = "x".join(map(str, x.shape[1:]))
        raise UsageError(
            f"{name} builds a network that raised {said(error)} on inputs of shape {shape}, those "
            "of the data; mend it or its arguments"
        ) from error


def _blank(domain: Domain) -> Tensor:
    return torch.zeros(_FEW, *domain.shape)


@contextmanager
def _seeded() -> Iterator[None]:
    """Draw from a fixed seed inside, and leave torch's default generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
