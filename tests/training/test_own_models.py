"""Models of the user's own network: in files that import nothing, and made by worker processes."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from own_nets import forget, write_nets

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models import own as owning
from casemate.models.own import declare
from casemate.training import modelfile
from casemate.training.committee import Committee
from casemate.training.ensemble import Job, train_many
from casemate.training.loop import train
from casemate.training.recipe import Recipe
from casemate.training.stored import load_model
from casemate.training.trained import training_key

RECIPE = Recipe(epochs=2, batch_size=8, precision="float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(owning, "_DECLARED", {})
    write_nets(tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    return Dataset.from_arrays(
        name="stub/train",
        inputs=torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=g).numpy(),
        labels=(torch.arange(32) % 10).numpy(),
        classes=tuple("abcdefghij"),
        domain=Domain(shape=(1, 8, 8), step=1 / 255),
    )


def own(folder, **arguments):
    return declare(
        "own_net:make",
        arguments=arguments,
        domain=Domain(shape=(1, 8, 8)),
        classes=10,
        folder=folder,
    )


def test_the_key_changes_with_arguments_and_code(folder, data):
    def named(**arguments):
        forget()
        return training_key(own(folder, **arguments), RECIPE, data, seed=0)

    known = named()
    assert named() == known
    assert named(width=5) != known
    path = folder / "own_net.py"
    path.write_text(path.read_text().replace(".relu(), 2)", ".tanh(), 2)"))
    assert named() != known


def test_a_model_comes_back_from_its_file_where_its_factory_is_declared(
    folder, data, tmp_path, monkeypatch
):
    model = train(own(folder), RECIPE, data)
    path = tmp_path / "model.safetensors"
    model.save(path)
    back = load_model(path)
    assert back.architecture == model.architecture
    x = data.batch(slice(None))
    assert torch.equal(back.target().scores(x), model.target().scores(x))
    Committee(members=(model,), digest="one").save(path.with_name("committee"))
    monkeypatch.setattr(owning, "_DECLARED", {})
    for name in ("model.safetensors", "committee"):
        with pytest.raises(
            UsageError, match=r'holds a model of the factory "own_net:make", .*declare the factory'
        ):
            load_model(path.with_name(name))


@pytest.mark.parametrize("committee", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"factory": "os:system", "arguments": {"command": "touch ran"}, "source": "0" * 32},
        {"factory": "own_evil:make", "arguments": {}, "source": "0" * 32},
        {"factory": "own_evil:make", "arguments": {}},
        {"factory": ["own_evil:make"], "arguments": "x", "source": None},
    ],
)
def test_a_crafted_file_imports_and_runs_nothing(
    folder, data, settings, committee, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_evil.py").write_text("open('ran', 'w').close()\ndef make(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_evil", raising=False)
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    model = train(own(folder), RECIPE, data)
    header = {**model.header(), "architecture": {"name": "OwnArchitecture", "settings": settings}}
    weights = dict(model.weights)
    if committee:
        weights = {f"0.{k}": v for k, v in weights.items()}
        header = {"committee format": 1, "digest": "x", "members": [header]}
    path = tmp_path / "crafted"
    modelfile.write(path, weights, header)
    before = set(sys.modules)
    with pytest.raises(UsageError):
        load_model(path)
    assert set(sys.modules) == before
    assert not ran
    assert not (tmp_path / "ran").exists()


def test_worker_processes_make_the_same_models(folder, data):
    architecture = own(folder, width=3)
    jobs = [Job(architecture=architecture, recipe=RECIPE, data=data, seed=s) for s in range(3)]
    assert jobs[0].words == "training own_net:make on stub/train"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shared = train_many(jobs, workers=2)
        alone = train_many(jobs, workers=1)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(shared, alone, strict=True):
        assert a.digest == b.digest
        assert all(torch.equal(a.weights[k], b.weights[k]) for k in b.weights)


def test_code_that_changes_meanwhile_is_refused_by_workers(folder, data):
    architecture = own(folder)
    path = folder / "own_net.py"
    path.write_text(path.read_text().replace(".relu(), 2)", ".tanh(), 2)"))
    jobs = [Job(architecture=architecture, recipe=RECIPE, data=data, seed=s) for s in range(2)]
    with pytest.raises(UsageError, match="another network in a worker process"):
        train_many(jobs, workers=2)
