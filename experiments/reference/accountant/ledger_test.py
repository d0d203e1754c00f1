"""python -m unittest accountant.ledger_test: what the check of an adapter's privacy statement passes, and what it must not.

Statements of integer releases need the standard library only; those of sampled steps are skipped without numpy and mpmath.
"""
import copy
import importlib.util
import unittest

from . import ledger

JOB, OTHER, WORKER = "11" * 32, "22" * 32, "spiffe://de.example/worker/site"
ARBITER = all(importlib.util.find_spec(name) for name in ("numpy", "mpmath"))


def release(shares=1, variance=4.0):
    return {"delta2_squared": 1.0, "delta1": 1.0, "share_variance": variance, "shares": shares, "dimension": 8, "count": 1}


def steps(count=225):
    return {"sampling_rate": 0.04, "noise_multiplier": 1.5, "steps": count}


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

    def test_a_rows_hash_is_the_one_that_the_ledger_writes(self):
        # tests/unit/policy/ledger_statement_test.cc reads this very line.
        row = {"sequence": 0, "time": "2026-11-22T07:12:54.123Z", "dataset": "manuals", "kind": "delta", "job": JOB, "round": 1,
               "attempt": 2, "unit": "record", "neighbour": "add_remove", "mechanisms": [release(shares=4), steps()],
               "epsilon_before": 0.0, "epsilon_after": "infinity",
               "previous": ledger.tagged(b"concordat/v1/ledger", b"manuals")}
        self.assertEqual(ledger.row_hash(row), "52ad4b7ab0ade101c11e1a9bc91519a947de93662df7c092701dd38217041438")


if __name__ == "__main__":
    unittest.main()
