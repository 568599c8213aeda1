from __future__ import annotations

import pytest

from casemate.campaign.document import load_document, merge, parse_document, show_path
from casemate.errors import UsageError


def test_every_value_knows_its_line():
    text = "a: 1\nb:\n  - c: 2\n  - d:\n      e: 3\n"
    document = parse_document(text, "f.yaml")
    assert document.place(("b", 1, "d", "e")) == "f.yaml, line 5, b[1].d.e"
    assert document.place(("b", 0, "c")) == "f.yaml, line 3, b[0].c"
    # a key that is not there is placed at the nearest one above it
    assert document.place(("b", 1, "d", "x")) == "f.yaml, line 4, b[1].d.x"


def test_merges_that_multiply_end_in_a_sentence_and_not_in_minutes():
    lines = ["x0: &l0 {a: 1}"]
    lines += [f"x{i}: &l{i} {{<<: [*l{i - 1}, *l{i - 1}]}}" for i in range(1, 60)]
    with pytest.raises(UsageError, match="too many or too deeply nested values"):
        parse_document("\n".join(lines), "f.yaml")


def test_a_tab_is_called_a_tab():
    with pytest.raises(UsageError, match=r"line 2 is not valid YAML.*not with a tab"):
        parse_document("a:\n\tb: 1", "f.yaml")


def test_a_path_reads_as_people_write_it():
    assert show_path(("trials", 0, "attack", "epsilon", 1)) == "trials[0].attack.epsilon[1]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("- 1", "must be a mapping"),
        ("a: [1", "is not valid YAML"),
        ("a: 1\na: 2", "line 2: a is given twice"),
        ("a: {b: 1, b: 2}", "a.b is given twice"),
        (
            "a: !!python/object/apply:os.system ['true']",
            "line 1: a is read as .*os.system; put text in quotes",
        ),
        ("a: &x [*x]", "refers to itself"),
        ("? [1, 2]\n: 3", "key must be plain text"),
        ("a: 2020-13-45", "line 1: a is read as timestamp; put text in quotes"),
        ("a:\n  b: 2020-01-01", "line 2: a.b is read as timestamp"),
        ("a: !!binary aGk=", "a is read as binary"),
        ("a: !!set {x, y}", "a is read as set"),
        ("a: {2020-01-01: 1}", "a key must be plain text"),
        ("a: &x {b: 1}\nc: {<<: *x, <<: *x}", "line 2: c.<< is given twice"),
    ],
)
def test_what_is_no_plain_mapping_is_one_sentence(text, message):
    with pytest.raises(UsageError, match=message.replace("[", r"\[")) as caught:
        parse_document(text, "f.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("f.yaml")


def test_anchors_that_multiply_are_refused_before_they_fill_the_memory():
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(UsageError, match="too many"):
        parse_document("l0: &l0 [x]\n" + "\n".join(levels), "f.yaml")


def test_deep_nesting_is_refused():
    with pytest.raises(UsageError, match=r"nested"):
        parse_document("a: " + "[" * 5000 + "]" * 5000, "f.yaml")


def test_anchors_and_merge_keys_that_are_honest_work():
    document = parse_document("a: &x {n: 1}\nb: {<<: *x, m: 2}\n", "f.yaml")
    assert document.data["b"] == {"n": 1, "m": 2}


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(UsageError, match="casemate init"):
        load_document(tmp_path / "no.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_document(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        load_document(tmp_path / "latin.yaml")


def test_sizes_merge_mappings_and_replace_lists():
    text = "a: {b: 1, c: [1, 2]}\nsizes:\n  s:\n    a:\n      c: [3]\n      d: 4\n"
    document = parse_document(text, "f.yaml").with_size("s")
    assert document.data["a"] == {"b": 1, "c": [3], "d": 4}
    # a value that the size brought is placed where it was written
    assert document.place(("a", "c", 0)) == "f.yaml, line 5, sizes.s.a.c[0]"
    assert document.place(("a", "b")) == "f.yaml, line 1, a.b"


def test_an_unknown_size_names_the_nearest():
    document = parse_document("sizes: {quick: {}, full: {}}", "f.yaml")
    with pytest.raises(UsageError, match='Did you mean "quick"'):
        document.with_size("quik")
    with pytest.raises(UsageError, match="defines no sizes"):
        parse_document("a: 1", "f.yaml").with_size("quick")


def test_merging_tells_where_the_lower_values_stand():
    origins = {}
    merged = merge({"x": 1, "y": 2}, {"y": 3}, origins=origins, at=("t",), base_at=("d",))
    assert merged == {"x": 1, "y": 3}
    assert origins == {("t", "x"): ("d", "x")}
