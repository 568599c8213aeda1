"""How fast a model is here: a short probe, so that a plan can say how long it will take."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from casemate.campaign.document import show_path
from casemate.campaign.sections import plain_model
from casemate.campaign.trials import Trial  # noqa: TC001 - a dataclass shows it
from casemate.errors import CasemateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from casemate.campaign.gates import Gates
    from casemate.data.dataset import Dataset
    from casemate.target import Target
    from casemate.training.passes import Passes

__all__ = ["Pace", "probe", "probed"]

_LONG_ENOUGH, _TOO_LONG = 0.2, 2.0  # seconds
_FEWEST, _MOST = 3, 5
_STEPS = 9


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a model needs here.

    Attributes:
        forward: A sample forward.
        backward: A sample forward and its gradient; None for a black box.
        training: The whole training by one worker process, which has one thread on a CPU; 0 for a
            model that comes trained.
        working: A sample forward and its gradient by a worker process; 0 for a model that comes
            trained.
    """

    forward: float
    backward: float | None
    training: float = 0.0
    working: float = 0.0


def probe(trial: Trial, gates: Gates) -> Pace:
    """Measure the pace of a trial's model, which need not be trained for that."""
    import torch  # noqa: PLC0415 - only who probes needs it

    from casemate.guard import guarded  # noqa: PLC0415 - as above

    test = gates.data(trial.data, "test")
    positions = torch.arange(min(gates.batch_size, len(test)))
    target = gates.given(trial)
    trained_here, training, working = target is None, 0.0, 0.0
    if target is None:
        with _as_a_worker():
            target, training = _stand_in(trial, gates)
    x = test.batch(positions, device=target.device)

    def forward() -> None:
        with torch.no_grad():
            target.scores(x).sum().item()

    def backward() -> None:
        points = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(target.scores(points).sum(), points)
        gradient.sum().item()

    try:
        with guarded(target.modules, [target.device]):
            per_forward = min(_both_ways(forward)) / len(positions)
            per_backward = None
            if target.differentiable:
                shared, alone = _both_ways(backward)
                per_backward = min(shared, alone) / len(positions)
                working = alone / len(positions) if trained_here else 0.0
    except CasemateError:
        raise
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"{trial.path and show_path(trial.path)}: the model {plain_model(trial.model)} cannot "
            f"be timed, it raised {what}; casemate check says more"
        ) from error
    return Pace(forward=per_forward, backward=per_backward, training=training, working=working)


def probed(
    passes: Passes,
    trial: Trial,
    gates: Gates,
    pace: Pace,
    networks: dict[tuple[object, ...], float],
) -> float:
    """Return the seconds that passes take, of the trial's model or of a network of their own.

    Args:
        passes: How many, and of what.
        trial: Whose data the network takes.
        gates: Loads the data.
        pace: Of the trial's model.
        networks: Seconds that a sample takes, of networks that were measured; added to.
    """
    if passes.network is None:
        return passes.samples * pace.working
    name = (passes.network, passes.arguments, gates.kind_of_model(trial))
    if name not in networks:
        networks[name] = _network(passes.network(*passes.arguments), trial, gates)
    return passes.samples * networks[name]


def _network(network: nn.Module, trial: Trial, gates: Gates) -> float:
    """Return the seconds that a sample takes forward and back to the weights."""
    import torch  # noqa: PLC0415 - as above

    test = gates.data(trial.data, "test")
    x = test.batch(torch.arange(min(gates.batch_size, len(test))), device=gates.device)
    weights = list(network.to(gates.device).parameters())

    def both() -> None:
        gradients = torch.autograd.grad(network(x).sum(), weights)
        gradients[0].sum().item()  # until it is done

    with _as_a_worker():
        return _seconds(both) / len(x)


def _both_ways(run: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest of a few runs by all threads, and by one.

    On a busy machine threads that wait for each other can take a hundred times as long as one, for
    a moment; that says nothing of the time that a campaign will take.
    """
    shared = _seconds(run)
    with _as_a_worker():
        return shared, _seconds(run)


@contextmanager
def _as_a_worker() -> Iterator[None]:
    """Compute by one thread, as worker processes do."""
    import torch  # noqa: PLC0415 - as above

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stand_in(trial: Trial, gates: Gates) -> tuple[Target, float]:
    """Return the architecture after a step of training, and the seconds of the whole training."""
    import torch  # noqa: PLC0415 - as above

    from casemate.training.loop import train  # noqa: PLC0415 - as above

    model, architecture = trial.model, gates.orders.architecture(trial)
    data: Dataset = gates.data(trial.data, "train")
    recipe: Any = model.recipe
    batch = min(recipe.batch_size, len(data))

    def few(steps: int) -> Any:
        part = data.select(torch.arange(min(steps * batch, len(data))), how="probe")
        return train(
            architecture,
            replace(recipe, epochs=1),
            part,
            seed=trial.options.seed,
            device=gates.device,
        )

    trained = few(1)
    one, more = _seconds(lambda: few(1)), _seconds(lambda: few(_STEPS))
    # what comes before the first step comes once
    step = max(more - one, 0.1 * more) / max(1, min(_STEPS, len(data) // batch) - 1)
    return trained.target(gates.device), step * (len(data) // batch) * recipe.epochs


def _seconds(run: Callable[[], object]) -> float:
    """Return the shortest of a few runs after one to warm up: what else runs here slows some."""
    run()
    best, total = float("inf"), 0.0
    for run_number in range(1, 1 + _MOST):
        started = time.perf_counter()
        run()
        took = time.perf_counter() - started
        best, total = min(best, took), total + took
        if total > _TOO_LONG or (total > _LONG_ENOUGH and run_number >= _FEWEST):
            break
    return best
