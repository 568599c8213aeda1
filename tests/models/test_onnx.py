"""ONNX files: the same network in every layout, batch and number type gives the same scores."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.load import load_target

onnx = pytest.importorskip("onnx", reason="needs the package onnx to write test files")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

DOMAIN = Domain(shape=(2, 3, 4))
CLASSES = ("a", "b", "c", "d")
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(24, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
FLOAT, DOUBLE, HALF, INT64 = 1, 11, 10, 7


def write(
    path,
    *,
    shape=("n", 2, 3, 4),
    kind=FLOAT,
    weight=WEIGHT,
    bias=BIAS,
    axes=None,
    extra=(),
    outputs=("scores",),
    external=False,
):
    """Write flatten(transpose(x)) @ weight + bias, whose values do not depend on the layout."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    dtype = {FLOAT: np.float32, DOUBLE: np.float64, HALF: np.float16}[kind]
    nodes = []
    last = "x"
    if axes is not None:
        nodes.append(helper.make_node("Transpose", ["x"], ["moved"], perm=axes))
        last = "moved"
    nodes.append(helper.make_node("Flatten", [last], ["flat"], axis=1))
    nodes.append(helper.make_node("Gemm", ["flat", "w", "b"], ["scores"]))
    nodes += extra
    kinds = {"scores": (kind, len(bias)), "label": (INT64, None), "doubled": (kind, len(bias))}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [
            helper.make_tensor_value_info(
                o, kinds[o][0], ["n"] if kinds[o][1] is None else ["n", kinds[o][1]]
            )
            for o in outputs
        ],
        [
            numpy_helper.from_array(weight.astype(dtype), "w"),
            numpy_helper.from_array(bias.astype(dtype), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save_model(
        model, str(path), save_as_external_data=external, location="big.bin", size_threshold=0
    )
    return path


LABEL = onnx.helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)
DOUBLED = onnx.helper.make_node("Add", ["scores", "scores"], ["doubled"])


def load(path, *, domain=DOMAIN, classes=CLASSES, **more):
    return load_target(
        {"onnx": path.name, **more}, domain=domain, classes=classes, base_dir=path.parent
    )


def expected(x):
    return x.flatten(1).numpy() @ WEIGHT + BIAS


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (("n", 2, 3, 4), None),
        ((3, 2, 3, 4), None),
        ((1, 2, 3, 4), None),
        (("n", 3, 4, 2), (0, 3, 1, 2)),
        ((4, 3, 4, 2), (0, 3, 1, 2)),
        (("n", 24), None),
        ((5, 24), None),
    ],
    ids=lambda v: str(v).replace("'", ""),
)
@pytest.mark.parametrize("n", [1, 3, 7])
def test_every_layout_and_batch_gives_the_same_scores(tmp_path, shape, axes, n):
    target = load(write(tmp_path / "m.onnx", shape=shape, axes=axes))
    x = torch.rand(n, *DOMAIN.shape)
    np.testing.assert_allclose(target.scores(x), expected(x), atol=1e-5)
    assert not target.differentiable
    assert target.outputs == "logits"


@pytest.mark.parametrize(("kind", "tolerance"), [(DOUBLE, 1e-5), (HALF, 2e-2)])
def test_the_graph_gets_its_own_number_type(tmp_path, kind, tolerance):
    x = torch.rand(3, *DOMAIN.shape)
    scores = load(write(tmp_path / "m.onnx", kind=kind)).scores(x)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores, expected(x), atol=tolerance)


def test_preprocessing_comes_first(tmp_path):
    x = torch.rand(3, *DOMAIN.shape)
    target = load(
        write(tmp_path / "m.onnx"), preprocessing={"mean": [0.5, 0.25], "std": [0.5, 2.0]}
    )
    mean, std = torch.tensor([0.5, 0.25]), torch.tensor([0.5, 2.0])
    seen = (x - mean.view(1, 2, 1, 1)) / std.view(1, 2, 1, 1)
    np.testing.assert_allclose(target.scores(x), expected(seen), atol=1e-5)


def test_resizing_decides_the_shape_that_the_graph_gets(tmp_path):
    path = write(tmp_path / "m.onnx")
    large = Domain(shape=(2, 6, 8))
    with pytest.raises(UsageError, match=r"shape \[2, 6, 8\] do not fit.*set preprocessing.size"):
        load(path, domain=large)
    target = load(path, domain=large, preprocessing={"size": [3, 4]})
    x = torch.full((2, 2, 6, 8), 0.3)
    np.testing.assert_allclose(target.scores(x), expected(torch.full((2, 2, 3, 4), 0.3)), atol=1e-5)


def test_one_logit_for_two_classes(tmp_path):
    path = write(tmp_path / "m.onnx", weight=WEIGHT[:, :1], bias=BIAS[:1])
    x = torch.rand(3, *DOMAIN.shape)
    scores = load(path, classes=("no", "yes")).scores(x)
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], expected(x)[:, 0], atol=1e-5)


def test_the_output_is_chosen_by_what_it_gives(tmp_path):
    path = write(tmp_path / "m.onnx", extra=[LABEL], outputs=("label", "scores"))
    x = torch.rand(3, *DOMAIN.shape)
    np.testing.assert_allclose(load(path).scores(x), expected(x), atol=1e-5)
    labels = load(path, outputs="labels")
    assert labels.scores(x).argmax(1).tolist() == expected(x).argmax(1).tolist()
    assert set(labels.scores(x).flatten().tolist()) == {0.0, 1.0}


def test_several_fitting_outputs_must_be_told_apart(tmp_path):
    path = write(tmp_path / "m.onnx", extra=[DOUBLED], outputs=("scores", "doubled"))
    with pytest.raises(UsageError, match=r"outputs scores, doubled .* name it with output"):
        load(path)
    x = torch.rand(3, *DOMAIN.shape)
    np.testing.assert_allclose(load(path, output="doubled").scores(x), 2 * expected(x), atol=1e-5)
    with pytest.raises(UsageError, match=r'no output "double"\. Did you mean "doubled"'):
        load(path, output="double")


def test_the_digest_is_that_of_the_bytes(tmp_path):
    one = load(write(tmp_path / "one.onnx"))
    same = load(write(tmp_path / "same.onnx"))
    other = load(write(tmp_path / "other.onnx", bias=BIAS + 1))
    assert one.digest == same.digest != other.digest
    assert load(tmp_path / "one.onnx", preprocessing={"mean": 0.1}).digest != one.digest


def test_the_digest_covers_weights_in_a_file_beside_it(tmp_path):
    path = write(tmp_path / "m.onnx", external=True)
    first = load(path)
    x = torch.rand(3, *DOMAIN.shape)
    np.testing.assert_allclose(first.scores(x), expected(x), atol=1e-5)
    (tmp_path / "unrelated.txt").write_text("new")
    assert load(path).digest == first.digest
    beside = tmp_path / "big.bin"
    raw = bytearray(beside.read_bytes())
    raw[0] ^= 1
    beside.write_bytes(bytes(raw))
    assert load(path).digest != first.digest


@pytest.mark.parametrize("content", [b"", b"not a graph", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = write(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(UsageError, match=r"m\.onnx cannot be loaded") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_with_a_guess(tmp_path):
    write(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r'modle\.onnx is no file\. Did you mean "model\.onnx"'):
        load(tmp_path / "modle.onnx")


def test_without_onnxruntime_the_install_line_is_printed(tmp_path, monkeypatch):
    path = write(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="pip install onnxruntime"):
        load(path)


def test_a_graph_of_whole_numbers_is_refused(tmp_path):
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", INT64, ["n", 4])],
        [helper.make_tensor_value_info("y", INT64, ["n", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match=r"is a tensor\(int64\); export a model"):
        load(tmp_path / "m.onnx", domain=Domain(shape=(4,)))


def test_the_digest_covers_weights_in_a_folder_below(tmp_path):
    path = write(tmp_path / "m.onnx", external=True)
    (tmp_path / "sub").mkdir()
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "sub/big.bin"
    onnx.save(model, str(path))
    moved = (tmp_path / "big.bin").rename(tmp_path / "sub" / "big.bin")
    first = load(path)
    raw = bytearray(moved.read_bytes())
    raw[0] ^= 1
    moved.write_bytes(bytes(raw))
    assert load(path).digest != first.digest
