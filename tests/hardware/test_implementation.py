from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.ops.units import Requantize

sys.path.insert(0, str(Path(__file__).parent))
from networks import network


def small():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 4),
    ).eval(), (2, 6, 6)


def conv(q, w, bias):
    """Return the sums of a 3x3 convolution in plain integers; q comes padded."""
    out = np.zeros((len(q), len(w), q.shape[2] - 2, q.shape[3] - 2), dtype=np.int64)
    for i in range(3):
        for j in range(3):
            part = q[:, :, i : i + out.shape[2], j : j + out.shape[3]]
            out += np.einsum("bchw,oc->bohw", part, w[:, :, i, j])
    return out + bias[None, :, None, None]


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_integers_are_those_of_plain_integer_arithmetic(name, granularity, scheme):
    module, shape = small()
    x = torch.randn(7, *shape)
    form = NumberFormat(name=name, scheme=scheme, granularity=granularity)
    made = deploy(module, shape, form, calibration=x)
    v = {n: t.numpy() for n, t in made.memory.values.items()}
    f32 = np.float32

    def whole(name):
        return v[name].astype(np.int64)

    def weight(name):
        zero = whole(f"{name}.zero") if f"{name}.zero" in v else np.zeros(1, dtype=np.int64)
        w = whole(name)
        return w - zero.reshape(-1, *[1] * (w.ndim - 1))

    def held(scaled, zero):
        return np.clip(np.round(scaled) + zero, -128, 127).astype(np.int64)

    q = held(x.numpy() / v["input.output.scale"], v["input.output.zero"])
    moved = np.pad(q - whole("input.output.zero"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = conv(moved, weight("0.weight"), whole("0.bias"))
    factor = (v["input.output.scale"] * v["0.weight.scale"]) / v["0.output.scale"]
    scaled = sums.astype(f32) * factor.reshape(1, -1, 1, 1)
    hidden = np.maximum(held(scaled, v["0.output.zero"]), whole("0.output.zero"))
    pooled = hidden.reshape(7, 3, 3, 2, 3, 2).max((3, 5)).reshape(7, 27)
    last = (pooled - whole("0.output.zero")) @ weight("4.weight").T + whole("4.bias")
    scores = last.astype(f32) * (v["0.output.scale"] * v["4.weight.scale"])
    np.testing.assert_array_equal(made.scores(x).numpy(), scores)
    assert made.graph.exact


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_a_quantized_convolution_is_that_of_onnx_runtime(seed):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module, shape = small()
    with torch.no_grad():  # a large weight a channel keeps the others small: no kernel saturates
        generator = torch.Generator().manual_seed(seed)
        module[0].weight.copy_(torch.randn(module[0].weight.shape, generator=generator) * 0.2)
        module[0].weight[:, 0, 0, 0] = 2.0
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    made = deploy(module[:2], shape, NumberFormat(name="int8"), calibration=x)
    seen = {}
    made.graph.trace(made.memory.values, x, lambda i, out: seen.update({i: out}))
    at = next(i for i, n in enumerate(made.graph.nodes) if isinstance(n.op, Requantize))
    v = made.memory.values
    constants = {
        "xs": v["input.output.scale"].numpy().reshape(()),
        "xz": v["input.output.zero"].numpy().astype(np.int8).reshape(()),
        "w": v["0.weight"].numpy().astype(np.int8),
        "ws": v["0.weight.scale"].numpy(),
        "wz": np.zeros(3, dtype=np.int8),
        "ys": v["0.output.scale"].numpy().reshape(()),
        "yz": v["0.output.zero"].numpy().astype(np.int8).reshape(()),
        "b": v["0.bias"].numpy().astype(np.int32),
    }
    node = onnx.helper.make_node(
        "QLinearConv",
        ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
        ["y"],
        pads=[1, 1, 1, 1],
    )
    int8 = onnx.TensorProto.INT8
    graph = onnx.helper.make_graph(
        [node],
        "conv",
        [onnx.helper.make_tensor_value_info("x", int8, [None, *shape])],
        [onnx.helper.make_tensor_value_info("y", int8, [None, 3, 6, 6])],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": seen[0].numpy().astype(np.int8)})
    # our range of a ReLU's output begins at 0, so cutting to eight bits is the ReLU
    np.testing.assert_array_equal(seen[at].numpy(), y.astype(np.float32))


def test_a_relu_in_a_unit_whose_zero_point_moved_still_cuts_at_it():
    """As after a fault in the zero point: before it, the lowest integer stands for 0."""
    op = Requantize(scales=("one",), scale="one", zero="zero", relu=True)
    values = {"one": torch.tensor([1.0]), "zero": torch.tensor([-100.0])}
    sums = torch.tensor([[-50.0, 0.0, 7.0, 500.0]])
    assert op.dense(values, sums).tolist() == [[-100.0, -100.0, -93.0, 127.0]]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**9))
def test_integers_stay_near_floating_point(seed):
    module, shape = network(seed)
    x = torch.randn(40, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        plain = module(x)
    made = deploy(module, shape, NumberFormat(name="int8"), calibration=x)
    off = (made.scores(x) - plain).abs().max()
    assert off < 0.25 * (plain.max() - plain.min())


def test_normalization_is_folded_into_the_layer_before():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6),
        nn.Linear(6, 2),
    )
    for _ in range(20):
        module(torch.randn(30, 1, 4, 4) * 3 + 1)
    module.eval()
    x = torch.randn(9, 1, 4, 4) * 3 + 1
    made = deploy(module, (1, 4, 4), NumberFormat(name="int8"), calibration=x)
    assert not made.memory.where(roles=["weight"])[0].name.startswith("1.")
    assert not any(r.role == "norm" for r in made.memory.regions)
    assert {"0.bias", "4.bias"} <= set(made.memory.names)
    with torch.no_grad():
        assert torch.allclose(made.scores(x), module(x), atol=0.15)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bits_hold_rounded_weights(name):
    module, shape = small()
    made = deploy(module, shape, NumberFormat(name=name))
    kind = {"float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    assert torch.equal(made.memory.values["0.weight"], module[0].weight.to(kind).float())
    assert made.memory.bits == 16 * sum(p.numel() for p in module.parameters())
    x = torch.randn(3, *shape)
    rounded = module.to(kind).float()
    with torch.no_grad():
        assert torch.equal(made.scores(x), rounded(x))


def test_weights_alone_can_be_integers():
    module, shape = small()
    made = deploy(module, shape, NumberFormat(name="int8", activations="float32"))
    scale = module[0].weight.detach().flatten(1).abs().amax(1) / 127
    codes = made.memory.values["0.weight"]
    near = codes * scale.view(-1, 1, 1, 1)
    assert torch.allclose(near, module[0].weight, atol=float(scale.max()) / 2 * 1.001)
    assert codes.abs().max() == 127
    assert {r.word.name for r in made.memory.regions} == {"int8", "float32"}
    assert not made.graph.exact


def test_roles_and_layers_are_named_after_the_module():
    module, shape = small()
    made = deploy(module, shape, NumberFormat(name="int8"), calibration=torch.randn(4, *shape))
    held = {r.name: (r.layer, r.role, r.word.name) for r in made.memory.regions}
    assert held["0.weight"] == ("0", "weight", "int8")
    assert held["0.bias"] == ("0", "bias", "int32")
    assert held["0.weight.scale"] == ("0", "scale", "float32")
    assert held["0.output.zero"] == ("0", "zero point", "int8")
    assert held["input.output.scale"] == ("input", "scale", "float32")


def test_the_digest_is_of_words_and_format():
    module, shape = small()
    one, same = deploy(module, shape), deploy(module, shape)
    assert one.digest == same.digest
    assert one.digest != deploy(module, shape, NumberFormat(name="bfloat16")).digest
    with torch.no_grad():
        module[0].bias[0] += 1
    assert one.digest != deploy(module, shape).digest


def test_deploying_leaves_the_module_as_it_was():
    module, shape = small()
    module.train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    deploy(module, shape, NumberFormat(name="int8"), calibration=torch.randn(4, *shape))
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())


def test_a_format_that_the_model_cannot_take_is_one_sentence():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else -self.fc(x)

    with pytest.raises(UsageError) as caught:
        deploy(Branching(), (4,), NumberFormat(name="int8"), calibration=torch.zeros(2, 4))
    assert "format.name is int8, but Branching has no convolution or linear layer" in str(
        caught.value
    )
    assert str(caught.value).endswith("choose float32, float16 or bfloat16")
    module, shape = small()
    with pytest.raises(UsageError, match="which needs inputs to calibrate on, and there are none"):
        deploy(module, shape, NumberFormat(name="int8"))
    with pytest.raises(UsageError, match=r"^0 gives numbers that are not finite on the inputs"):
        deploy(
            module,
            shape,
            NumberFormat(name="int8"),
            calibration=torch.full((2, *shape), float("inf")),
        )
    with pytest.raises(
        ParameterError, match=r'^format\.name is "int7", but must be one of float32'
    ):
        NumberFormat(name="int7")
    with pytest.raises(ParameterError, match=r"^format\.scheme "):
        NumberFormat(scheme="odd")


def test_a_number_without_a_place_in_the_format_is_one_sentence():
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].bias.data[0] = 1e5
    with pytest.raises(UsageError, match=r"0\.bias holds 100000"):
        deploy(module, (2,), NumberFormat(name="float16"))
    module[0].weight.data[0, 0] = torch.nan
    form = NumberFormat(name="int8", activations="float32")
    with pytest.raises(UsageError, match=r"0\.weight holds nan"):
        deploy(module, (2,), form)


def test_a_bias_beside_next_to_no_weights_keeps_its_value():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    module[0].weight.data[1] *= 1e-10
    module[0].bias.data[1] = 0.7
    x = torch.randn(64, 4)
    made = deploy(module, (4,), NumberFormat(name="int8"), calibration=x)
    with torch.no_grad():
        expected = module(x)
    assert float((made.scores(x) - expected).abs().max()) < 0.05 * float(expected.abs().max())


class Repeated(nn.Module):
    """A layer that runs three times, on inputs of three ranges."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        nn.init.normal_(self.again.bias)
        with torch.no_grad():
            self.again.weight.mul_(4)

    def forward(self, x):
        x = self.first(x).relu()
        for _ in range(3):
            x = self.again(x).relu()
        return self.head(x)


class NormalizedTokens(nn.Module):
    """A linear layer over tokens, which a normalization of the tokens follows."""

    def __init__(self, tokens, features):
        super().__init__()
        self.one, self.norm = nn.Linear(6, features), nn.BatchNorm1d(tokens)
        self.head = nn.Linear(tokens * features, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.2, 4)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        return self.head(self.norm(self.one(x)).flatten(1))


class SharedBias(nn.Module):
    """Two layers with one bias, one of them before a normalization."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.two.bias = self.one.bias
        self.norm = nn.BatchNorm1d(6)
        nn.init.normal_(self.one.bias)
        self.norm.running_var.uniform_(0.2, 0.4)

    def forward(self, x):
        return self.head(self.two(self.norm(self.one(x)).relu()))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Repeated, (8,)),
        (lambda: NormalizedTokens(4, 4), (4, 6)),
        (lambda: NormalizedTokens(4, 5), (4, 6)),
        (SharedBias, (6,)),
    ],
    ids=["repeated", "tokens", "tokens of other width", "shared bias"],
)
def test_what_is_shared_or_normalized_elsewhere_stays_near_floating_point(build, shape):
    torch.manual_seed(0)
    module = build().eval()
    x = torch.randn(512, *shape)
    made = deploy(module, shape, NumberFormat(name="int8"), calibration=x)
    with torch.no_grad():
        exact = module(x)
    off = (made.scores(x) - exact).abs().max()
    assert float(off) < 0.05 * float(exact.abs().max())
    assert float((made.scores(x).argmax(1) == exact.argmax(1)).double().mean()) > 0.95


def test_a_layer_that_runs_again_has_biases_in_the_unit_of_each_use():
    torch.manual_seed(0)
    made = deploy(Repeated().eval(), (8,), "int8", calibration=torch.randn(64, 8))
    names = [n for n in made.memory.names if n.startswith("again.bias")]
    assert names == ["again.bias", "again.bias'", "again.bias''"]
    assert made.memory["again.bias'"].layer == "again'"


def test_a_bias_that_fits_one_use_only_is_one_sentence():
    module = Repeated()
    nn.init.constant_(module.again.bias, 1.0)
    with torch.no_grad():
        module.first.weight.mul_(1e6)
        module.again.weight.mul_(1e-12)
    with pytest.raises(UsageError, match="a bias of again' is too large for 32 bits in the unit"):
        deploy(module.eval(), (8,), "int8", calibration=torch.randn(64, 8))


def test_weights_that_stay_in_floating_point_are_told():
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(18, 2)).eval()
    made = deploy(module, (2, 8), "int8", calibration=torch.randn(16, 2, 8))
    note = next(n for n in made.notes if "float32" in n)
    floats, bits = (3 * 2 * 3) * 32, made.memory.bits
    assert note == (
        "0 have no integer form here and keep their weights in float32, "
        f"{100 * floats / bits:.3g} % of the bits of memory"
    )


def test_how_integers_are_cut_makes_no_other_floating_point():
    plain = NumberFormat(name="bfloat16")
    assert NumberFormat(name="bfloat16", scheme="affine", granularity="tensor") == plain
    assert NumberFormat(name="int8", granularity="tensor") != NumberFormat(name="int8")


@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_network_with_computed_weights_stays_as_it_was(norm):
    module = nn.Sequential(norm(nn.Linear(6, 5)), nn.ReLU(), norm(nn.Linear(5, 3))).eval()
    x = torch.randn(9, 6)
    with torch.no_grad():
        before = module(x)
        for _ in range(2):
            made = deploy(module, (6,))
            torch.testing.assert_close(made.scores(x), before)
            assert torch.equal(module(x), before)
    assert "0.weight" in made.memory.names
    assert "0.parametrizations.weight.original0" in dict(module.named_parameters()) or norm is (
        nn.utils.parametrizations.spectral_norm
    )


def test_torchscript_is_one_sentence():
    module = torch.jit.script(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(UsageError, match="Sequential is TorchScript, whose words cannot be told"):
        deploy(module, (3,))
