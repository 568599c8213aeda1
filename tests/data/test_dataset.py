from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.data.dataset import Dataset, check_split, digest_arrays
from casemate.data.domain import Domain
from casemate.errors import UsageError


def make(inputs=None, labels=(0, 1, 2, 1), **changes):
    inputs = np.arange(8, dtype=np.uint8).reshape(4, 2) if inputs is None else inputs
    fields = {
        "name": "toy",
        "inputs": inputs,
        "labels": np.array(labels, np.int64),
        "classes": ("a", "b", "c"),
        "domain": Domain(shape=(2,)),
    }
    return Dataset.from_arrays(**{**fields, **changes})


def test_bytes_span_the_domain():
    inputs = np.array([[0, 51], [255, 102], [1, 2], [3, 4]], np.uint8)
    data = make(inputs, domain=Domain(shape=(2,), low=-1.0, high=4.0))
    expected = torch.tensor([[-1.0, 0.0], [4.0, 1.0]])
    assert torch.allclose(data.batch(slice(0, 2)), expected, atol=1e-6)
    assert torch.allclose(data.batch(torch.tensor([1, 0])), expected.flip(0), atol=1e-6)
    assert data.batch(slice(0, 2)).dtype == torch.float32


@pytest.mark.parametrize("positions", [slice(0, 2), slice(1, 3), slice(None), torch.tensor([1, 2])])
@pytest.mark.parametrize("view", [False, True])
def test_a_batch_can_be_changed_without_changing_the_data(positions, view):
    data = make(np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2))
    if view:
        data = data.select(torch.arange(4), how="all")
    before = data.inputs.clone()
    data.batch(positions).fill_(9.0)
    assert torch.equal(data.inputs, before)


def test_views_share_the_data_and_keep_each_sample_its_row():
    data = make(groups=np.array([5, 6, 7, 8]))
    view = data.select(torch.tensor([3, 1, 0]), how="first")
    inner = view.select(torch.tensor([2, 0]), how="second")
    assert inner.inputs.data_ptr() == data.inputs.data_ptr()
    assert inner.rows.tolist() == [0, 3]
    assert inner.targets.tolist() == [0, 1]
    assert inner.group_ids.tolist() == [5, 8]
    assert torch.equal(inner.batch(slice(0, 2)), data.batch(torch.tensor([0, 3])))
    assert (len(data), len(view), len(inner)) == (4, 3, 2)
    assert len({data.digest, view.digest, inner.digest}) == 3
    assert data.select(torch.tensor([3, 1, 0]), how="first").digest == view.digest


def test_arrays_are_shared_and_not_copied():
    inputs = np.zeros((4, 2), np.uint8)
    data = make(inputs)
    inputs[2, 1] = 7
    assert int(data.inputs[2, 1]) == 7


def test_the_digest_is_that_of_the_content():
    base = make().digest
    other = np.arange(8, dtype=np.uint8).reshape(4, 2)
    other[3, 1] += 1
    assert make(name="another name").digest == base
    changed = [
        make(other),
        make(labels=(0, 1, 2, 2)),
        make(classes=("a", "b", "d")),
        make(domain=Domain(shape=(2,), high=2.0)),
        make(groups=np.zeros(4, np.int64)),
        make(np.arange(8, dtype=np.float32).reshape(4, 2) / 8),
    ]
    digests = {d.digest for d in changed}
    assert len(digests) == len(changed)
    assert base not in digests
    assert make(digest="known").digest == "known"


def test_the_digest_of_arrays_sees_type_shape_and_every_byte():
    a = torch.arange(6, dtype=torch.uint8)
    assert digest_arrays(a.view(2, 3)) != digest_arrays(a.view(3, 2))
    assert digest_arrays(a) != digest_arrays(a.to(torch.int64))
    assert digest_arrays(a.view(2, 3).t()) == digest_arrays(a.view(2, 3).t().contiguous())
    assert digest_arrays(torch.empty(0)) != digest_arrays(torch.empty(0, 2))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"inputs": np.zeros((4, 2))}, "float64"),
        ({"inputs": np.zeros((4, 3), np.uint8)}, "do not fit"),
        ({"inputs": np.zeros((3, 2), np.uint8)}, "3 inputs but labels of shape"),
        ({"labels": np.zeros((4,), np.int32)}, "int32"),
        ({"labels": (0, 1, 2, 3)}, "labels run from 0 to 3 but there are 3 classes"),
        ({"labels": (0, -1, 2, 1)}, "labels run from -1"),
        ({"classes": ("a", "b", "b")}, "two classes"),
        ({"groups": np.zeros(3, np.int64)}, "one group each"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, part):
    if isinstance(changes.get("labels"), np.ndarray):
        fields = {"inputs": np.zeros((4, 2), np.uint8), "classes": ("a",), **changes}
        with pytest.raises(UsageError, match=part):
            Dataset.from_arrays(name="toy", domain=Domain(shape=(2,)), **fields)
        return
    with pytest.raises(UsageError, match=part):
        make(**changes)


def test_a_class_is_found_by_name_then_by_number():
    data = make(classes=("Stop", "stop", "Yield"))
    assert data.class_index("stop") == 1
    assert data.class_index("STOP") == 0
    assert data.class_index("yield") == 2
    assert data.class_index("2") == data.class_index(2) == 2
    folders = make(classes=("10", "2", "x"))
    assert folders.class_index("2") == 1  # the class that is called so
    assert folders.class_index(2) == 2


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("yeld", 'Did you mean "Yield"'),
        (3, r"class is -?[13], but .* numbered 0 to 2"),
        (-1, r"class is -?[13], but .* numbered 0 to 2"),
        ("-1", r"class is -?[13], but .* numbered 0 to 2"),
        ("²", "which is no class"),
        ("\x1b[2J", r"'\\x1b\[2J'"),
    ],
)
def test_an_unknown_class_is_refused(name, part):
    with pytest.raises(UsageError, match=part):
        make(classes=("Stop", "Slow", "Yield")).class_index(name)


def test_it_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().name = "other"


def test_splits_have_two_names():
    check_split("train")
    check_split("test")
    with pytest.raises(UsageError, match="'val'"):
        check_split("val")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@given(
    n=st.integers(1, 30),
    draws=st.lists(st.tuples(st.integers(0, 2**32), st.floats(0.1, 1.0)), max_size=4),
    reverse=st.booleans(),
)
def test_replacing_is_what_it_would_be_on_a_copy(kind, n, draws, reverse):
    rng = np.random.default_rng(n)
    raw = rng.integers(0, 256, (n, 2, 3)).astype(np.uint8)
    inputs = raw if kind is np.uint8 else raw.astype(np.float32) / 255
    data = Dataset.from_arrays(
        name="made",
        inputs=inputs,
        labels=np.zeros(n, np.int64),
        classes=("a", "b"),
        domain=Domain(shape=(2, 3), step=1 / 255),
    )
    if reverse:
        data = data.select(torch.arange(n - 1, -1, -1), how="reversed")
    copy, labels = data.batch(slice(None)), data.targets.clone()
    for seed, share in draws:
        generator = np.random.default_rng(seed)
        chosen = torch.from_numpy(np.flatnonzero(generator.random(n) < share))
        new = torch.from_numpy(
            generator.integers(0, 256, (len(chosen), 2, 3)).astype(np.float32) / 255
        )
        data = data.replaced(chosen, inputs=new, labels=torch.ones_like(chosen), how=seed)
        copy[chosen], labels[chosen] = new, 1
    torch.testing.assert_close(data.batch(slice(None)), copy, rtol=0, atol=1e-6)
    torch.testing.assert_close(data.batch(slice(1, n, 2)), copy[1::2], rtol=0, atol=1e-6)
    order = torch.from_numpy(rng.permutation(n))
    torch.testing.assert_close(data.batch(order), copy[order], rtol=0, atol=1e-6)
    some = data.select(order[: n // 2], how="some")
    torch.testing.assert_close(some.batch(slice(None)), copy[order[: n // 2]], rtol=0, atol=1e-6)
    assert torch.equal(data.targets, labels)
    assert (data.inputs.numpy() == inputs).all()


def test_replacing_by_a_label_of_no_class_is_refused():
    data = Dataset.from_arrays(
        name="made",
        inputs=np.zeros((2, 1), np.float32),
        labels=np.zeros(2, np.int64),
        classes=("a", "b"),
        domain=Domain(shape=(1,)),
    )
    with pytest.raises(UsageError, match="labels run from 0 to 7"):
        data.replaced(torch.tensor([1]), labels=torch.tensor([7]), how="wrong")
