from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.identity import SCHEMA, canonical, digest_bytes, digest_file, key

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


class Color(str, Enum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Attack:
    revision: ClassVar[int] = 1
    epsilon: float
    steps: int = 10
    color: Color = Color.RED
    cache: dict = field(init=False, default_factory=dict)


def test_key_is_the_hash_of_canonical_json():
    text = json.dumps([SCHEMA, ["trial", {"a": 0.1, "b": [1, None]}]], separators=(",", ":"))
    expected = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert key("trial", {"b": (1, None), "a": 0.1}) == expected


def test_a_key_is_the_same_in_another_process():
    code = "from casemate.identity import key; print(key('x', {'b': 0.1 + 0.2, 'a': ['é', True]}))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == key("x", {"a": ["é", True], "b": 0.30000000000000004})


@given(plain, plain)
def test_keys_are_equal_exactly_where_the_canonical_json_is(a, b):
    same = json.dumps(canonical(a), sort_keys=True) == json.dumps(canonical(b), sort_keys=True)
    assert (key(a) == key(b)) is same
    assert key(a) == key(json.loads(json.dumps(canonical(a))))


def test_parts_do_not_run_together():
    keys = [key("ab"), key("a", "b"), key(["a", "b"]), key("a", ["b"]), key(), key(None), key("")]
    assert len(set(keys)) == len(keys)


def test_a_dataclass_is_its_settable_fields():
    assert canonical(Attack(epsilon=0.5)) == {"epsilon": 0.5, "steps": 10, "color": "red"}
    assert key(Attack(epsilon=0.5)) != key(Attack(epsilon=0.25))
    assert key(Attack(epsilon=0.5)) == key(Attack(epsilon=0.5, steps=10))


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {"x": [object()]}, Attack])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError, match="canonical form"):
        key(value)


def test_two_names_that_would_become_one_are_refused():
    with pytest.raises(TypeError, match="same canonical form"):
        key({1: "a", "1": "b"})


@given(st.binary(max_size=64), st.integers(0, 64))
def test_digest_of_a_file_is_that_of_its_bytes(tmp_path_factory, data, cut):
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(data)
    expected = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert digest_file(path) == expected
    assert digest_bytes(data[:cut], memoryview(data)[cut:]) == expected


def test_digest_of_a_file_longer_than_its_buffer(tmp_path):
    path = tmp_path / "long"
    data = bytes(range(256)) * 9000
    path.write_bytes(data)
    assert digest_file(path) == hashlib.blake2b(data, digest_size=16).hexdigest()


def test_a_path_is_its_text():
    assert canonical(Path("a") / "b") == str(Path("a/b"))
