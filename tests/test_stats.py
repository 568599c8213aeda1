from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm, ttest_1samp

from casemate.stats import (
    Z95,
    Measurement,
    area_under_curve,
    difference,
    false_discovery,
    holm,
    largest_difference,
    mcnemar,
    mean,
    newcombe,
    quantile,
    rate,
    student,
    tango,
    wilson,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
        # Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_wilson_equals_scipy(pair):
    successes, n = pair
    theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("n", [10, 25, 100, 400])
def test_wilson_covers_by_enumeration(n):
    """The mean coverage over all rates is 95 %, from the exact distribution of the count."""
    intervals = [wilson(k, n) for k in range(n + 1)]
    rates = [(i + 0.5) / 500 for i in range(500)]
    covered = [
        math.fsum(binom.pmf(k, n, p) for k, (a, b) in enumerate(intervals) if a <= p <= b)
        for p in rates
    ]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.006)
    assert min(covered) > 0.83  # the dips near 0 and 1 that the interval is known for


@given(counts)
def test_wilson_holds_its_estimate_and_is_symmetric(pair):
    successes, n = pair
    low, high = wilson(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_rate_of_nothing_is_not_zero():
    nothing = rate("success", 0, 0)
    assert (nothing.value, nothing.low, nothing.high, nothing.n) == (None, None, None, 0)
    assert str(nothing) == "success: not measured (n = 0)"


def test_rate_prints_with_interval():
    assert str(rate("success", 15, 148)) == "success: 10.1 % [6.2, 16.0] (n = 148)"


def test_mean_is_students_interval():
    # t(0.975, 4) = 2.776445, s = sqrt(2.5), half = t s / sqrt(5)
    m = mean("distance", [1.0, 2.0, 3.0, 4.0, 5.0], "px")
    assert (m.value, m.n, m.method) == (3.0, 5, "t")
    assert (m.low, m.high) == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-6)
    assert str(m) == "distance: 3 px [1.037, 4.963] (n = 5)"


def test_mean_of_one_has_no_interval_and_says_so():
    m = mean("distance", [2.5], "px")
    assert (m.value, m.low, m.high) == (2.5, None, None)
    assert str(m) == "distance: 2.5 px (n = 1, too few for an interval)"
    assert mean("distance", [], "px").value is None


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [
        # ranks of the 95 % interval of a median, from tables: 1 and n up to n = 8, 2 and 8 of 9
        (6, 1, 6),
        (8, 1, 8),
        (9, 2, 8),
        (20, 6, 15),
        (50, 18, 33),
        (100, 40, 61),
    ],
)
def test_median_interval_has_tabled_ranks(n, low, high):
    m = quantile("rank", [float(v) for v in range(1, n + 1)], 0.5, "")
    assert (m.low, m.high) == (low, high)
    assert m.value == (n + 1) / 2


@pytest.mark.parametrize("n", range(1, 6))
def test_median_of_up_to_five_has_no_interval(n):
    m = quantile("rank", [float(v) for v in range(n)], 0.5, "")
    assert (m.value, m.low, m.high) == ((n - 1) / 2, None, None)


@pytest.mark.parametrize("q", [0.05, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [6, 10, 30, 59, 300, 1000])
def test_quantile_interval_keeps_its_promise(n, q):
    """Exact coverage from the binomial count of values below the quantile."""
    m = quantile("rank", [float(v) for v in range(n)], q, "")
    whole = 1 - q**n - (1 - q) ** n
    if m.low is None:
        assert m.high is None
        assert whole < 0.95
        return
    below = range(int(m.low) + 1, int(m.high) + 1)
    coverage = math.fsum(binom.pmf(k, n, q) for k in below)
    assert coverage >= 0.95 - 1e-12
    assert m.low <= m.value <= m.high


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_quantile_interpolates_like_numpy_in_any_order(values, q):
    import numpy as np

    m = quantile("x", values, q, "")
    assert m.value == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)
    assert quantile("x", values[::-1], q, "") == m


def test_quantile_of_mostly_infinite_values():
    m = quantile("budget", [0.1, 0.2, *[math.inf] * 10], 0.5, "px")
    assert m.value == math.inf
    assert m.high == math.inf
    assert quantile("budget", [1.0, 2.0, math.inf], 0.5, "px").value == 2.0


def test_quantile_refuses_what_it_cannot_mean():
    assert quantile("x", [], 0.5, "").value is None
    with pytest.raises(ValueError, match="0 < q < 1"):
        quantile("x", [1.0], 1.0, "")
    with pytest.raises(ValueError, match="not numbers"):
        quantile("x", [1.0, math.nan], 0.5, "")


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 2 / 2**6),
        (1, 9, 2 * (1 + 10) / 2**10),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
    ],
)
def test_mcnemar_counts_the_discordant_pairs(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p, rel=1e-12)
    assert mcnemar(second, first) == pytest.approx(p, rel=1e-12)


def test_holm_adjusts_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_equals_closed_testing_with_bonferroni(p_values):
    """A hypothesis falls when every intersection that it is part of falls (Marcus et al., 1976)."""
    n = len(p_values)
    for i, adjusted in enumerate(holm(p_values)):
        sets = (
            members
            for size in range(1, n + 1)
            for members in itertools.combinations(range(n), size)
            if i in members
        )
        worst = max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets)
        assert adjusted == pytest.approx(worst, abs=1e-12)


def test_a_measurement_cannot_be_changed():
    m = Measurement(name="x", value=1.0, n=1, low=None, high=None)
    with pytest.raises(AttributeError):
        m.value = 0.0


def test_tango_gives_a_published_interval():
    # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial
    # proportions", Statistics in Medicine 2014: 1 and 7 of 21 children
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(st.integers(1, 3000))
def test_tango_is_sure_of_nothing_where_all_pairs_agree(n):
    reach = Z95**2 / (n + Z95**2)
    assert tango(0, 0, n) == pytest.approx((-reach, reach))


@given(counts.flatmap(lambda c: st.tuples(st.integers(0, c[0]), st.just(c[0]), st.just(c[1]))))
def test_tango_holds_the_value_and_is_symmetric_and_orders_losses(some):
    lost, most, n = some
    gained = most - lost
    low, high = tango(lost, gained, n)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    assert tango(gained, lost, n) == pytest.approx((-high, -low))
    if lost + gained < n:
        more = tango(lost + 1, gained, n)
        assert more[0] >= low - 1e-12
        assert more[1] >= high - 1e-12


def test_tango_solves_the_score_equation_of_the_paper():
    # equation 4: the constrained estimate of the rate of gains, found here by brute force
    lost, gained, n = 9, 3, 60
    for end in tango(lost, gained, n):
        rates = np.linspace(max(0.0, -end), (1 - end) / 2, 2_000_001)[1:-1]
        likelihood = (
            lost * np.log(rates + end)
            + gained * np.log(rates)
            + (n - lost - gained) * np.log(1 - 2 * rates - end)
        )
        best = rates[likelihood.argmax()]
        score = (lost - gained - n * end) / math.sqrt(n * (2 * best + end * (1 - end)))
        assert abs(score) == pytest.approx(Z95, abs=1e-4)


@pytest.mark.parametrize(("p", "q"), [(0.01, 0.0), (0.02, 0.01), (0.1, 0.02), (0.005, 0.005)])
def test_tango_holds_the_true_difference_as_often_as_it_says(p, q):
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(300, [p, q, 1 - p - q], 2000)
    held = [low <= p - q <= high for low, high in (tango(b, c, 300) for b, c, _ in drawn)]
    assert 0.935 <= np.mean(held) <= 0.985


def test_a_difference_of_rates_and_what_it_refuses():
    found = difference("drop", 9, 3, 60)
    assert (found.value, found.n, found.method) == (0.1, 60, "tango")
    assert (found.low, found.high) == tango(9, 3, 60)
    assert difference("drop", 0, 0, 0).value is None
    for wrong in ((0, 0, 0), (-1, 0, 5), (3, 3, 5)):
        with pytest.raises(ValueError, match="need counts within"):
            tango(*wrong)


def test_the_largest_difference_and_its_simultaneous_interval():
    groups = [(2, 2, 4), (4, 1, 50), (0, 0, 1), (0, 0, 0)]
    found = largest_difference("worst", groups)
    assert (found.value, found.n, found.method) == (0.06, 50, "simultaneous tango")
    ends = [tango(*g, z=norm.ppf(1 - 0.025 / 3)) for g in groups[:3]]
    assert found.low == pytest.approx(max(e[0] for e in ends))
    assert found.high == pytest.approx(max(e[1] for e in ends))
    nothing = largest_difference("worst", [(0, 0, 0)])
    assert (nothing.value, nothing.n, nothing.low) == (None, 0, None)


def test_the_largest_differences_interval_covers_the_largest_true_one():
    rng = np.random.default_rng(0)
    truth = [(0.02, 0.02), (0.05, 0.02), (0.08, 0.02), (0.08, 0.02)]
    held = 0
    for _ in range(300):
        drawn = [rng.multinomial(200, [p, q, 1 - p - q])[:2] for p, q in truth]
        found = largest_difference("worst", [(int(b), int(c), 200) for b, c in drawn])
        held += found.low <= 0.06 <= found.high
    assert held >= 285


def test_newcombe_gives_a_published_interval():
    # Newcombe, Statistics in Medicine 17 (1998), table II, (a), method 10: 56 of 70, 48 of 80
    found = newcombe(rate("a", 56, 70), rate("b", 48, 80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)
    with pytest.raises(ValueError, match="need two rates"):
        newcombe(rate("a", 0, 0), rate("b", 1, 2))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_students_p_is_scipys_where_values_differ(values):
    if np.std(values) < 1e-6:
        return
    assert student(values) == pytest.approx(ttest_1samp(values, 0.0).pvalue, abs=1e-9)


def test_students_p_of_values_that_agree():
    assert student([0.2, 0.2]) == 0.0
    assert student([0.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match="at least 2 values"):
        student([1.0])


def test_false_discoveries_are_adjusted_step_by_step():
    # Benjamini and Hochberg (1995), section 3.2: four of these fifteen are rejected at 0.05
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262]
    p += [0.5719, 0.6528, 0.7590, 1.0000]
    assert sum(q <= 0.05 for q in false_discovery(p)) == 4
    assert sum(q <= 0.05 for q in holm(p)) == 3
    assert false_discovery([]) == []


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
def test_the_area_under_the_curve_counts_pairs(positives, negatives):
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    found = area_under_curve("auc", positives, negatives)
    assert found.value == pytest.approx(wins / (len(positives) * len(negatives)))
    assert found.n == min(len(positives), len(negatives))
    if found.low is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_delongs_interval_by_its_definition():
    positives, negatives = [0.9, 0.8, 0.4, 0.7], [0.1, 0.5, 0.3, 0.2, 0.8]
    kernel = np.array([[(p > n) + 0.5 * (p == n) for n in negatives] for p in positives])
    variance = kernel.mean(1).var(ddof=1) / 4 + kernel.mean(0).var(ddof=1) / 5
    found = area_under_curve("auc", positives, negatives)
    assert found.low == pytest.approx(kernel.mean() - 1.959964 * variance**0.5, abs=1e-6)
    assert found.high == 1.0
    assert area_under_curve("auc", [], negatives).value is None
    assert area_under_curve("auc", [1.0], negatives).low is None
