from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import StoreError, UsageError
from casemate.models.lenet import LeNet
from casemate.models.mlp import MLP
from casemate.models.resnet import ResNet
from casemate.models.vgg import VGG
from casemate.training import modelfile
from casemate.training.adversarial import Adversarial
from casemate.training.augmentation import Augmentation
from casemate.training.loop import train
from casemate.training.recipe import Recipe
from casemate.training.trained import TrainedModel

RECIPE = Recipe(
    epochs=1,
    batch_size=8,
    augmentation=Augmentation(shift=1),
    adversarial=Adversarial(epsilon=0.1, step_size=0.1, steps=1),
)
ARCHITECTURES = [LeNet(), VGG(layers=(4, "M", 8, "M")), ResNet(width=4, blocks=1), MLP(hidden=(9,))]


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    return Dataset(
        name="stub/train",
        inputs=torch.randint(0, 256, (24, 2, 9, 8), dtype=torch.uint8, generator=g),
        labels=torch.arange(24) % 3,
        classes=("<b>stop</b>", "ü", "3"),
        domain=Domain(shape=(2, 9, 8), low=-1.0, high=1.0, step=2 / 255),
        digest="stub",
    )


@pytest.fixture(scope="module")
def model(data):
    return train(ARCHITECTURES[1], RECIPE, data, seed=2)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: type(a).__name__)
def test_what_is_loaded_is_what_was_saved(architecture, data, tmp_path):
    model = train(architecture, RECIPE, data, seed=2)
    model.save(tmp_path / "model.safetensors")
    back = TrainedModel.load(tmp_path / "model.safetensors")
    for name in ("architecture", "preprocessing", "domain", "classes", "recipe", "seed"):
        assert getattr(back, name) == getattr(model, name)
    for name in ("precision", "history", "seconds", "digest"):
        assert getattr(back, name) == getattr(model, name)
    x = data.batch(slice(None))
    scores = model.target().scores(x)
    assert torch.equal(back.target().scores(x), scores)
    assert scores.std() > 0
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_target_is_ready_to_be_attacked(model, data):
    target = model.target()
    (module,) = target.modules
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    assert (target.domain, target.classes, target.digest) == (
        data.domain,
        data.classes,
        model.digest,
    )
    # another target of the same model is another network
    assert model.target().modules[0] is not module


def test_the_target_takes_inputs_in_the_domain(model, data):
    """Normalization stands in front of the network, in the domain's units."""
    x = data.batch(slice(0, 4))
    mean = torch.tensor(model.preprocessing.mean).view(1, 2, 1, 1)
    std = torch.tensor(model.preprocessing.std).view(1, 2, 1, 1)
    expected = model.module()((x - mean) / std)
    torch.testing.assert_close(model.target().scores(x), expected)


def test_weights_cannot_be_replaced(model):
    with pytest.raises(TypeError):
        model.weights["out.weight"] = torch.zeros(1)


def test_the_file_is_plain_safetensors_with_a_json_header(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(model.weights)
        header = json.loads(file.metadata()["casemate.model"])
    assert header["architecture"]["name"] == "vgg"
    assert header["classes"][0] == "<b>stop</b>"


def test_every_cut_and_every_flipped_byte_is_noticed(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"m\.safetensors") as caught:
            TrainedModel.load(path)
        assert "\n" not in str(caught.value)
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"m\.safetensors"):
            TrainedModel.load(path)


def test_other_files_are_refused_by_what_they_are(model, tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.safetensors does not exist"):
        TrainedModel.load(tmp_path / "nothing.safetensors")
    with pytest.raises(UsageError, match="does not exist"):
        TrainedModel.load(tmp_path)
    save_file({"w": torch.zeros(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(UsageError, match=r"bare\.safetensors holds weights only"):
        TrainedModel.load(tmp_path / "bare.safetensors")
    torch.save({"w": torch.zeros(2)}, tmp_path / "torch.pt")
    with pytest.raises(UsageError, match=r"torch\.pt is no complete safetensors file"):
        TrainedModel.load(tmp_path / "torch.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99, but this version of Casemate reads 1"),
        (
            {"architecture": {"name": "vgg", "settings": {"layers": [5, "M"]}}},
            "do not fit the arch",
        ),
        ({"architecture": {"name": "vgg", "settings": {"layers": [8192] * 60}}}, "do not fit"),
        ({"architecture": {"name": "os", "settings": {}}}, 'no model named "os"'),
        ({"architecture": {"name": "vgg", "settings": {"evil": 1}}}, "evil"),
        ({"architecture": 3}, "does not describe a model"),
        ({"recipe": {"epochs": -1}}, r"recipe\.epochs"),
        ({"domain": {"shape": []}}, "positive sizes"),
        ({"preprocessing": {"std": [0.0]}}, "std must be positive"),
        ({"history": 3}, "does not describe a model"),
        ({"seed": None}, "does not describe a model"),
    ],
)
def test_a_header_that_lies_is_refused(model, tmp_path, changes, message):
    path = tmp_path / "m.safetensors"
    model.save(path)
    tensors, header = modelfile.read(path)
    modelfile.write(path, tensors, header | changes)
    with pytest.raises(UsageError, match=message) as caught:
        TrainedModel.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_written_says_so_and_leaves_nothing(model, tmp_path):
    with pytest.raises(StoreError, match=r"m\.safetensors cannot be written \(No such file"):
        model.save(tmp_path / "missing" / "m.safetensors")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        model.save(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
