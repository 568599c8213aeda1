"""The Python surface: data, a model, attacks, a result with intervals, a picture, a report.

import casemate as cm

data = cm.load_data("gtsrb")
model = cm.load_model("my_package.net:make", data, weights="net.safetensors")
result = cm.attack(model, data, [cm.FGSM(), cm.PGD(epsilon=4 / 255), cm.LBFGS()])
print(result)
result.picture("examples.png")
result.report("report.html")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casemate import registry
from casemate.campaign.provenance import now, origin
from casemate.campaign.record import CampaignRecord, TrialRecord
from casemate.campaign.words import chain
from casemate.data.dataset import Dataset
from casemate.data.splits import of_class, stratified_sample
from casemate.errors import UsageError, did_you_mean
from casemate.identity import canonical, key
from casemate.inference.evaluate import Attacker, Setting, evaluate
from casemate.models.load import load_target, target_from
from casemate.models.section import preprocessing_from
from casemate.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from casemate.data.dataset import Split
    from casemate.evidence import Evidence
    from casemate.inference.jobs import Stepper
    from casemate.stats import Measurement
    from casemate.target import FrontDefense

__all__ = [
    "Result",
    "attack",
    "attack_name",
    "check_dataset",
    "load_data",
    "load_model",
    "plugin_settings",
]


_SHOWN = (
    "clean accuracy",
    "accuracy without the attack",
    "accuracy before deployment",
    "accuracy under attack",
    "bits flipped",
    "bits flipped until the goal",
)
"""What is said of a model that is attacked before inference, besides the first figure."""


def load_data(source: str, *, split: Split = "test", **parameters: Any) -> Dataset:
    """Return one split of a data set.

    Args:
        source: A registered source: "digits", "mnist", "gtsrb", "folder", "npz", ..., or the path
            of an .npz file or of a folder with one subfolder of images a class.
        split: "train" or "test".
        **parameters: The source's own, such as `size` of the images of a folder.

    Raises:
        UsageError: If there is no such source or the data cannot be had.
    """
    path = Path(source)
    if source not in registry.names("data") and (path.suffix == ".npz" or path.exists()):
        parameters = {"path": source, **parameters}
        source = "folder" if path.is_dir() else "npz"
    cls = registry.get("data", source)
    try:
        made = cls(**parameters)
    except TypeError as error:
        known = ", ".join(f.name for f in fields(cls))
        reason = str(error).partition("() ")[2] or str(error)
        raise UsageError(f'data source "{source}": {reason}; its parameters are {known}') from error
    data: Dataset = made.load(split)
    return data


def load_model(model: Any, data: Dataset, **options: Any) -> Target:
    """Return a model as a target in the domain of `data`.

    Args:
        model: "package.module:factory" of a torch model, the path of an ONNX file (it ends in
            ".onnx"), a `torch.nn.Module`, a fitted scikit-learn estimator, or a function from
            float32 arrays to scores or labels.
        data: Says what an input and what the classes are.
        **options: `preprocessing` (such as {"mean": 0.5, "std": 0.25}), `outputs` and `device`;
            for a factory also `weights` and `arguments`, as in the model section of a campaign.

    Raises:
        UsageError: If the model cannot be had as described.
    """
    if isinstance(model, str):
        kind = "onnx" if model.endswith(".onnx") else "factory"
        device = options.pop("device", "cpu")
        section = {kind: model, **options}
        return load_target(
            section, domain=data.domain, classes=data.classes, base_dir=Path.cwd(), device=device
        )
    known = ("preprocessing", "outputs", "device")
    for name in options:
        if name not in known:
            raise UsageError(
                f'a model that is a Python object takes no "{name}".{did_you_mean(name, known)}'
            )
    if isinstance(options.get("preprocessing"), dict):
        options["preprocessing"] = preprocessing_from(options["preprocessing"])
    return target_from(model, domain=data.domain, classes=data.classes, **options)


def attack(
    model: Target,
    data: Dataset,
    attacks: Stepper | Sequence[Stepper],
    *,
    samples: int = 100,
    source: str | int | None = None,
    goal: str | int | None = None,
    defense: FrontDefense | None = None,
    attacker: str = "aware",
    early_stop: bool = True,
    round: bool = False,  # noqa: A002 - the campaign's word for it
    queries: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Attack a model and return the evidence.

    Args:
        model: From `load_model`, or `TrainedModel.target()`.
        data: Samples with true labels; `samples` of them are drawn, stratified by class.
        attacks: One attack or several, each run on the same samples.
        samples: How many samples to attack at most.
        source: Attack only samples of this class, by name or label.
        goal: Class to reach, by name or label; None is any wrong one.
        defense: In front of the model, such as `Median()`.
        attacker: Where the attacker stands: "after" the defense, "before" it not knowing it, or
            "aware" of it.
        early_stop: Drop a sample once it fools the model.
        round: Put what is returned on the domain's grid (8-bit values) before judging it.
        queries: Most points of a sample that the attacker may have evaluated; None is as many as
            the attack asks for.
        seed: Of every random draw.
        batch_size: Samples at a time; bounds memory.
        progress: Called with jobs done and jobs in all, for each attack.

    Raises:
        UsageError: If something does not fit the model or the data.
    """
    chosen_attacks = tuple(attacks) if isinstance(attacks, Sequence) else (attacks,)
    _check_attack_call(model, data, chosen_attacks)
    chosen = data if source is None else of_class(data, source, "source")
    chosen = stratified_sample(chosen, samples, seed)
    target_label = None if goal is None else data.class_index(goal, "goal")
    if attacker not in [a.value for a in Attacker]:
        raise UsageError(
            f'attacker is "{attacker}", but must be one of {", ".join(a.value for a in Attacker)}'
        )
    trials, made = [], {**origin(str(model.device)), "batch_size": batch_size}
    for number, one in enumerate(chosen_attacks, start=1):
        setting = Setting(
            attack=one,
            goal=target_label,
            defense=defense,
            attacker=Attacker(attacker),
            early_stop=early_stop,
            round=round,
            queries=queries,
            seed=seed,
        )
        begun = time.perf_counter()
        evidence = evaluate(setting, model, chosen, batch_size=batch_size, progress=progress)
        settings = {
            "data": {"source": data.name, "digest": data.digest},
            "attack": plugin_settings("attack", one),
            "goal": None if goal is None and source is None else {"from": source, "to": goal},
            "defense": plugin_settings("defense", defense),
            "attacker": attacker if defense is not None else None,
            "samples": len(chosen),
            "early_stop": early_stop,
            "round": round,
            "queries": queries,
            "seed": seed,
            "model_digest": model.digest,
        }
        trials.append(
            TrialRecord(
                key=key("trial", settings, chosen.digest),
                number=number,
                settings=settings,
                threat=one.threat.threat,
                status="finished",
                control=bool(getattr(one, "control", False)),
                made={**made, "at": now()},
                seconds=time.perf_counter() - begun,
                evidence=evidence,
            )
        )
    return Result(trials=tuple(trials), classes=data.classes, data=data.name, model=model.digest)


def _check_attack_call(model: Any, data: Any, attacks: tuple[Any, ...]) -> None:
    """Raise `UsageError` where something else than what `attack` takes was handed over."""
    if not isinstance(model, Target):
        raise UsageError(
            f"the model is of type {type(model).__name__}; hand over casemate.load_model(model, "
            "data), which knows the domain of its inputs"
        )
    check_dataset("the data", data)
    if not attacks:
        raise UsageError("there is no attack; give at least one, such as casemate.PGD()")
    for one in attacks:
        if not hasattr(one, "threat") or isinstance(one, type):
            raise UsageError(
                f"{one!r} is no attack; give attacks with their parameters, such as casemate.PGD()"
            )


def check_dataset(name: str, data: Any) -> None:
    """Raise `UsageError` if something else than a data set was handed over.

    Args:
        name: What it was handed over as: "the data".
        data: What it is.
    """
    if not isinstance(data, Dataset):
        raise UsageError(
            f"{name} is of type {type(data).__name__}; hand over casemate.load_data(...) or "
            "casemate.Dataset.from_arrays(...)"
        )


def plugin_settings(kind: registry.Kind, plugin: Any) -> dict[str, Any] | None:
    """Return name and parameters of a plugin as plain data; None of none."""
    if plugin is None:
        return None
    settings: dict[str, Any] = canonical(plugin)
    return {"name": registry.name_of(kind, type(plugin)), **settings}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What some attacks proved about a model.

    Attributes:
        trials: One record an attack, in the order given.
        classes: Class names by label.
        data: Name of the data set.
        model: Digest of the model.
    """

    trials: tuple[TrialRecord, ...]
    classes: tuple[str, ...]
    data: str
    model: str

    def __getitem__(self, which: str | int | tuple[str | int, str]) -> Measurement:
        """Return a measurement: `result["clean accuracy"]`, `result["pgd", "ssim"]`.

        Args:
            which: The name of a measurement, if there was one attack; else an attack, by its name
                or by its place from 0, and the name of a measurement.

        Raises:
            UsageError: If there are several such attacks, or none, or no such measurement.
        """
        attack, name = which if isinstance(which, tuple) else (None, which)
        trials = [
            t for i, t in enumerate(self.trials) if attack is None or attack in (i, attack_name(t))
        ]
        if len(trials) != 1:
            names = [attack_name(t) for t in self.trials]
            known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
            asked = (
                "several attacks were run"
                if attack is None
                else f"{len(trials)} of the attacks are {attack!r}"
            )
            raise UsageError(
                f'{asked}; say which and what, such as result[0, "attack success rate"], of {known}'
            )
        evidence = trials[0].evidence
        assert evidence is not None  # noqa: S101 - attack() records finished trials only
        measured = {m.name: m for m in evidence.measurements}
        if name not in measured:
            raise UsageError(
                f'there is no measurement "{name}".{did_you_mean(str(name), measured)}'
            )
        return measured[str(name)]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The evidence of each attack."""
        return tuple(t.evidence for t in self.trials if t.evidence is not None)

    def __str__(self) -> str:
        lines = []
        for trial in self.trials:
            assert trial.evidence is not None  # noqa: S101 - attack() records finished trials only
            name, evidence = attack_name(trial), trial.evidence
            lines.append(f"{name}: {evidence.measurements[0]}")
            if trial.settings["attack"] is None:  # what the model became is a figure of its own
                first = evidence.measurements[0].name
                lines += [
                    f"  {m}" for m in evidence.measurements if m.name in _SHOWN and m.name != first
                ]
            lines += [f"  {flag.severity.value}: {flag.message}" for flag in trial.evidence.flags]
        return "\n".join(lines)

    def picture(self, path: str | PathLike[str]) -> Path:
        """Draw clean, attacked and amplified difference of a few samples of each attack.

        Args:
            path: File to write; its ending chooses the format (.png, .svg, .pdf).

        Raises:
            UsageError: If the inputs are no images, or the file cannot be written.
        """
        from casemate.report.sheet import draw_sheet  # noqa: PLC0415 - matplotlib takes long

        return draw_sheet(self.trials, self.classes, path)

    def report(self, path: str | PathLike[str], *, name: str = "casemate") -> Path:
        """Write the HTML report and return where it is.

        Args:
            path: File to write.
            name: Title of the report.

        Raises:
            UsageError: If the file cannot be written.
        """
        from casemate.report.html import write  # noqa: PLC0415 - as above

        record = CampaignRecord(
            name=name,
            description=f"Attacks on {self.data} from Python.",
            spec={"trials": [t.settings for t in self.trials]},
            trials=self.trials,
            models=({"digest": self.model, "name": "model", "classes": list(self.classes)},),
            provenance={
                "versions": self.trials[0].made["versions"],
                "hardware": self.trials[0].made["hardware"],
                "hashes": {"data": self.trials[0].settings["data"]},
                "started": self.trials[0].made["at"],
                "seconds": sum(t.seconds for t in self.trials),
            },
        )
        return write(record, path)


def attack_name(trial: TrialRecord) -> str:
    """Return the name of the attack that a trial is about: the last one in the model's life."""
    attacks = chain(trial.settings)
    return str(attacks[-1][1]["name"]) if attacks else "no attack"
