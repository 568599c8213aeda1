"""A record with hostile text wherever a record holds text."""

from __future__ import annotations

from dataclasses import replace

from report_demo import CLASSES, demo_record

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "</style><style>body{display:none}</style>",
    "abc\u202egnp.exe\u2066",
    "A" * 10_000,
    "{{ 7 * 7 }}{% raw %}",
    "' onclick='document.title=1",
    "عنوان עברית",
)


def hostile_record():
    """The demo with hostile text wherever a record holds text."""
    record = demo_record()
    names = (*HOSTILE, *CLASSES[len(HOSTILE) :])

    def spoil(value, i=0):
        if isinstance(value, dict):
            return {k: spoil(v, i + j) for j, (k, v) in enumerate(value.items())}
        if isinstance(value, list):
            return [spoil(v, i + j) for j, v in enumerate(value)]
        return f"{HOSTILE[i % len(HOSTILE)]} {value}" if isinstance(value, str) else value

    trials = []
    for t in record.trials:
        text = HOSTILE[t.number % len(HOSTILE)]
        settings = spoil({**t.settings, "model_digest": "x"}, t.number)
        settings["goal"] = {k: v and names[CLASSES.index(v)] for k, v in t.settings["goal"].items()}
        trials.append(
            replace(
                t,
                settings=settings,
                threat=text if t.number % 5 == 0 else t.threat,
                error=t.error and text,
                traceback=t.traceback and text * 3,
                reasons=(text,),
                replay=f"casemate run '{text}'",
                key=text,
                evidence=t.evidence
                and replace(
                    t.evidence,
                    flags=tuple(replace(f, message=text) for f in t.evidence.flags),
                    spent={text: 3},
                    notes={text: text, "found": 0, "flagged": [1, 2], "layers": [text]},
                ),
            )
        )
    return replace(
        record,
        name=HOSTILE[0],
        description=HOSTILE[1],
        spec=spoil(record.spec),
        trials=tuple(trials),
        models=({**spoil(record.models[0]), "classes": list(names)},),
        findings=tuple(
            replace(
                f, title=HOSTILE[i % 8], message=HOSTILE[(i + 1) % 8], rule={HOSTILE[0]: HOSTILE[2]}
            )
            for i, f in enumerate(record.findings)
        ),
        provenance=spoil(record.provenance),
    )
