"""Weights from files: safe by default, nested checkpoints understood, mismatches listed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from casemate.errors import UsageError
from casemate.models.weights import fit_weights, read_weights


class Recorder:
    """Writes a file when unpickled, as a hostile pickle would."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def fit(module, weights):
    return fit_weights(module, weights, file="w.pt", builder='"m:make"')


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "weights"])
def test_weights_come_back_as_saved(tmp_path, name):
    given = net().state_dict()
    path = tmp_path / name
    save_file(given, path) if name.endswith(".safetensors") else torch.save(given, path)
    weights, notes = read_weights(path)
    assert notes == ()
    module = net(1)
    assert not same(module.state_dict(), given)
    assert fit(module, weights) == ()
    assert same(module.state_dict(), given)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_a_checkpoint_is_unwrapped_and_that_is_said(tmp_path, key):
    given = net().state_dict()
    torch.save({"epoch": 3, key: given, "loss": torch.tensor(0.5)}, tmp_path / "w.pt")
    weights, notes = read_weights(tmp_path / "w.pt")
    assert same(weights, given)
    assert notes == (f'the weights are the entry "{key}" of w.pt',)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_are_taken_off_and_that_is_said(prefix):
    given = net().state_dict()
    module = net(1)
    notes = fit(module, {prefix + k: v for k, v in given.items()})
    assert same(module.state_dict(), given)
    assert all("was taken off" in n for n in notes)
    assert len(notes) == prefix.count(".")


def test_a_prefix_that_is_the_models_own_stays():
    module = nn.ModuleDict({"module": nn.Linear(2, 2)})
    assert (
        fit(
            module,
            {f"module.{k}": torch.ones_like(v) for k, v in module["module"].state_dict().items()},
        )
        == ()
    )
    assert torch.equal(module["module"].weight, torch.ones(2, 2))


def test_missing_and_unexpected_tensors_are_listed_briefly():
    weights = net().state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "2.bias"):
        del weights[name]
    weights["head.weight"] = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        fit(net(), weights)
    message = str(caught.value)
    assert "missing 0.weight, 0.bias, 1.weight and 2 more; unexpected head.weight" in message
    assert 'w.pt does not fit the model that "m:make" builds' in message
    assert "\n" not in message


def test_other_shapes_and_kinds_are_listed():
    weights = net().state_dict()
    weights["0.weight"] = torch.zeros(3, 5)
    weights["2.weight"] = torch.zeros(2, 3, dtype=torch.int8)
    with pytest.raises(
        UsageError, match=r"0.weight is \(3, 5\) float32 but the model has \(3, 4\)"
    ) as e:
        fit(net(), weights)
    assert "2.weight is (2, 3) int8 but the model has (2, 3) float32" in str(e.value)
    module = net(1)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(UsageError):
        fit(module, weights)
    assert same(module.state_dict(), before)


def test_conversions_are_said():
    module = net(1)
    notes = fit(
        module,
        {k: v.double() if v.is_floating_point() else v for k, v in net().state_dict().items()},
    )
    assert notes == ("weights in float64 were converted to the model's float32",)
    assert same(module.state_dict(), net().state_dict())


def test_tied_tensors_need_not_be_twice_in_the_file(tmp_path):
    def tied():
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        module[1].weight = module[0].weight
        return module

    given = tied()
    save_model(given, str(tmp_path / "w.safetensors"))
    weights, _ = read_weights(tmp_path / "w.safetensors")
    assert len(weights) == 3
    module = tied()
    fit(module, weights)
    assert same(module.state_dict(), given.state_dict())


def test_old_checkpoints_without_batch_counters_fit():
    weights = {k: v for k, v in net().state_dict().items() if "num_batches" not in k}
    assert fit(net(1), dict(weights)) == ()


def test_lazy_layers_take_their_shape_from_the_file():
    module = nn.Sequential(nn.LazyLinear(3))
    fit(module, nn.Sequential(nn.Linear(4, 3)).state_dict())
    assert module[0].weight.shape == (3, 4)


def test_a_pickle_is_refused_and_runs_nothing(tmp_path):
    trace = tmp_path / "was-run"
    for i, write in enumerate((torch.save, lambda v, p: p.write_bytes(pickle.dumps(v, 2)))):
        path = tmp_path / f"evil{i}.pt"
        write({"w": Recorder(trace)}, path)
        with pytest.raises(UsageError) as caught:
            read_weights(path)
        message = str(caught.value)
        assert "would run code of its author's choice" in message
        assert "trust_pickle: true" in message
        assert "\n" not in message
        assert not trace.exists()


def test_a_refused_pickle_says_what_it_names(tmp_path):
    torch.save(net(), tmp_path / "whole.pt")
    with pytest.raises(UsageError, match=r"it names torch\.nn\.modules\.container\.Sequential"):
        read_weights(tmp_path / "whole.pt")


def test_a_trusted_pickle_of_a_whole_module_gives_its_weights(tmp_path):
    torch.save(net(), tmp_path / "whole.pt")
    weights, notes = read_weights(tmp_path / "whole.pt", trust_pickle=True)
    assert same(weights, net().state_dict())
    assert notes == ("whole.pt holds a whole Sequential; its weights are used",)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("w.safetensors", b"not safe tensors at all", "no intact safetensors file"),
        ("w.pt", b"", "cannot be read as a torch file"),
        ("w.pt", b"hello world", "cannot be read as a torch file"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_files_are_refused(tmp_path, name):
    path = tmp_path / name
    given = {"w": torch.zeros(1000)}
    save_file(given, path) if name.endswith(".safetensors") else torch.save(given, path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UsageError, match=name):
        read_weights(path)


def test_a_file_that_is_not_there_is_named_with_a_guess(tmp_path):
    (tmp_path / "weights.pt").touch()
    with pytest.raises(UsageError, match=r'weight\.pt is no file\. Did you mean "weights\.pt"'):
        read_weights(tmp_path / "weight.pt")
    with pytest.raises(UsageError, match="is no file"):
        read_weights(tmp_path / "nowhere" / "weights.pt")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.zeros(3), "holds a Tensor and no state dict"),
        ([1, 2], "holds a list"),
        ({"epoch": 3, "lr": 0.1}, "holds epoch, lr but no tensors"),
    ],
)
def test_files_without_weights_are_refused(tmp_path, value, says):
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=says):
        read_weights(tmp_path / "w.pt")


def test_torchscript_is_told_apart(tmp_path):
    class Plain(nn.Module):
        def forward(self, x):
            return x

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.trace(Plain(), torch.zeros(1)).save(str(tmp_path / "w.pt"))
    with pytest.raises(UsageError, match="TorchScript program"):
        read_weights(tmp_path / "w.pt")


def test_numbers_survive_bit_for_bit(tmp_path):
    value = torch.tensor([np.pi, -0.0, 1e-45, np.inf], dtype=torch.float32)
    torch.save({"w": value}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")[0]["w"].numpy().tobytes() == value.numpy().tobytes()
