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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casemate import registry
from casemate.campaign.record import CampaignRecord, TrialRecord
from casemate.data.splits import of_class, stratified_sample
from casemate.errors import UsageError
from casemate.identity import canonical, key
from casemate.inference.evaluate import Attacker, Setting, evaluate
from casemate.models.load import load_target, target_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from casemate.data.dataset import Dataset, Split
    from casemate.evidence import Evidence
    from casemate.inference.jobs import Stepper
    from casemate.stats import Measurement
    from casemate.target import FrontDefense, Target

__all__ = ["Result", "attack", "load_data", "load_model"]


def load_data(source: str, *, split: Split = "test", **parameters: Any) -> Dataset:
    """Return one split of a data set.

    Args:
        source: A registered source: "digits", "mnist", "gtsrb", "folder", "npz", ...
        split: "train" or "test".
        **parameters: The source's own, such as `path` of a folder or `size` of its images.

    Raises:
        UsageError: If there is no such source or the data cannot be had.
    """
    cls = registry.get("data", source)
    try:
        made = cls(**parameters)
    except TypeError as error:
        raise UsageError(f'data source "{source}": {error}; see casemate list data') from error
    data: Dataset = made.load(split)
    return data


def load_model(model: Any, data: Dataset, **options: Any) -> Target:
    """Return a model as a target in the domain of `data`.

    Args:
        model: "package.module:factory" of a torch model, the path of an ONNX file (it ends in
            ".onnx"), a `torch.nn.Module`, a fitted scikit-learn estimator, or a function from
            float32 arrays to scores or labels.
        data: Says what an input and what the classes are.
        **options: `weights`, `preprocessing`, `outputs`, `accuracy`, `device`, ... as in the
            model section of a campaign.

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
    return target_from(model, domain=data.domain, classes=data.classes, **options)


def attack(
    model: Target,
    data: Dataset,
    attacks: Sequence[Stepper],
    *,
    samples: int = 100,
    source: str | int | None = None,
    goal: str | int | None = None,
    defense: FrontDefense | None = None,
    attacker: str = "aware",
    early_stop: bool = True,
    round: bool = False,  # noqa: A002 - the campaign's word for it
    seed: int = 0,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Attack a model and return the evidence.

    Args:
        model: From `load_model`, or `TrainedModel.target()`.
        data: Samples with true labels; `samples` of them are drawn, stratified by class.
        attacks: The attacks, each run on the same samples.
        samples: How many samples to attack at most.
        source: Attack only samples of this class, by name or label.
        goal: Class to reach, by name or label; None is any wrong one.
        defense: In front of the model, such as `Median()`.
        attacker: Where the attacker stands: "after" the defense, "before" it not knowing it, or
            "aware" of it.
        early_stop: Drop a sample once it fools the model.
        round: Put what is returned on the domain's grid (8-bit values) before judging it.
        seed: Of every random draw.
        batch_size: Samples at a time; bounds memory.
        progress: Called with jobs done and jobs in all, for each attack.

    Raises:
        UsageError: If something does not fit the model or the data.
    """
    chosen = data if source is None else of_class(data, source)
    chosen = stratified_sample(chosen, samples, seed)
    target_label = None if goal is None else data.class_index(goal)
    if attacker not in [a.value for a in Attacker]:
        raise UsageError(
            f'attacker is "{attacker}", but must be one of {", ".join(a.value for a in Attacker)}'
        )
    trials = []
    for number, one in enumerate(attacks, start=1):
        setting = Setting(
            attack=one,
            goal=target_label,
            defense=defense,
            attacker=Attacker(attacker),
            early_stop=early_stop,
            round=round,
            seed=seed,
        )
        begun = time.perf_counter()
        evidence = evaluate(setting, model, chosen, batch_size=batch_size, progress=progress)
        settings = {
            "data": {"source": data.name},
            "attack": {"name": registry.name_of("attack", type(one)), **canonical(one)},
            "goal": None if goal is None and source is None else {"from": source, "to": goal},
            "defense": None
            if defense is None
            else {"name": registry.name_of("defense", type(defense)), **canonical(defense)},
            "attacker": attacker if defense is not None else None,
            "samples": len(chosen),
            "early_stop": early_stop,
            "round": round,
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
                seconds=time.perf_counter() - begun,
                evidence=evidence,
            )
        )
    return Result(trials=tuple(trials), classes=data.classes, data=data.name, model=model.digest)


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

    def __getitem__(self, name: str) -> Measurement:
        """Return a measurement of the first attack, by name: "attack success rate"."""
        return self.evidence[0][name]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The evidence of each attack."""
        return tuple(t.evidence for t in self.trials if t.evidence is not None)

    def __str__(self) -> str:
        lines = []
        for trial in self.trials:
            assert trial.evidence is not None  # noqa: S101 - attack() records finished trials only
            lines.append(
                f"{trial.settings['attack']['name']}: {trial.evidence['attack success rate']}"
            )
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
        )
        return write(record, path)
