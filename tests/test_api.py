"""The Python surface does what the README shows, on a model whose optimum is known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import casemate as cm
from casemate.errors import AccessDeniedError, UsageError


@pytest.fixture(scope="module")
def data():
    return cm.load_data("digits")


@pytest.fixture(scope="module")
def network():
    """A linear model in closed form: ridge regression of one-hot labels on pixels."""
    train = cm.load_data("digits", split="train")
    x = train.batch(slice(None)).flatten(1).double()
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    y = nn.functional.one_hot(train.targets, 10).double()
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]).double(), x.T @ y).float()
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(weights[:-1].T)
        linear.bias.copy_(weights[-1])
    return nn.Sequential(nn.Flatten(), linear)


def test_import_is_light():
    code = (
        "import sys, casemate; "
        "assert not {'torch', 'scipy', 'matplotlib'} & sys.modules.keys(); casemate.PGD; "
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_is_there_and_documented():
    for name in cm.__all__:
        assert getattr(cm, name).__doc__, name
    assert set(cm.__all__) <= set(dir(cm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cm.nothing


def test_the_readme_in_ten_lines(data, network, tmp_path):
    model = cm.load_model(network, data)
    attacks = [cm.FGSM(epsilon=0.1), cm.PGD(epsilon=0.1), cm.LBFGS(searches=4, iterations=20)]
    result = cm.attack(model, data, attacks, samples=60)
    fgsm, pgd, lbfgs = result.evidence
    assert str(result).count("attack success rate") == 3
    assert result["fgsm", "attack success rate"] == fgsm["attack success rate"]
    assert result[2, "ssim"] == lbfgs["ssim"]
    for which, words in {
        "attack success rate": "several attacks were run; say which",
        ("bim", "ssim"): "0 of the attacks are 'bim'",
        ("pgd", "simm"): 'Did you mean "ssim"',
    }.items():
        with pytest.raises(UsageError, match=words):
            _ = result[which]
    # FGSM follows the cross-entropy; on a linear model PGD can only improve on it
    assert 0.1 < fgsm["attack success rate"].value <= pgd["attack success rate"].value
    assert lbfgs["attack success rate"].value > 0.95
    assert fgsm["attack success rate"].n == int(fgsm.samples["eligible"].sum()) > 40
    picture = result.picture(tmp_path / "examples.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    report = result.report(tmp_path / "report.html", name="my model").read_text()
    assert "my model" in report
    assert report.lower().startswith("<!doctype html>")
    assert f"torch {torch.__version__}" in report


def test_goal_and_source_by_name(data, network):
    model = cm.load_model(network, data)
    result = cm.attack(
        model, data, [cm.PGD(epsilon=0.3)], samples=20, source="1", goal="7", early_stop=False
    )
    rows = result.evidence[0].samples
    assert (rows["label"] == 1).all()
    assert (rows["goal"] == 7).all()
    assert (rows["attacked_label"][rows["success"]] == 7).all()
    assert rows["success"].any()


def test_a_defense_stands_in_front(data, network):
    model = cm.load_model(network, data)
    shared = {"samples": 40, "defense": cm.RadiusAverage(radius=1)}
    bare = cm.attack(model, data, [cm.PGD(epsilon=0.1)], samples=40)
    aware = cm.attack(model, data, [cm.PGD(epsilon=0.1)], **shared)
    assert aware["clean accuracy"].value < bare["clean accuracy"].value
    assert aware.trials[0].settings["defense"] == {"name": "radius-average", "radius": 1}
    with pytest.raises(UsageError, match="beside"):
        cm.attack(model, data, [cm.PGD(epsilon=0.1)], attacker="beside", **shared)


def test_a_black_box_has_no_gradients(data, network):
    def predict(x):
        with torch.no_grad():
            return network(torch.from_numpy(x)).softmax(1).numpy()

    model = cm.load_model(predict, data)
    noise = cm.attack(model, data, [cm.UniformNoise(epsilon=0.1)], samples=30)
    assert noise.evidence[0].spent["attack backward"] == 0
    with pytest.raises(AccessDeniedError, match="gradients"):
        cm.attack(model, data, [cm.FGSM()], samples=30)


def test_mistakes_end_in_a_sentence(data, network):
    with pytest.raises(UsageError, match='Did you mean "digits"'):
        cm.load_data("digit")
    with pytest.raises(UsageError, match="folderr"):
        cm.load_data("digits", folderr=3)
    model = cm.load_model(network, data)
    with pytest.raises(UsageError, match=r"epsilon is 1\.5"):
        cm.attack(model, data, [cm.FGSM(epsilon=1.5)])
    with pytest.raises(UsageError, match="class"):
        cm.attack(model, data, [cm.FGSM()], goal="eleven")


def test_features_have_no_picture(tmp_path):
    domain = cm.Domain(shape=(4,))
    x = torch.from_numpy(np.random.default_rng(0).random((40, 4), dtype=np.float32))
    data = cm.Dataset(
        name="features",
        inputs=x,
        labels=(x[:, 0] > 0.5).long(),
        classes=("no", "yes"),
        domain=domain,
        digest="features",
    )
    linear = nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0, 0, 0, 0], [1, 0, 0, 0]]))
        linear.bias.copy_(torch.tensor([0.5, -0.5]))
    result = cm.attack(cm.load_model(linear, data), data, [cm.FGSM(epsilon=0.2)])
    # exactly the samples within epsilon of the boundary flip
    near = ((x[:, 0] - 0.5).abs() < 0.2).numpy()
    assert (result.evidence[0].samples["success"] == near).all()
    with pytest.raises(UsageError, match="no picture"):
        result.picture(tmp_path / "no.png")


def test_data_by_its_path(tmp_path):
    x = np.random.default_rng(0).random((20, 3), dtype=np.float32)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(20) % 2)
    data = cm.load_data(str(tmp_path / "mine.npz"), test_fraction=0.5)
    assert len(data) == 10
    assert repr(data) == "<Dataset mine/test: 10 inputs of shape (3,) in [0, 1], 2 classes>"
    with pytest.raises(UsageError, match=r"nowhere\.npz"):
        cm.load_data(str(tmp_path / "nowhere.npz"))
    with pytest.raises(UsageError, match="its parameters are path, layout, low"):
        cm.load_data("npz")
    with pytest.raises(UsageError, match='no data named "imagnet"'):
        cm.load_data("imagnet")


def test_preprocessing_as_in_a_campaign(data, network):
    plain = cm.load_model(network, data)
    moved = cm.load_model(network, data, preprocessing={"mean": 0.0, "std": 2.0})
    x = data.batch(slice(0, 3))
    torch.testing.assert_close(moved.scores(x), plain.scores(x / 2))
    with pytest.raises(UsageError, match=r'there is no "meen"\. Did you mean "mean"'):
        cm.load_model(network, data, preprocessing={"meen": 0.0})
    with pytest.raises(UsageError, match="std must be positive"):
        cm.load_model(network, data, preprocessing={"std": 0.0})
    with pytest.raises(UsageError, match='takes no "weights"'):
        cm.load_model(network, data, weights="w.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": object()}, "the model is of type object; hand over casemate.load_model"),
        ({"data": [1]}, "the data is of type list"),
        ({"attacks": []}, "there is no attack"),
        ({"attacks": [cm.PGD]}, "is no attack; give attacks with their parameters"),
        ({"attacks": cm.PGD(epsilon=8)}, "for 8 gray levels write 8/255"),
    ],
)
def test_calls_that_make_no_sense_end_in_a_sentence(data, network, change, words):
    call = {"model": cm.load_model(network, data), "data": data, "attacks": cm.FGSM()} | change
    with pytest.raises(UsageError, match=words):
        cm.attack(call["model"], call["data"], call["attacks"], samples=10)
