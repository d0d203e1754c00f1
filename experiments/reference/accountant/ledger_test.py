"""python -m unittest accountant.ledger_test: what the check of an adapter's privacy statement passes, and what it must not; and
whether its bound for sums of discrete Gaussians is one.

Statements of integer releases need the standard library only; those of sampled steps are skipped without numpy and mpmath.
"""
import copy
import importlib.util
import math
import unittest

from . import ledger

JOB, OTHER, WORKER = "11" * 32, "22" * 32, "spiffe://de.example/worker/site"
ARBITER = all(importlib.util.find_spec(name) for name in ("numpy", "mpmath"))


def release(shares=1, variance=4.0):
    return {"delta2_squared": 1.0, "delta1": 1.0, "share_variance": variance, "shares": shares, "dimension": 8, "count": 1}


def steps(count=225, q=0.04, sigma=1.5):
    return {"sampling_rate": q, "noise_multiplier": sigma, "steps": count}


def charge(kind="delta", number=0, attempt=0, job=JOB, mechanism=None):
    return {"kind": kind, "job": job, "round": number, "attempt": attempt, "mechanisms": [mechanism or release()]}


def say(value):
    return "infinity" if value == float("inf") else value


def seal(rows, previous):
    """Makes the hashes right, whatever the figures say."""
    for row in rows:
        row["previous"] = previous
        row["hash"] = previous = ledger.row_hash(row)


def statement(charges, unit="site", neighbour="zero_out", skip=0, period="none", times=None):
    spend = ledger.Spend({"unit": unit, "neighbour": neighbour, "delta": 1e-5})
    rows = []
    for i, c in enumerate(charges):
        row = {"sequence": i, "time": (times or ["2026-11-22T07:12:54.123Z"] * len(charges))[i], "dataset": "manuals",
               "unit": unit, "neighbour": neighbour, **c}
        before = [r for r in rows if period == "none" or r["time"][:4] >= row["time"][:4]]
        row["epsilon_before"], row["epsilon_after"] = say(spend.of(before)), say(spend.of(before + [row]))
        rows.append(row)
    seal(rows, ledger.tagged(b"concordat/v1/ledger", b"manuals"))
    return {"worker": WORKER, "job": JOB, "dataset": "manuals", "unit": unit, "neighbour": neighbour, "delta": 1e-5,
            "period": period, "head": rows[-1]["hash"], "rows": rows[skip:]}


def privacy(of, rounds=2, distributed=False):
    exact = ledger.figures(of, rounds, ledger.Spend(of))
    region = {"worker": WORKER, "source": "ledger", "ledger": of["head"], "statement": of,
              **{key: say(value) for key, value in exact.items()}}
    if not distributed:
        region["epsilon_distributed"] = None
    return {"job": JOB, "rounds": rounds, "regions": [region]}


class StatementTest(unittest.TestCase):
    def passes(self, page):
        lines = list(ledger.check_statement(page))
        self.assertTrue(all(fine for _, fine in lines), lines)

    def fails(self, page, why):
        lines = list(ledger.check_statement(page))
        self.assertTrue(any(not fine and why in line for line, fine in lines), lines)

    def two_rounds(self, **more):
        return statement([charge(), charge(number=1), charge(kind="evaluation", number=2)], **more)

    def test_what_a_ledger_charged_is_recomputed(self):
        self.passes(privacy(self.two_rounds()))

    def test_a_row_whose_figure_is_too_low_is_found_though_its_hash_is_right(self):
        for i in range(3):
            for key in ("epsilon_after", "epsilon_before"):
                of = self.two_rounds()
                if of["rows"][i][key] == 0:
                    continue
                of["rows"][i][key] *= 0.99
                seal(of["rows"], of["rows"][0]["previous"])
                of["head"] = of["rows"][-1]["hash"]
                self.fails(privacy(of), f"row {i + 1}: {key} says")

    def test_a_row_whose_figure_is_too_high_is_found_where_the_ledger_begins(self):
        of = self.two_rounds()
        of["rows"][2]["epsilon_after"] *= 1.01
        seal(of["rows"], of["rows"][0]["previous"])
        of["head"] = of["rows"][-1]["hash"]
        self.fails(privacy(of), "row 3: epsilon_after says")

    def test_a_changed_row_no_longer_has_its_hash(self):
        for key, value in (("round", 7), ("attempt", 1), ("kind", "evaluation"), ("time", "2026-11-22T07:12:54.124Z"),
                           ("epsilon_after", 0.1), ("job", OTHER), ("mechanisms", [release(variance=400.0)])):
            of = self.two_rounds()
            page = privacy(of)
            of["rows"][1][key] = value
            self.fails(page, "row 2: its hash")

    def test_a_row_that_is_missing_or_moved_is_found(self):
        of = self.two_rounds()
        page = privacy(of)
        del of["rows"][1]
        self.fails(page, "does not follow")
        of = self.two_rounds()
        page = privacy(of)
        del of["rows"][2]
        self.fails(page, "the head is not the last row's hash")

    def test_a_figure_of_the_adapter_that_is_too_low_or_too_high_is_found(self):
        for key in ("epsilon_local", "epsilon_charged"):
            for factor in (0.999, 1.01):
                page = privacy(self.two_rounds())
                page["regions"][0][key] *= factor
                self.fails(page, key)

    def test_another_jobs_rows_count_for_the_dataset_and_not_for_the_adapter(self):
        alone = statement([charge(), charge(number=1)])
        shared = statement([charge(), charge(job=OTHER), charge(number=1)])
        self.passes(privacy(shared))
        self.assertEqual(privacy(alone)["regions"][0]["epsilon_charged"], privacy(shared)["regions"][0]["epsilon_charged"])

    def test_a_statement_that_begins_later_holds_its_rows_from_below(self):
        of = statement([charge(job=OTHER), charge(), charge(number=1)], skip=1)
        self.passes(privacy(of))
        of["rows"][1]["epsilon_after"] /= 4
        seal(of["rows"], of["rows"][0]["previous"])
        of["head"] = of["rows"][-1]["hash"]
        self.fails(privacy(of), "row 3: epsilon_after says")

    def test_failed_attempts_and_later_rounds_are_told_apart(self):
        of = statement([charge(), charge(attempt=1), charge(number=1), charge(number=2)])
        two, three = privacy(of, rounds=2), privacy(of, rounds=3)
        self.passes(two)
        self.passes(three)
        self.assertLess(two["regions"][0]["epsilon_local"], three["regions"][0]["epsilon_local"])
        self.assertEqual(two["regions"][0]["epsilon_charged"], three["regions"][0]["epsilon_charged"])
        self.assertEqual(three["regions"][0]["epsilon_local"], three["regions"][0]["epsilon_charged"])

    def test_restored_charges_count(self):
        of = statement([charge(kind="restored", job=OTHER, number=9), charge(number=1)])
        self.passes(privacy(of))
        self.assertEqual(privacy(of)["regions"][0]["epsilon_local"], of["rows"][1]["epsilon_after"])

    def test_shares_of_noise_count_alone_and_together(self):
        page = privacy(statement([charge(mechanism=release(shares=4)), charge(number=1, mechanism=release(shares=4))]),
                       distributed=True)
        self.passes(page)
        region = page["regions"][0]
        self.assertGreater(region["epsilon_local"], region["epsilon_distributed"])
        region["epsilon_distributed"] *= 0.999
        self.fails(page, "epsilon_distributed")

    def test_a_round_of_records_with_shared_noise_has_its_metrics_in_it(self):
        # Two rounds as a real job's ledger had them: sum and figures, two honest sites' shares of z = 1 and 5.
        mechanisms = [{"delta2_squared": 3264320.0, "delta1": 64640.00000000001, "share_variance": 1632160.0030401344,
                       "shares": 2, "dimension": 1280, "count": 1},
                      {"delta2_squared": 268435456.0, "delta1": 16384.0, "share_variance": 3355443199.9999995, "shares": 2,
                       "dimension": 1, "count": 2}]
        rounds = [{**charge(number=i), "mechanisms": mechanisms} for i in range(2)]
        page = privacy(statement(rounds, unit="record", neighbour="add_remove"), distributed=True)
        region = page["regions"][0]
        self.passes(page)
        self.assertAlmostEqual(region["epsilon_distributed"], 7.406522938, places=8)  # what the ledger said
        self.assertAlmostEqual(region["epsilon_local"], 11.241633815, places=8)
        # A release of variance z^2 S^2 has multiplier z: the two of 5 add 2/25.
        exact = gaussian_epsilon(math.sqrt(2 * (1 + 2 / 25)), 1e-5)
        self.assertGreater(region["epsilon_distributed"], exact)
        self.assertLess(region["epsilon_distributed"], exact * 1.1)

    def test_a_price_of_astronomic_size_is_recomputed_too(self):
        # Almost no noise: the best order is within 1e-9 of 1.
        for variance in (1e-12, 1e-18):
            page = privacy(statement([charge(mechanism=release(variance=variance))]), rounds=1)
            self.passes(page)
            rho = 1 / (2 * variance)
            exact = rho + 2 * math.sqrt(rho * math.log(1e5))  # closed form but for the conversion's last terms
            self.assertLess(abs(page["regions"][0]["epsilon_local"] / exact - 1), 1e-9)

    def test_no_noise_is_infinite_and_nothing_less(self):
        page = privacy(statement([charge(mechanism=release(variance=0.0))]), rounds=1)
        self.assertEqual(page["regions"][0]["epsilon_local"], "infinity")
        self.passes(page)
        page["regions"][0]["epsilon_local"] = 1e9
        self.fails(page, "epsilon_local")

    def test_a_yearly_budget_begins_anew(self):
        of = self.two_rounds(period="yearly", times=["2025-12-31T23:59:59.999Z"] + ["2026-01-01T00:00:00.000Z"] * 2)
        self.assertEqual(of["rows"][1]["epsilon_before"], 0)
        self.passes(privacy(of))

    def test_a_statement_of_another_job_worker_or_head_is_not_taken(self):
        for change in ({"job": OTHER}, {"worker": "spiffe://fr.example/worker/site"}, {"head": "33" * 32}):
            page = copy.deepcopy(privacy(self.two_rounds()))
            page["regions"][0]["statement"].update(change)
            self.fails(page, "another worker, job or head")

    def test_a_plan_is_no_ledger(self):
        page = privacy(self.two_rounds())
        page["regions"].append({"worker": "spiffe://fr.example/worker/site", "source": "plan", "statement": None})
        self.passes(page)
        page["regions"].pop(0)
        self.fails(page, "0 of 1 regions")
        page["regions"][0]["source"] = "ledger"
        self.fails(page, "no ledger stands behind it")
        self.fails({"job": JOB, "rounds": 2}, "0 of 0 regions")

    @unittest.skipUnless(ARBITER, "needs numpy and mpmath")
    def test_sampled_steps_go_to_the_arbiter(self):
        of = statement([charge(number=i, mechanism=steps()) for i in range(10)], unit="record", neighbour="add_remove")
        page = privacy(of, rounds=10)
        self.assertAlmostEqual(page["regions"][0]["epsilon_local"], 6.76878042, places=6)
        self.passes(page)
        page["regions"][0]["epsilon_charged"] *= 0.9999
        self.fails(page, "epsilon_charged")

    @unittest.skipUnless(ARBITER, "needs numpy and mpmath")
    def test_few_sampled_steps_are_held_between_two_bounds(self):
        from . import few
        # What the arbiter says of sixteen, and closed forms of one; both directions.
        for q, sigma, count, exact in ((0.1, 0.9622504486493727, 16, (3.591104177405547, 1.1041803367809297)),
                                       (0.25, 1.0, 16, (8.4170006854321, 3.1510972277720493))):
            delta = 1e-5 if q == 0.1 else 1e-6
            for pair, value in zip(("remove", "add"), exact):
                low, high = few.bounds([(q, sigma, count)], pair, delta)
                self.assertTrue(low <= value <= high, (low, value, high))
                self.assertLess(high / low - 1, 2e-3)
        from .arbiter_mp import one_step_delta, solve
        for q, sigma, delta in ((0.3, 0.5, 1e-10), (0.5, 2.0, 1e-5), (1.0, 3.0, 1e-6)):
            for pair in ("remove", "add"):
                exact = float(solve(lambda e: one_step_delta(q, sigma, pair, e), delta))
                low, high = few.bounds([(q, sigma, 1)], pair, delta)
                self.assertTrue(low <= exact <= high, (q, sigma, pair, low, exact, high))
        # A ledger after its first round of four steps, and one with an evaluation: real figures.
        eight = [charge(number=i, mechanism=steps(4, 0.1, 0.9622504486493727)) for i in range(2)]
        cell = charge(kind="evaluation", number=2, mechanism=steps(1, 1.0, 11.547005383792476))
        of = statement([*eight, cell], unit="record", neighbour="add_remove")
        spend = ledger.Spend(of)
        for i, said in enumerate((2.4188931882717615, 2.895462211719618, 2.912365466771321)):
            exact = spend.of(of["rows"][:i + 1])
            self.assertTrue(ledger.agrees(said, exact), said)
            self.assertFalse(ledger.agrees(said * 0.999, exact), said)
        with self.assertRaises(ValueError):
            few.epsilon([(0.1, 0.4, 3000)], ("remove", "add"), 1e-5)

    def test_a_rows_hash_is_the_one_that_the_ledger_writes(self):
        # tests/unit/policy/ledger_statement_test.cc reads this very line.
        row = {"sequence": 0, "time": "2026-11-22T07:12:54.123Z", "dataset": "manuals", "kind": "delta", "job": JOB, "round": 1,
               "attempt": 2, "unit": "record", "neighbour": "add_remove", "mechanisms": [release(shares=4), steps()],
               "epsilon_before": 0.0, "epsilon_after": "infinity",
               "previous": ledger.tagged(b"concordat/v1/ledger", b"manuals")}
        self.assertEqual(ledger.row_hash(row), "52ad4b7ab0ade101c11e1a9bc91519a947de93662df7c092701dd38217041438")


def gaussian_epsilon(mu, delta):
    """Of N(mu, 1) against N(0, 1), exact (Balle and Wang 2018)."""
    tail = lambda x: math.erfc(x / math.sqrt(2)) / 2
    low, high = 0.0, 1000.0
    for _ in range(200):
        e = (low + high) / 2
        low, high = (e, high) if tail(e / mu - mu / 2) - math.exp(e) * tail(e / mu + mu / 2) > delta else (low, e)
    return high


def sum_of_discrete_gaussians(variance, shares):
    """Probabilities of the integers from -reach, by convolution alone."""
    reach = math.ceil(12 * math.sqrt(variance)) + 2
    one = [math.exp(-k * k / (2 * variance)) for k in range(-reach, reach + 1)]
    total = math.fsum(one)
    one, out = [p / total for p in one], [1.0]
    for _ in range(shares):
        out = [math.fsum(one[j] * out[i - j] for j in range(max(0, i - len(out) + 1), min(len(one), i + 1)))
               for i in range(len(out) + len(one) - 1)]
    return out


class SumTest(unittest.TestCase):
    """The formulas of ledger.py for integers, against what they bound."""

    ROWS = ((0.25, 10), (0.4, 10), (2.25, 10), (0.25, 2), (0.5, 2), (1.0, 4), (0.3, 3))

    def exact(self, variance, shares, alpha, shift=1):
        """Renyi divergence of the sum and itself moved."""
        p = sum_of_discrete_gaussians(variance, shares)
        terms = [alpha * math.log(p[i]) + (1 - alpha) * math.log(p[i - shift]) for i in range(shift, len(p))
                 if p[i] > 0 and p[i - shift] > 0]
        return math.log(math.fsum(map(math.exp, terms))) / (alpha - 1)

    def test_convolution_gives_the_values_that_the_accountants_tests_have(self):
        for (variance, shares), value in zip(self.ROWS, (1.50706, 0.994137, 0.1777778)):
            self.assertLess(abs(self.exact(variance, shares, 8) / value - 1), 1e-5)

    def test_no_exact_divergence_of_a_sum_is_above_the_bound(self):
        for variance, shares in self.ROWS:
            for shift in (1, 2):
                row = release(shares, variance) | {"delta2_squared": shift**2, "delta1": shift, "dimension": 1}
                for alpha in (1.01, 1.5, 2, 4, 8):
                    exact = self.exact(variance, shares, alpha, shift)
                    self.assertGreaterEqual(ledger.rdp_of_release(row, alpha) * (1 + 1e-9), exact, (variance, shares, alpha))

    def test_a_sum_of_small_shares_is_dearer_than_one_gaussian_of_its_variance(self):
        """So that the bound is needed: with one Gaussian's price the test above would fail."""
        for (variance, shares), factor in zip(self.ROWS, (1.12, 1.009)):
            self.assertGreater(self.exact(variance, shares, 2), factor * ledger.rdp_of_release(release(1, variance * shares), 2))


if __name__ == "__main__":
    unittest.main()
