"""Running a plan: one trial after another, each kept in the store before the next begins.

A trial that fails is recorded and the campaign goes on. Whatever ends the process loses at most
the trial under way; the next run computes only what is missing.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casemate.campaign.ahead import train_ahead
from casemate.campaign.assemble import Replay, assemble, frame_of
from casemate.campaign.events import (
    CampaignFinished,
    CampaignStarted,
    TrialFailed,
    TrialFinished,
    TrialProgressed,
    TrialRepeated,
    TrialStarted,
)
from casemate.campaign.model_entry import make_entry, stored_entry
from casemate.campaign.provenance import now
from casemate.campaign.record import TrialRecord
from casemate.campaign.repeat import differences
from casemate.campaign.words import titles
from casemate.errors import CasemateError, StoreError
from casemate.identity import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.assemble import Frame
    from casemate.campaign.events import Event, Listener
    from casemate.campaign.gates import Gates
    from casemate.campaign.plan import Plan, Planned
    from casemate.campaign.record import CampaignRecord
    from casemate.campaign.store import Store

__all__ = ["run_plan"]


def run_plan(
    plan: Plan,
    store: Store,
    gates: Gates,
    *,
    replay: Replay,
    command: str = "",
    again: bool = False,
    listeners: Sequence[Listener] = (),
) -> CampaignRecord:
    """Run what is missing of a plan and return the record of all of it.

    Args:
        plan: From `make_plan`.
        store: Open for writing.
        gates: The same that planned it.
        replay: How a single trial is run again.
        command: What the user typed, for the record.
        again: Compute again what is there as well, and tell the listeners what differs
            (`TrialRepeated`); the store keeps what it had. Models are not trained again.
        listeners: Told of every event.

    Raises:
        StoreError: If the store cannot be written any more; what is computed is kept.
    """
    return _Run(plan, store, gates, listeners, again=again).all(replay, command)


class _Run:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        gates: Gates,
        listeners: Sequence[Listener],
        *,
        again: bool,
    ) -> None:
        self.plan = plan
        self.store = store
        self.gates = gates
        self.listeners = listeners
        self.again = again
        self.origin = gates.origin
        self.broken: dict[str, BaseException] = {}
        words = titles([p.settings for p in plan.trials])
        self.titles = {p.trial.number: text for p, text in zip(plan.trials, words, strict=True)}

    def tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def all(self, replay: Replay, command: str) -> CampaignRecord:
        started, clock = now(), time.perf_counter()
        plan, name = self.plan, self.plan.spec.name
        done = [p for p in plan.trials if p.cached]
        waiting = [p for p in plan.trials if self.again or not p.cached]
        self.tell(
            CampaignStarted(
                name=name,
                trials=len(plan.trials),
                cached=len(plan.trials) - len(waiting),
                seconds=plan.seconds,
            )
        )
        self.store.put_run(name, ((p.trial.number, p.key, p.identity) for p in done))
        # trials of one model together, so that it is loaded once
        order = {
            model: i
            for i, model in enumerate(dict.fromkeys(p.identity["model"] for p in plan.trials))
        }
        self.train_ahead(waiting)
        finished = set() if self.again else {p.key for p in done}
        for planned in sorted(waiting, key=lambda p: order[p.identity["model"]]):
            if planned.key not in finished and self.one(planned, replay):
                finished.add(planned.key)
        provenance = {
            "versions": self.origin["versions"],
            "hardware": self.origin["hardware"],
            "seed": plan.spec.seed,
            "hashes": self.hashes(),
            "started": started,
            "seconds": time.perf_counter() - clock,
            "command": command,
        }
        frame = frame_of(plan, replay=replay, models=self.models(), provenance=provenance)
        # one trial alone must not take the place of the whole, nor old evidence that of a new run
        if not plan.part and not (self.again and len(done) == len(plan.trials)):
            self.keep(frame)
        record = assemble(frame, self.store)
        self.tell(CampaignFinished(record=record))
        return record

    def train_ahead(self, waiting: Sequence[Planned]) -> None:
        """Train several models at once; whatever goes wrong, the trials will say."""
        try:
            train_ahead(self.gates.victims, [p.trial for p in waiting], self.store, self.tell)
        except StoreError:
            raise
        except CasemateError:
            return

    def one(self, planned: Planned, replay: Replay) -> bool:
        """Run one trial; return whether it finished."""
        number, key, store = planned.trial.number, planned.key, self.store
        before = store.trial(key) if planned.cached else None
        made = {**self.origin, "at": now()}
        self.tell(TrialStarted(number=number, key=key, title=self.titles[number]))
        store.put_run(self.plan.spec.name, [(number, key, planned.identity)])
        entry: dict[str, Any] = {
            "key": key,
            "number": number,
            "settings": planned.settings,
            "threat": planned.threat,
            "control": planned.control,
            "rules": planned.rules,
            "replay": replay.command(key),
            "made": made,
        }
        clock = time.perf_counter()
        try:
            self.model(planned)
            clock = time.perf_counter()
            evidence = self.gates.evaluate(
                planned.trial,
                store,
                self.tell,
                lambda done, total: self.tell(
                    TrialProgressed(number=number, done=done, total=total)
                ),
                again=self.again,
            )
        except StoreError:
            raise  # no other trial could be kept either
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of the user's model or a third party's plugin
            seconds = time.perf_counter() - clock
            sentence, trace = _sentence(error), "".join(traceback.format_exception(error))
            made |= self.gates.borrowed()
            store.put_failure(key, sentence, trace, seconds, made)
            self.tell(
                TrialFailed(
                    record=TrialRecord(
                        **entry, status="failed", seconds=seconds, error=sentence, traceback=trace
                    )
                )
            )
            return False
        seconds = time.perf_counter() - clock
        made |= self.gates.borrowed()
        if before is not None and before.evidence is not None:
            found = differences(
                before.evidence,
                evidence,
                same_batches=before.made.get("batch_size") == self.gates.batch_size,
            )
            self.tell(TrialRepeated(number=number, differences=found, made=before.made))
            return True
        store.put_evidence(key, evidence, seconds, made)
        record = TrialRecord(**entry, status="finished", seconds=seconds, evidence=evidence)
        self.tell(TrialFinished(record=record))
        return True

    def model(self, planned: Planned) -> None:
        """Have the trial's model ready and measured; fail at once if it failed before."""
        model = planned.identity["model"]
        if model in self.broken:
            raise self.broken[model]
        try:
            make_entry(planned.trial, self.gates, self.store, self.tell)
            self.gates.target(planned.trial, self.store, self.tell)
        except StoreError:
            raise
        except (Exception, SystemExit) as error:
            self.broken[model] = error
            raise
        # not the model itself: a trial that ends with an attack at inference does without
        self.gates.control(planned.trial, self.store, self.tell)

    def models(self) -> list[dict[str, Any]]:
        """Return an entry for each model that is known."""
        first = {p.identity["model"]: p for p in reversed(self.plan.trials)}
        distinct = dict.fromkeys(p.identity["model"] for p in self.plan.trials)
        entries = (stored_entry(first[model].trial, self.gates, self.store) for model in distinct)
        # victims of one reference share its entry
        known = {entry["digest"]: entry for entry in entries if entry is not None}
        return list(known.values())

    def hashes(self) -> dict[str, Any]:
        """Return the hashes of what went in."""
        data: dict[str, list[str]] = {}
        for p in self.plan.trials:
            source = p.settings["data"]["source"]
            for split, digest in self.gates.data_digests(p.trial).items():
                # one source with two sets of parameters is two data sets
                known = data.setdefault(f"{source}/{split}", [])
                if digest not in known:
                    known.append(digest)
        return {"data": data, "identity schema": SCHEMA}

    def keep(self, frame: Frame) -> None:
        """Keep the campaign's frame, so that a report can be made again by its name."""
        self.store.put_campaign(frame.name, asdict(frame))


def _sentence(error: BaseException) -> str:
    """Return an error in one line; one of ours is a sentence already."""
    text = " ".join(str(error).split())
    if isinstance(error, CasemateError):
        return text
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    own = str(Path(__file__).parents[1])
    foreign = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(own)
    ]
    if not foreign:
        return said
    where = foreign[-1]
    user = next((f for f in reversed(foreign) if "site-packages" not in f.filename), where)
    return f"{said} (raised at {Path(user.filename).name}, line {user.lineno}, in {user.name})"
