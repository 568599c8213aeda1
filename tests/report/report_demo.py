"""A campaign record such as a study of traffic signs leaves behind, made without any model.

Run it to look at the report: python tests/report/report_demo.py OUT.html
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from itertools import count

import numpy as np

from casemate.campaign.record import CampaignRecord, Finding, TrialRecord
from casemate.evidence import Evidence, HealthFlag, Severity, Verdict
from casemate.stats import mean, rate

CLASSES = (
    "speed limit 20 km/h",
    "speed limit 30 km/h",
    "speed limit 60 km/h",
    "speed limit 80 km/h",
    "stop",
    "no entry",
    "turn left ahead",
    "turn right ahead",
)
SCENARIOS = ((4, 2), (1, 3), (6, 7), (7, 6), (5, 2))
DIGEST = "5f0c9a417fb3d2e86a1b0c7d9e2f3a4b"
LIMIT = 0.2


def sign(label: int, rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """Return a (3, size, size) picture in [0, 1] that looks a little like a traffic sign."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    x, y = x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1)
    image = np.stack([np.full_like(x, v) for v in rng.uniform(0.25, 0.75, 3)])
    image += 0.15 * (y + rng.uniform(-0.5, 0.5))
    r = np.hypot(x, y)
    if label < 4:
        disc, rim = r < 0.82, (r < 0.82) & (r > 0.6)
        image[:, disc] = 0.95
        image[:, rim] = np.array([0.8, 0.1, 0.12])[:, None]
        image[:, (abs(y) < 0.28) & (abs(abs(x) - 0.22) < 0.08 + 0.03 * label)] = 0.1
    elif label == 4:
        image[:, np.maximum(abs(x), abs(y)) + 0.45 * np.minimum(abs(x), abs(y)) < 0.88] = np.array(
            [0.75, 0.08, 0.1]
        )[:, None]
        image[:, (abs(y) < 0.2) & (abs(x) < 0.6) & (np.sin(14 * x) > -0.2)] = 0.95
    elif label == 5:
        image[:, r < 0.85] = np.array([0.8, 0.08, 0.12])[:, None]
        image[:, (abs(y) < 0.16) & (abs(x) < 0.6)] = 0.95
    else:
        image[:, r < 0.85] = np.array([0.1, 0.3, 0.72])[:, None]
        way = x if label == 6 else -x
        image[:, (abs(y) < 0.12) & (abs(x) < 0.5)] = 0.95
        image[:, (way < -0.1) & (abs(y) < 0.75 * (way + 0.65))] = 0.95
    return (image + rng.normal(0, 0.02, image.shape)).clip(0, 1).astype(np.float32)


def evidence(
    strength: float,
    *,
    epsilon: float | None = None,
    norm: str = "linf",
    source: int | None = None,
    goal: int | None = None,
    n: int = 120,
    clean_accuracy: float = 0.967,
    flags: tuple[HealthFlag, ...] = (),
    seed: int = 0,
    image_size: int = 32,
) -> Evidence:
    """Return evidence in which samples fall with probability `strength`, measured from its rows."""
    rng = np.random.default_rng(seed)
    label = np.full(n, source) if source is not None else np.arange(n) % len(CLASSES)
    # which samples are hard is the same in all trials, so that comparisons are paired
    luck = np.random.default_rng(7).random(n)
    eligible = np.random.default_rng(8).random(n) < clean_accuracy
    success = eligible & (luck * 0.9 + 0.1 * rng.random(n) < strength)
    wrong = (label + 1 + rng.integers(0, len(CLASSES) - 1, n)) % len(CLASSES)
    to = np.full(n, goal) if goal is not None else wrong
    clean_label = np.where(eligible, label, wrong)
    attacked_label = np.where(success, to, clean_label)
    before = np.where(eligible, rng.beta(30, 1, n), rng.beta(1, 6, n))
    after = np.where(success, before * rng.beta(1, 12, n), before * rng.beta(8, 1.5, n))
    size = epsilon if epsilon is not None else rng.gamma(4, 0.28 / 4, n) + 0.05
    longest = np.sqrt(3 * image_size**2)
    linf = np.full(n, epsilon) if norm == "linf" and epsilon else np.asarray(size) / 9 + np.zeros(n)
    l2 = linf * longest * rng.uniform(0.7, 0.95, n) if norm == "linf" else np.zeros(n) + size
    ssim = (1 - 0.35 * (l2 / 2.0) * rng.uniform(0.8, 1.2, n)).clip(0, 1)
    samples = {
        "row": 1000 + np.arange(n) * 3,
        "label": label,
        "goal": np.full(n, -1 if goal is None else goal),
        "clean_label": clean_label,
        "attacked_label": attacked_label,
        "eligible": eligible,
        "success": success,
        "linf": linf.astype(np.float32),
        "l2": l2.astype(np.float32),
        "ssim": ssim.astype(np.float32),
        "clean_true_confidence": before.astype(np.float32),
        "attacked_true_confidence": after.astype(np.float32),
        "clean_confidence": np.where(eligible, before, 0.6).astype(np.float32),
        "attacked_confidence": np.where(success, rng.beta(9, 2, n), after).astype(np.float32),
    }
    if goal is not None:
        samples["clean_goal_confidence"] = rng.beta(1, 300, n).astype(np.float32)
        samples["attacked_goal_confidence"] = np.where(
            success, samples["attacked_confidence"], rng.beta(1, 20, n)
        ).astype(np.float32)
    position = np.concatenate([np.flatnonzero(success), np.flatnonzero(eligible & ~success)])[:6]
    clean = np.stack(
        [sign(int(label[p]), np.random.default_rng(int(p)), image_size) for p in position]
    )
    wave = rng.normal(size=clean.shape).astype(np.float32)
    wave = np.sign(wave + np.roll(wave, 1, 2) + np.roll(wave, 1, 3))
    attacked = (clean + linf[position][:, None, None, None].astype(np.float32) * wave).clip(0, 1)
    right = clean_label == label
    measurements = [
        rate("attack success rate", int(success.sum()), int(eligible.sum())),
        rate("clean accuracy", int(right.sum()), n),
        rate("accuracy under attack", int((right & (attacked_label == label)).sum()), n),
        rate("clean top-5 accuracy", n - 1, n),
        rate("top-5 accuracy under attack", int(n - 0.6 * success.sum()), n),
        *(
            mean(
                f"confidence in {words}, {when}", samples[column][eligible].tolist(), "probability"
            )
            for words, when, column in (
                ("true class", "clean", "clean_true_confidence"),
                ("true class", "attacked", "attacked_true_confidence"),
                ("target class", "clean", "clean_goal_confidence"),
                ("target class", "attacked", "attacked_goal_confidence"),
            )
            if column in samples
        ),
        mean("distance linf", linf[success].tolist(), "domain units"),
        mean("distance l2", l2[success].tolist(), "domain units"),
        mean("ssim", ssim[success].tolist(), "index"),
    ]
    return Evidence(
        measurements=tuple(measurements),
        flags=flags,
        spent={"attack forward": 40 * n, "attack backward": 40 * n, "verifier forward": 2 * n},
        samples=samples,
        examples={
            "position": position.astype(np.int64),
            "clean": clean,
            "attacked": attacked.astype(np.float32),
            "bounds": np.array([0, 1], np.float32),
        },
    )


UNFINISHED = HealthFlag(
    id="unfinished",
    severity=Severity.FAILURE,
    message="31 of 116 samples were not fooled while the margin was still falling in the last "
    "tenth of the steps; raise steps",
)
EXHAUSTED = HealthFlag(
    id="budget-exhausted",
    severity=Severity.WARNING,
    message="the attacker's budget ended the run before every job had finished; the figures are "
    "for that budget",
)


def trial(
    number: int, attack: dict, *, goal=(None, None), defense=None, attacker="aware", **kwargs
):
    """Return a trial record with its settings; `kwargs` override its fields."""
    named = [None if g is None else CLASSES[g] for g in goal]
    settings = {
        "data": {"source": "gtsrb", "size": 32},
        "model": {"architecture": "vgg", "recipe": {"epochs": 10}},
        "attack": attack,
        "goal": {"from": named[0], "to": named[1]},
        "defense": defense,
        "attacker": attacker,
        "samples": 120,
        "early_stop": True,
        "round": False,
        "seed": 0,
        "model_digest": DIGEST,
    }
    noise = attack["name"].endswith("noise")
    fields = {
        "key": f"{number:032x}",
        "number": number,
        "settings": settings,
        "threat": "evasion-black-box" if noise else "evasion-white-box",
        "status": "finished",
        "seconds": 1.7 * number,
        "replay": f"casemate run signs.yaml --size quick --trial {number}",
    }
    return TrialRecord(**{**fields, **kwargs})


def judged(record: TrialRecord) -> TrialRecord:
    """Return the trial judged by the demo's policy: success of attacks stays below the limit."""
    found = record.evidence["attack success rate"]
    if found.low > LIMIT:
        verdict, word = Verdict.FAIL, "is above"
    elif found.high < LIMIT and not record.evidence.failed:
        verdict, word = Verdict.PASS, "stays below"
    else:
        verdict, word = Verdict.INCONCLUSIVE, "cannot be told from"
    return replace(
        record, verdict=verdict, reasons=(f"{found} {word} the limit of {100 * LIMIT:.0f} %",)
    )


@cache
def demo_record() -> CampaignRecord:
    """Return a campaign of 41 trials: curves, scenarios, filters, controls, a failure, a gap."""
    number = count(1)
    trials: list[TrialRecord] = []
    budgets = {1: 0.18, 2: 0.41, 4: 0.77, 8: 0.97, 16: 0.99}
    for name, factor in (("fgsm", 0.62), ("bim", 0.97), ("pgd", 1.0), ("uniform-noise", 0.02)):
        for levels, strength in budgets.items():
            i = next(number)
            attack = {"name": name, "epsilon": levels / 255, "norm": "linf"}
            if name in ("bim", "pgd"):
                attack |= {"steps": 40, "loss": "cross-entropy"}
            record = trial(
                i,
                attack,
                evidence=evidence(
                    min(0.995, strength * factor),
                    epsilon=levels / 255,
                    seed=i,
                    flags=(UNFINISHED,) if (name, levels) == ("bim", 1) else (),
                ),
            )
            trials.append(record if name == "uniform-noise" else judged(record))
    i = next(number)
    trials.append(
        judged(
            trial(i, {"name": "lbfgs", "norm": "l2"}, evidence=evidence(0.96, norm="l2", seed=i))
        )
    )
    for goal in SCENARIOS:
        for defense, attacker, strength in (
            (None, "aware", 0.95),
            ({"name": "neighborhood-average", "pixels": 8}, "before", 0.24),
            ({"name": "neighborhood-average", "pixels": 8}, "aware", 0.83),
        ):
            i = next(number)
            trials.append(
                judged(
                    trial(
                        i,
                        {"name": "bim", "epsilon": 8 / 255, "norm": "linf", "steps": 10},
                        goal=goal,
                        defense=defense,
                        attacker=attacker,
                        evidence=evidence(
                            strength - 0.02 * (i % 5),
                            epsilon=8 / 255,
                            source=goal[0],
                            goal=goal[1],
                            n=60,
                            clean_accuracy=0.967 if defense is None else 0.93,
                            seed=i,
                            flags=(EXHAUSTED,) if i == 27 else (),
                        ),
                    )
                )
            )
    i = next(number)
    trials.append(
        trial(
            i,
            {"name": "fgsm", "epsilon": 8 / 255, "norm": "linf"},
            goal=(4, 2),
            defense={"name": "median", "size": 3},
            evidence=evidence(0.31, epsilon=8 / 255, source=4, goal=2, n=60, seed=i),
        )
    )
    i = next(number)
    trials.append(
        trial(
            i,
            {"name": "lbfgs", "norm": "l2"},
            goal=(4, 2),
            evidence=evidence(0.9, norm="l2", source=4, goal=2, n=60, seed=i),
        )
    )
    i = next(number)
    trials.append(
        trial(
            i,
            {"name": "gaussian-noise", "epsilon": 8 / 255, "norm": "linf"},
            evidence=evidence(0.03, epsilon=8 / 255, seed=i),
        )
    )
    trials.append(
        trial(
            next(number),
            {"name": "pgd", "epsilon": 0.5, "norm": "l2", "steps": 40},
            status="failed",
            error="the model raised RuntimeError: mat1 and mat2 shapes cannot be multiplied",
            traceback="Traceback (most recent call last):\n"
            + "".join(
                f'  File "model.py", line {k}, in forward\n    x = self.layer{k}(x)\n'
                for k in range(12)
            )
            + "RuntimeError: mat1 and mat2 shapes cannot be multiplied\n",
        )
    )
    trials.append(
        trial(next(number), {"name": "pgd", "epsilon": 1.0, "norm": "l2"}, status="not run")
    )
    rule = {"measure": "attack success rate", "at_most": LIMIT}
    broken = sorted(
        (t for t in trials if t.verdict is Verdict.FAIL),
        key=lambda t: -t.evidence["attack success rate"].value,
    )
    return CampaignRecord(
        name="Traffic signs, VGG, inference stage",
        description="Can somebody with a file make a traffic-sign classifier read 60 km/h where "
        "the sign says stop? Five scenarios, with and without a smoothing filter in front.",
        spec={
            "casemate": 1,
            "name": "Traffic signs, VGG, inference stage",
            "seed": 0,
            "data": {"source": "gtsrb", "size": 32},
            "model": {"architecture": "vgg", "recipe": {"epochs": 10}},
            "trials": [{"attack": {"name": ["fgsm", "bim", "pgd"], "epsilon": ["1/255", "8/255"]}}],
            "policy": [rule],
        },
        trials=tuple(trials),
        models=(
            {
                "digest": DIGEST,
                "name": "vgg",
                "classes": list(CLASSES),
                "parameters": 1_184_139,
                "accuracy": {
                    "name": "clean accuracy",
                    "value": 0.9672,
                    "n": 12630,
                    "low": 0.9640,
                    "high": 0.9702,
                    "unit": "1",
                    "method": "wilson",
                },
                "recipe": {"epochs": 10, "optimizer": "sgd", "learning_rate": 0.05, "seed": 0},
            },
        ),
        verdict=Verdict.FAIL,
        findings=tuple(
            Finding(
                trial=t.number,
                title=f"{t.settings['attack']['name']} fools the model",
                message=f"{t.evidence['attack success rate']}, but the policy allows at most "
                f"{100 * LIMIT:.0f} %.",
                rule=rule,
            )
            for t in broken
        ),
        exit_code=1,
        provenance={
            "versions": {
                "casemate": "0.1.0",
                "python": "3.11.2",
                "torch": "2.13.0",
                "numpy": "2.4.6",
            },
            "hardware": {"cpu": "Xeon, 2 cores", "memory": "24 GB", "gpu": None},
            "seed": 0,
            "hashes": {"data": "1f3a" * 8, "specification": "77ab" * 8},
            "started": "2026-11-23T17:58:14Z",
            "seconds": 412.7,
            "command": "casemate run signs.yaml --size quick",
        },
    )


if __name__ == "__main__":
    from casemate.report import html

    sys.stdout.write(f"{html.write(demo_record(), sys.argv[1])}\n")
