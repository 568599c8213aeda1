"""Fitted scikit-learn estimators: what they give, and in whose order of classes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.load import load_target, target_from
from casemate.target import Preprocessing

DOMAIN = Domain(shape=(1, 2, 3))
NAMES = ("stop", "go", "wait")
RNG = np.random.default_rng(0)
Y = np.arange(90) % 3
X = (RNG.normal(size=(90, 6)) * 0.1 + np.eye(3)[Y] @ RNG.random((3, 6))).astype(np.float32)
INPUTS = torch.from_numpy(X).view(90, 1, 2, 3)


def target_of(estimator, *, classes=NAMES, domain=DOMAIN, **more):
    return target_from(estimator, domain=domain, classes=classes, **more)


def test_probabilities_come_first():
    fitted = LogisticRegression().fit(X, Y)
    target = target_of(fitted)
    assert target.outputs == "probabilities"
    assert target.notes == ()
    np.testing.assert_allclose(target.scores(INPUTS), fitted.predict_proba(X), rtol=1e-5)


def test_decision_functions_are_logits():
    fitted = make_pipeline(StandardScaler(), RidgeClassifier()).fit(X, Y)
    target = target_of(fitted)
    assert target.outputs == "logits"
    np.testing.assert_allclose(target.scores(INPUTS), fitted.decision_function(X), rtol=1e-4)


def test_two_classes_have_one_decision_that_becomes_two_columns():
    fitted = RidgeClassifier().fit(X, (Y == 0).astype(int))
    target = target_of(fitted, classes=("no", "yes"))
    scores = target.scores(INPUTS)
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], fitted.decision_function(X), rtol=1e-4)
    assert target.labels(INPUTS).tolist() == fitted.predict(X).tolist()


def test_two_named_classes_are_put_in_order():
    named = np.array(["yes", "no"])[(Y == 0).astype(int)]
    fitted = RidgeClassifier().fit(X, named)  # its classes_ are (no, yes)
    target = target_of(fitted, classes=("yes", "no"))
    found = np.array(["yes", "no"])[target.labels(INPUTS)]
    assert found.tolist() == fitted.predict(X).tolist()


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: make_pipeline(StandardScaler(), e)])
def test_one_column_a_pair_of_classes_is_no_score_of_a_class(wrap):
    fitted = wrap(SVC(decision_function_shape="ovo")).fit(X, Y)
    assert fitted.decision_function(X).shape == (90, 3)  # three pairs look like three classes
    target = target_of(fitted)
    assert target.outputs == "labels"
    assert target.labels(INPUTS).tolist() == fitted.predict(X).tolist()


def test_a_search_is_its_best_estimator():
    search = GridSearchCV(SVC(decision_function_shape="ovo"), {"C": [0.1, 1]}, cv=2).fit(X, Y)
    assert target_of(search).outputs == "labels"


def test_labels_when_there_is_nothing_else_or_when_asked():
    fitted = LogisticRegression().fit(X, Y)
    target = target_of(fitted, outputs="labels")
    assert target.outputs == "labels"
    assert target.labels(INPUTS).tolist() == fitted.predict(X).tolist()
    with pytest.raises(
        UsageError, match="RidgeClassifier has no predict_proba; it offers outputs: logits"
    ):
        target_of(RidgeClassifier().fit(X, Y), outputs="probabilities")


@pytest.mark.parametrize("outputs", ["probabilities", "logits", "labels"])
def test_named_classes_are_put_into_the_order_of_the_data(outputs):
    fitted = LogisticRegression().fit(X, np.array(NAMES)[Y])  # classes_ are sorted: go, stop, wait
    target = target_of(fitted, outputs=outputs)
    assert target.labels(INPUTS).tolist() == [NAMES.index(n) for n in fitted.predict(X)]
    assert float((target.labels(INPUTS) == torch.from_numpy(Y)).float().mean()) > 0.9
    assert target.notes == (
        "the columns of LogisticRegression were put into the order of the classes",
    )


def test_labels_win_over_names_that_are_numbers():
    fitted = LogisticRegression().fit(X, Y)
    target = target_of(fitted, classes=("2", "0", "1"))
    assert target.labels(INPUTS).tolist() == fitted.predict(X).tolist()
    by_name = LogisticRegression().fit(X, np.array(["2", "0", "1"])[Y])
    target = target_of(by_name, classes=("2", "0", "1"))
    assert np.array(["2", "0", "1"])[target.labels(INPUTS)].tolist() == by_name.predict(X).tolist()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (Y % 2, r"2 classes \(0, 1\), but the data has 3 \(stop, go, wait\)"),
        (Y + 1, r"3 classes \(1, 2, 3\), but the data has 3"),
        (np.array(["stop", "go", "halt"])[Y], "go, halt, stop"),
    ],
)
def test_other_classes_are_refused(labels, says):
    with pytest.raises(UsageError, match=says):
        target_of(LogisticRegression().fit(X, labels))


def test_preprocessing_comes_before_flattening():
    fitted = LogisticRegression().fit(X * 16, Y)
    target = target_of(fitted)
    scaled = target_of(fitted, preprocessing=Preprocessing(std=(1 / 16,)))
    np.testing.assert_allclose(scaled.scores(INPUTS), fitted.predict_proba(X * 16), rtol=1e-4)
    assert not torch.allclose(target.scores(INPUTS), scaled.scores(INPUTS))


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        (LogisticRegression(), "LogisticRegression is not fitted; call its fit first"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "is not fitted"),
        (LinearRegression().fit(X, Y), "is a regressor; give a classifier"),
        (LogisticRegression().fit(X[:, :5], Y), r"fitted on 5 values an input, but .* have 6"),
    ],
)
def test_what_cannot_classify_is_refused(estimator, says):
    with pytest.raises(UsageError, match=says):
        target_of(estimator)


def test_clusters_are_labels_without_names():
    fitted = KMeans(3, n_init=1, random_state=0).fit(X)
    target = target_of(fitted)
    assert target.labels(INPUTS).tolist() == fitted.predict(X).tolist()


def test_names_of_columns_are_not_missed_at_each_call():
    fitted = DecisionTreeClassifier(random_state=0).fit(X, Y)
    fitted.feature_names_in_ = np.array(list("abcdef"), dtype=object)  # as if fitted on a frame
    assert target_of(fitted).labels(INPUTS).tolist() == Y.tolist()


def test_a_class_is_no_estimator():
    with pytest.raises(UsageError, match="an instance, not the class"):
        target_of(LogisticRegression)


class TestFromSpec:
    SOURCE = """
import numpy as np
from sklearn.linear_model import LogisticRegression
x = np.eye(6, dtype=np.float32)[:3].repeat(5, 0)
FITTED = LogisticRegression().fit(x, np.arange(3).repeat(5))
UNFITTED = LogisticRegression()
def make(c=1.0):
    return LogisticRegression(C=c).fit(x, np.arange(3).repeat(5))
def wrong():
    return 3
def fails():
    raise OSError("no such file")
NUMBER = 3
"""

    @pytest.fixture
    def load(self, tmp_path):
        (tmp_path / "est_models.py").write_text(self.SOURCE)

        def load(**spec):
            return load_target(spec, domain=DOMAIN, classes=NAMES, base_dir=tmp_path)

        yield load
        sys.modules.pop("est_models", None)

    def test_an_object_and_a_function_that_returns_one(self, load):
        one = load(sklearn="est_models:FITTED")
        made = load(sklearn="est_models:make")
        assert one.digest == made.digest
        x = torch.eye(6)[:3].view(3, 1, 2, 3)
        assert one.labels(x).tolist() == made.labels(x).tolist() == [0, 1, 2]
        other = load(sklearn="est_models:make", arguments={"c": 10.0})
        assert other.digest != made.digest
        assert other.scores(x)[0, 0] > made.scores(x)[0, 0]

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("UNFITTED", "not fitted"),
            ("wrong", "returned a value of type int, which has no predict"),
            ("fails", "raised OSError: no such file"),
            ("NUMBER", "is of type int; name a fitted estimator"),
            ("FITED", 'Did you mean "FITTED"'),
        ],
    )
    def test_each_failure_is_one_sentence(self, load, name, says):
        with pytest.raises(UsageError, match=says) as caught:
            load(sklearn=f"est_models:{name}")
        assert str(caught.value).startswith("model.sklearn")
