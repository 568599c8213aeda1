from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from casemate.campaign.encoding import decode_evidence, encode_arrays, encode_evidence
from casemate.campaign.store import Store
from casemate.errors import StoreError
from casemate.evidence import Evidence, HealthFlag, Severity
from casemate.stats import Measurement

MADE = {"at": "2026-01-02T03:04:05+00:00", "versions": {"torch": "1"}, "hardware": {"n": 2}}
FLOATS = st.none() | st.floats(allow_nan=False)
TYPES = st.sampled_from([np.bool_, np.uint8, np.int64, np.float32, np.float64])
TABLE = st.dictionaries(
    st.text(min_size=1, max_size=5),
    TYPES.flatmap(
        lambda t: arrays.arrays(t, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=3,
)
NOTES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_size=3,
)
EVIDENCE = st.builds(
    lambda values, samples, examples, notes: Evidence(
        by_class=tuple(
            Measurement(name=f"class {c}", value=v, n=c, low=None, high=v)
            for c, v in enumerate(values)
        ),
        measurements=tuple(
            Measurement(name=f"m{i}", value=v, n=i, low=v, high=None) for i, v in enumerate(values)
        ),
        flags=(HealthFlag(id="f", severity=Severity.FAILURE, message="é\n\u202e"),),
        spent={"forward": 2**60},
        samples=samples,
        examples=examples,
        notes=notes,
    ),
    st.lists(FLOATS, max_size=4),
    TABLE,
    TABLE,
    NOTES,
)


def small(value: float = 0.5, size: int = 4) -> Evidence:
    return Evidence(
        measurements=(Measurement(name="asr", value=value, n=3, low=0.1, high=0.9),),
        samples={"row": np.arange(size), "margin": np.linspace(0, 1, size)},
    )


@given(EVIDENCE)
def test_evidence_comes_back_bit_for_bit(evidence):
    found = decode_evidence(*encode_evidence(evidence))
    assert found.measurements == evidence.measurements
    assert found.by_class == evidence.by_class
    assert found.flags == evidence.flags
    assert found.spent == evidence.spent
    for table in ("samples", "examples"):
        before, after = getattr(evidence, table), getattr(found, table)
        assert list(before) == list(after)
        for name, array in before.items():
            assert after[name].dtype == array.dtype
            assert after[name].shape == array.shape
            assert after[name].tobytes() == array.tobytes()
    assert found.notes == evidence.notes
    assert encode_evidence(found) == encode_evidence(evidence)


def test_evidence_kept_before_classes_were_measured_has_none():
    text, content = encode_evidence(small())
    old = json.loads(text)
    del old["by_class"]
    assert decode_evidence(json.dumps(old), content).by_class == ()


def test_evidence_of_older_versions_has_no_notes():
    text, content = encode_evidence(small())
    older = {k: v for k, v in json.loads(text).items() if k != "notes"}
    found = decode_evidence(json.dumps(older), content)
    assert found.notes == {}
    assert encode_evidence(found) == encode_evidence(small())


def test_odd_numbers_and_strides_survive(tmp_path):
    values = np.array([[0.1, -0.0, math.inf], [math.nan, 5e-324, -math.inf]])
    evidence = Evidence(
        measurements=(Measurement(name="m", value=math.inf, n=1, low=0.1 + 0.2, high=math.inf),),
        samples={"t": values.T, "odd": np.arange(10)[::-3]},
    )
    with Store(tmp_path / "s", write=True) as store:
        store.put_evidence("k", evidence, 1.5, MADE)
        found = store.trial("k")
    assert found.seconds == 1.5
    assert found.made == MADE
    assert found.evidence.samples["t"].tobytes() == values.T.tobytes()
    assert found.evidence.samples["odd"].tolist() == [9, 6, 3, 0]
    assert found.evidence.measurements == evidence.measurements


def test_text_is_no_array_of_numbers():
    with pytest.raises(TypeError, match="names"):
        encode_arrays({"names": np.array(["a"])})


@pytest.mark.parametrize("size", [4, 100_000], ids=["in the database", "in a file"])
def test_what_is_written_is_there_for_the_next_process(tmp_path, size):
    evidence = small(size=size)
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", evidence, 2.0, MADE)
        store.put("a", {"x": np.full(size, 0.1)})
        store.put_value("v", {"n": 1})
        store.put_file("f", lambda path: path.write_bytes(b"weights"))
        store.put_run("c", [(1, "k", {"a": 1})])
        store.put_campaign("c", {"name": "c"})
    with Store.reader(tmp_path) as store:
        assert encode_evidence(store.trial("k").evidence) == encode_evidence(evidence)
        assert store.finished() == {"k"}
        assert store.get("a")["x"].tobytes() == np.full(size, 0.1).tobytes()
        assert store.value("v") == {"n": 1}
        assert store.file("f").read_bytes() == b"weights"
        assert store.has("f")
        assert not store.has("g")
        assert store.last_run("c") == {1: ("k", {"a": 1})}
        assert store.campaign("c") == {"name": "c"}
        assert store.campaigns() == ["c"]
        assert store.get("no") is None
        assert store.trial("no") is None


def test_a_failure_gives_way_to_evidence_but_not_the_reverse(tmp_path):
    with Store(tmp_path, write=True) as store:
        store.put_failure("k", "it broke", "Traceback", 1.0, MADE)
        assert store.trial("k").error == "it broke"
        assert store.trial("k").made == MADE
        assert store.finished() == set()
        store.put_failure("k", "again", "Traceback 2", 2.0, MADE)
        assert store.trial("k").traceback == "Traceback 2"
        store.put_evidence("k", small(), 1.0, MADE)
        store.put_failure("k", "late", "Traceback", 1.0, MADE)
        assert store.trial("k").evidence is not None
        assert store.finished() == {"k"}


def test_there_is_no_store_before_something_is_written(tmp_path):
    assert Store.reader(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", small(), 1.0, MADE)
        with pytest.raises(StoreError, match=f"process {os.getpid()} is writing to the store"):
            Store(tmp_path, write=True)
        with Store.reader(tmp_path) as reader:  # readers are welcome meanwhile
            assert reader.finished() == {"k"}
    Store(tmp_path, write=True).close()


HOLDER = """
import sys, pathlib
from casemate.campaign.store import Store
store = Store(pathlib.Path(sys.argv[1]), write=True)
store.put_value("v", 1)
print("held", flush=True)
sys.stdin.read()
"""


def test_kill_9_releases_the_lock_and_keeps_what_was_written(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} is writing"):
            Store(tmp_path, write=True)
        holder.send_signal(signal.SIGKILL)
    with Store(tmp_path, write=True) as store:
        assert store.value("v") == 1


def test_what_a_killed_writer_left_half_written_is_cleaned(tmp_path):
    Store(tmp_path, write=True).close()
    left = tmp_path / "objects" / "tmp" / "half"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    Store(tmp_path, write=True).close()
    assert not left.exists()


def test_a_writer_killed_before_the_tables_leaves_a_usable_store(tmp_path):
    (tmp_path / "casemate.sqlite").touch()
    assert Store.reader(tmp_path) is None
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", small(), 1.0, MADE)
        assert store.finished() == {"k"}


def test_a_damaged_database_is_one_sentence_and_stays_as_it_is(tmp_path):
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", small(), 1.0, MADE)
    file = tmp_path / "casemate.sqlite"
    broken = b"this is no database " * 500
    file.write_bytes(broken)
    for write in (True, False):
        with pytest.raises(
            StoreError, match=r"is damaged .*move .*casemate\.sqlite away"
        ) as caught:
            Store(tmp_path, write=write)
        assert "\n" not in str(caught.value)
    assert file.read_bytes() == broken


def test_damaged_pages_are_found_when_they_are_read(tmp_path):
    with Store(tmp_path, write=True) as store:
        for i in range(200):
            store.put_evidence(f"k{i}", small(), 1.0, MADE)
    file = tmp_path / "casemate.sqlite"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)

    def read():
        with Store(tmp_path, write=True) as store:
            store.finished()

    with pytest.raises(StoreError, match="is damaged"):
        read()


def test_another_version_or_another_program_is_refused(tmp_path):
    Store(tmp_path, write=True).close()
    database = sqlite3.connect(tmp_path / "casemate.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="has version 99, but this Casemate reads 2"):
        Store(tmp_path, write=True)
    other = tmp_path / "other"
    other.mkdir()
    database = sqlite3.connect(other / "casemate.sqlite")
    database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(StoreError, match="is not a store of Casemate"):
        Store(other, write=True)


def test_a_path_that_cannot_be_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "store", write=True)


@pytest.fixture
def nobody():
    """Act as a user who owns nothing; root may write anywhere."""
    before = os.geteuid()
    if before != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def closed():
    """A store in a folder that nobody can write."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    with Store(folder / "s", write=True) as store:
        store.put_evidence("k", small(), 1.0, MADE)
    (folder / "s" / "writer.lock").chmod(0o444)
    (folder / "s").chmod(0o555)
    folder.chmod(0o555)
    yield folder / "s"
    folder.chmod(0o755)
    (folder / "s").chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_can_still_be_read(closed, nobody):
    with Store.reader(closed) as store:
        assert store.finished() == {"k"}
    with pytest.raises(StoreError, match="cannot be written; make it writable or name another"):
        Store(closed, write=True)
    with pytest.raises(StoreError, match="cannot be written"):
        Store(closed.parent / "new", write=True)


def test_a_full_disk_loses_nothing_that_is_computed(tmp_path):
    big = {"x": np.random.default_rng(0).random(200_000)}
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", small(), 1.0, MADE)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            with pytest.raises(StoreError, match="is full; what is computed is kept"):
                store.put("big", big)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list((tmp_path / "objects" / "tmp").iterdir()) == []
        # and the database itself
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="is full"):
            store.put_evidence("n", small(size=3000), 1.0, MADE)
    with Store(tmp_path, write=True) as store:
        assert encode_evidence(store.trial("k").evidence) == encode_evidence(small())
        store.put("big", big)
        assert store.get("big")["x"].tobytes() == big["x"].tobytes()


def test_a_damaged_object_is_named_and_a_missing_one_is_computed_anew(tmp_path):
    with Store(tmp_path, write=True) as store:
        store.put_evidence("k", small(size=100_000), 1.0, MADE)
        (file,) = [p for p in (tmp_path / "objects").rglob("*") if p.is_file()]
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(StoreError, match="delete that file and run again") as caught:
            store.trial("k")
        assert str(file) in str(caught.value)
        file.unlink()
        assert store.trial("k") is None
        assert store.finished() == set()
        store.put_evidence("k", small(size=100_000), 1.0, MADE)
        assert store.trial("k").evidence is not None


def test_equal_content_is_kept_once(tmp_path):
    with Store(tmp_path, write=True) as store:
        for name in ("a", "b"):
            store.put(name, {"x": np.zeros(100_000)})
    assert len([p for p in (tmp_path / "objects").rglob("*") if p.is_file()]) == 1
