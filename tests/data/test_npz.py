from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from casemate.data import npy, npz
from casemate.data.npz import Npz
from casemate.data.npz_layout import model_order
from casemate.errors import UsageError

RNG = np.random.default_rng(0)
FEATURES = RNG.random((20, 5), np.float32)
LABELS = np.arange(20) % 4


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.npz"


def whole(path, **options):
    """Return all samples of an undivided file, in its order."""
    return Npz(path=path, **options).load("train").inputs


def test_features_and_labels_are_split_by_class(path):
    np.savez(path, x=FEATURES, y=LABELS)
    train, test = Npz(path=path).load("train"), Npz(path=str(path)).load("test")
    assert (train.name, train.classes, len(train), len(test)) == (
        "mine/train",
        ("0", "1", "2", "3"),
        16,
        4,
    )
    assert train.domain.shape == (5,)
    assert (train.domain.low, train.domain.high, train.domain.step) == (0.0, 1.0, None)
    assert np.array_equal(train.inputs.numpy(), FEATURES)
    assert sorted(train.rows.tolist() + test.rows.tolist()) == list(range(20))
    assert np.bincount(test.targets.numpy()).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_divided_file_is_taken_as_it_is(path, save):
    save(path, x_train=FEATURES, y_train=LABELS, x_test=FEATURES[:6], y_test=[0, 1, 2, 5, 0, 0])
    train, test = Npz(path=path).load("train"), Npz(path=path).load("test")
    assert np.array_equal(train.inputs.numpy(), FEATURES)
    assert np.array_equal(test.inputs.numpy(), FEATURES[:6])
    assert test.labels.tolist() == [0, 1, 2, 5, 0, 0]
    assert len(train.classes) == len(test.classes) == 6  # by the labels of both
    assert test.index is None


BYTES = RNG.integers(0, 256, (6, 7, 8, 3), np.uint8)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("block", [1, 50, 1 << 24])
def test_channels_last_become_channels_first(path, order, block, monkeypatch):
    monkeypatch.setattr(npy, "_BLOCK", block)
    np.savez(path, images=np.asarray(BYTES, order=order), labels=[0, 1] * 3)
    inputs = whole(path, test_fraction=0.4)
    assert np.array_equal(inputs.numpy(), BYTES.transpose(0, 3, 1, 2))
    assert inputs.is_contiguous()


@pytest.mark.parametrize("order", ["C", "F"])
def test_channels_first_stay(path, order):
    first = BYTES.transpose(0, 3, 1, 2)
    np.savez(path, images=np.asarray(first, order=order), labels=[0, 1] * 3)
    assert np.array_equal(whole(path, test_fraction=0.4).numpy(), first)


def test_gray_images_get_their_channel(path):
    np.savez(path, images=BYTES[..., 0], labels=[0, 1] * 3)
    assert np.array_equal(whole(path, test_fraction=0.4).numpy(), BYTES[..., 0][:, None])


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
        elements=st.floats(-3, 5),
    ),
    st.sampled_from([np.float16, np.float32, np.float64, ">f4", ">f8"]),
    st.sampled_from("CF"),
)
def test_floats_arrive_as_float32(tmp_path_factory, values, kind, order):
    path = tmp_path_factory.mktemp("floats") / "a.npz"
    stored = np.asarray(values.astype(kind), order=order)
    np.savez(path, x=stored, y=np.zeros(len(values), int))
    inputs = whole(path, low=-3, high=5, test_fraction=0.5)
    assert inputs.dtype == torch.float32
    assert np.array_equal(inputs.numpy(), stored.astype(np.float32))


def test_bytes_span_the_bounds(path):
    np.savez(path, x=np.array([[0, 255], [51, 102]], np.uint8), y=[0, 0])
    data = Npz(path=path, low=-1.0, high=4.0, test_fraction=0.5).load("train")
    assert data.inputs.dtype == torch.uint8
    assert data.domain.step == 5 / 255
    two = data.select(torch.arange(1), how="x")  # the view's first sample, whichever row it is
    expected = {0: [-1.0, 4.0], 1: [0.0, 1.0]}[int(two.rows[0])]
    assert two.batch(slice(0, 1))[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert Npz(path=path, test_fraction=0.5).load("train").domain.step == 1 / 255


def test_class_names_come_from_the_file_or_the_caller(path):
    names = np.array(["ja", "nö", "x", "y"])
    np.savez(path, x=FEATURES, y=LABELS, classes=names)
    assert Npz(path=path).load("test").classes == ("ja", "nö", "x", "y")
    chosen = Npz(path=path, classes=("a", "b", "c", "d")).load("test")
    assert chosen.classes == ("a", "b", "c", "d")
    np.savez(path, x=FEATURES, y=LABELS, class_names=names)
    assert Npz(path=path).load("test").classes[1] == "nö"


def test_the_second_load_reads_no_values_and_a_change_is_seen(path, monkeypatch):
    np.savez(path, x=FEATURES, y=LABELS)
    first = Npz(path=path).load("train")
    real = npz.copy_checked
    monkeypatch.setattr(npz, "copy_checked", None)
    assert Npz(path=path).load("train").digest == first.digest
    monkeypatch.setattr(npz, "copy_checked", real)
    assert Npz(path=path, high=2.0, low=0.0).load("train").digest != first.digest
    np.savez(path, x=FEATURES / 2, y=LABELS)
    assert Npz(path=path).load("train").digest != first.digest


def with_value(value, where=(7, 2)):
    changed = FEATURES.copy()
    changed[where] = value
    return changed


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("block", [1, 1 << 24])
@pytest.mark.parametrize(
    ("value", "part"),
    [
        (np.nan, "x: sample 7 holds nan; replace it"),
        (np.inf, "x: sample 7 holds inf; replace it"),
        (-np.inf, "x: sample 7 holds -inf"),
        (2.5, r"x: sample 7 holds 2.5, outside \[0, 1\]; declare the bounds in low= and high="),
        (-0.001, r"x: sample 7 holds -0.001, outside"),
    ],
)
def test_values_that_are_no_input_are_named(path, monkeypatch, order, block, value, part):
    monkeypatch.setattr(npy, "_BLOCK", block)
    np.savez(path, x=np.asarray(with_value(value), order=order), y=LABELS)
    with pytest.raises(UsageError, match=f"mine.npz: {part}"):
        Npz(path=path).load("train")


def test_values_outside_declared_bounds_are_named(path):
    np.savez(path, x=with_value(2.5), y=LABELS)
    with pytest.raises(UsageError, match=r"holds 2.5, outside \[-1, 2\]; mend it or the bounds"):
        Npz(path=path, low=-1, high=2).load("train")
    assert float(whole(path, low=-1, high=3).max()) == 2.5


def test_bounds_beyond_half_precision_do_not_overflow(path):
    np.savez(path, x=FEATURES.astype(np.float16), y=LABELS)
    assert np.array_equal(whole(path, low=-1e6, high=1e6).numpy(), FEATURES.astype(np.float16))


def arrays(**changes):
    content = {"x": FEATURES, "y": LABELS, **changes}
    return {key: value for key, value in content.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (arrays(y=LABELS[:-1]), r"y has 19 labels but x has the shape \(20, 5\)"),
        (arrays(x=None), r"holds the arrays \['y'\]; it should hold"),
        (arrays(features=FEATURES), "it should hold"),
        (arrays(labels=LABELS), "it should hold"),
        (arrays(x_train=FEATURES), "it should hold"),
        ({"x_train": FEATURES, "y_train": LABELS, "x_test": FEATURES}, "has no array y_test; add"),
        (arrays(x=FEATURES.astype(np.int64)), "x is of type int64; save it as uint8"),
        (arrays(x=FEATURES.astype(np.complex64)), "x is of type complex64"),
        (arrays(x=FEATURES > 0), "x is of type bool"),
        (arrays(x=FEATURES[:, 0]), r"x has the shape \(20,\)"),
        (arrays(x=FEATURES[:, :0]), r"x has the shape \(20, 0\)"),
        (arrays(x=FEATURES[:0], y=LABELS[:0]), "labels are one whole number"),
        (arrays(y=LABELS.astype(float)), "y is an array of float64 .* labels are one whole number"),
        (
            arrays(y=np.eye(4, dtype=int)[LABELS]),
            r"y is an array of int64 with the shape \(20, 4\)",
        ),
        (arrays(y=LABELS - 1), "y holds labels from -1 to 2; number the classes from 0"),
        (arrays(y=LABELS.astype(np.uint64) + 2**63), "y holds labels from 9223372036854775808"),
        (arrays(classes=["a", "b", "c"]), "y holds the label 3 but there are 3 class names"),
        (arrays(classes=["a", "b", "c", "c"]), "classes: two classes are named 'c'"),
        (arrays(classes=["a", "b", "c", "d\n"]), "control characters"),
        (arrays(classes=[1, 2, 3, 4]), "classes is an array of int64 .* class names are a list"),
    ],
)
def test_arrays_that_do_not_fit_are_named(path, content, part):
    np.savez(path, **content)
    with pytest.raises(UsageError, match=f"mine.npz.*{part}"):
        Npz(path=path).load("test")


@pytest.mark.parametrize("key", ["x", "y", "classes"])
def test_pickles_are_refused_and_never_read(path, tmp_path, key):
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    np.savez(path, allow_pickle=True, **arrays(**{key: np.array([Trap()] * 20, dtype=object)}))
    with pytest.raises(
        UsageError, match=f"mine.npz: {key} holds Python objects.*pickles are refus"
    ):
        Npz(path=path).load("train")
    assert not trap.exists()


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "part"),
    [
        (b"not an array", "x is no array"),
        (npy_bytes(FEATURES)[:-4], "x claims the shape .* but holds 396 bytes"),
        (npy_bytes(FEATURES) + b"more", "but holds 404 bytes"),
        (npy_bytes(FEATURES).replace(b"(20, 5)", b"(9**9,)"), "x is no array"),
        (npy_bytes(FEATURES).replace(b"(20, 5), }", b"(((((((((("), "x is no array"),
        (npy_bytes(FEATURES).replace(b"(20, 5), }", b"(20, 7), }"), "x claims the shape .20, 7."),
        (b"\x93NUMPY\x09\x00", "x is no array"),
    ],
)
def test_members_that_are_not_what_they_claim_are_named(path, member, part):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", member)
        file.writestr("y.npy", npy_bytes(LABELS))
    with pytest.raises(UsageError, match=f"mine.npz: .*{part}"):
        Npz(path=path).load("train")


def test_a_claim_of_absurd_size_allocates_nothing(path, own_folders):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (20, 10**15)}
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", header.getvalue() + FEATURES.tobytes())
        file.writestr("y.npy", npy_bytes(LABELS))
    with pytest.raises(UsageError, match=r"x claims the shape \(20, 1000000000000000\)"):
        Npz(path=path).load("train")


def test_a_file_that_is_damaged_or_no_npz_is_named(path, tmp_path):
    np.savez(path, x=FEATURES, y=LABELS)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"mine.npz is truncated .*numpy.savez"):
        Npz(path=path).load("train")
    broken = bytearray(data)
    broken[data.index(FEATURES.tobytes()) + 8] ^= 1
    path.write_bytes(broken)
    with pytest.raises(UsageError, match=r"mine.npz: the member 'x.npy' is damaged"):
        Npz(path=path).load("train")
    with pytest.raises(UsageError, match=r"other.npz does not exist"):
        Npz(path=tmp_path / "other.npz").load("train")


def test_where_the_channels_are_is_found_or_asked():
    nhwc = (0, 2, 3, 1)
    assert model_order((9, 28, 28, 3), None, "f: x") == ((9, 3, 28, 28), nhwc)
    assert model_order((9, 1, 28, 28), None, "f: x") == ((9, 1, 28, 28), (0, 1, 2, 3))
    assert model_order((9, 3, 5, 3), "NHWC", "f: x") == ((9, 3, 3, 5), nhwc)
    assert model_order((9, 4, 5, 6), "NCHW", "f: x")[0] == (9, 4, 5, 6)
    for shape, part in (((9, 3, 5, 1), "first or last"), ((9, 4, 5, 6), "neither first nor last")):
        with pytest.raises(UsageError, match=rf"f: x has the shape .*{part}; say layout="):
            model_order(shape, None, "f: x")


def test_an_ambiguous_file_is_read_as_declared(path):
    images = RNG.integers(0, 256, (4, 3, 5, 3), np.uint8)
    np.savez(path, x=images, y=[0, 0, 1, 1])
    with pytest.raises(UsageError, match=r'mine\.npz: x has the shape .*layout="NCHW" or "NHWC"'):
        Npz(path=path).load("train")
    options = {"test_fraction": 0.5}
    assert np.array_equal(whole(path, layout="NCHW", **options).numpy(), images)
    last = whole(path, layout="NHWC", **options).numpy()
    assert np.array_equal(last, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"low": 0.0}, "give both low and high"),
        ({"low": 1.0, "high": 0.0}, "low < high"),
        ({"low": 0.0, "high": float("inf")}, "finite"),
        ({"low": 0.0, "high": 1e39}, "fit into float32"),
        ({"layout": "CHW"}, "layout must be"),
        ({"test_fraction": 2.0}, "test_fraction must be"),
    ],
)
def test_parameters_out_of_range_are_refused(changes, part):
    with pytest.raises(UsageError, match=part):
        Npz(path="x.npz", **changes)
