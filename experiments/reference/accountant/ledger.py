"""python -m accountant.ledger LEDGER.json: recomputes what a region's ledger says it has spent, from the parameters of its
own rows and with other code than wrote them. LEDGER.json is what `concordat --json ledger show --worker worker.yaml` prints.

Sampled steps go to the arbiter of this folder (no grid, errors below 1e-9), releases of integers with discrete Gaussian
noise to the formulas of arXiv 2004.00010 and 2102.06387, written out again below. Exit status 1 if a row's `epsilon_after`
is below the recomputed value or more than 0.1% above it, if rows do not follow each other, or if the budget was passed.
"""
import json
import math
import sys

import numpy as np

from . import arbiter
from .arbiter_mp import gaussian_delta

ABOVE, BELOW = 1e-3, 1e-9


def rdp_of_release(row, alpha):
    d2, d1, share = row["delta2_squared"], row["delta1"], row["share_variance"]
    n, d, count = row["shares"], row["dimension"], row["count"]
    if d2 == 0 or count == 0:
        return 0.0
    if share == 0 or n > 1 and share < 0.25:
        return math.inf  # no noise, or shares below what the bound on sums speaks of
    variance = share * n
    gauss = alpha * d2 / (2 * variance)
    if n == 1:
        return count * gauss
    tau = 10 * sum(math.exp(-2 * math.pi**2 * share * k / (k + 1)) for k in range(1, n))
    sigma = math.sqrt(variance)
    return count * min(gauss + tau * d,
                       alpha / 2 * (d2 / variance + 2 * d1 * tau / sigma + tau * tau * d),
                       alpha / 2 * (math.sqrt(d2) / sigma + math.sqrt(d) * tau)**2)


def rdp_of_step(q, sigma, alpha):
    """Both directions' worse, the mixture first, by a trapezoid sum of E_Q[(P/Q)^alpha] (Mironov et al. 2019)."""
    if q == 1:
        return alpha / (2 * sigma * sigma)
    s = float(sigma)
    x = np.linspace(-40 * s - 1, 40 * s + alpha + 1, 400001)
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * s * s))
    w = -x * x / (2 * s * s) - math.log(s * math.sqrt(2 * math.pi)) + alpha * ratio
    top = w.max()
    return float(top + math.log(np.exp(w - top).sum() * (x[1] - x[0]))) / (alpha - 1)


def epsilon_by_rdp(releases, steps, delta, factor):
    if any(r["share_variance"] == 0 and r["delta2_squared"] > 0 for r in releases) or any(s == 0 for _, s, _ in steps):
        return math.inf

    def at(log_gap):
        gap = math.exp(log_gap)
        alpha = 1 + gap
        rdp = sum(rdp_of_release(r, alpha) for r in releases)
        rdp += sum(t * rdp_of_step(q, s * factor, alpha) for q, s, t in steps)
        return rdp + math.log(gap / alpha) - math.log(delta * alpha) / gap
    xs = np.arange(-10.0, 8.0 if steps else 20.0, 0.25)
    best = min(xs, key=at)
    a, b, g = best - 0.25, best + 0.25, (math.sqrt(5) - 1) / 2
    for _ in range(40):
        c, d = b - g * (b - a), a + g * (b - a)
        a, b = (a, d) if at(c) < at(d) else (c, b)
    return max(at((a + b) / 2), 0.0)


def epsilon_of(releases, steps, neighbour, delta):
    if not releases and not steps:
        return 0.0
    if releases:
        return epsilon_by_rdp(releases, steps, delta, 0.5 if neighbour == "replace_one" else 1)
    if any(s == 0 for _, s, _ in steps):
        return math.inf
    if all(q == 1 for q, _, _ in steps):
        mu = math.sqrt(sum(t / s**2 for _, s, t in steps)) * (2 if neighbour == "replace_one" else 1)
        return solve(lambda e: float(gaussian_delta(mu, e)), delta)
    pairs = ("replace",) if neighbour == "replace_one" else ("remove", "add")
    return max(float(arbiter.of_pair(steps, pair, delta, None)[0]) for pair in pairs)


def solve(form, delta):
    low, high = 0.0, 1.0
    if form(0) <= delta:
        return 0.0
    while form(high) > delta:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if form(middle) > delta else (low, middle)
    return high


def grouped(rows):
    """The mechanisms of these rows: integer releases as they are, equal steps counted together."""
    releases, steps = [], {}
    for row in rows:
        for m in row["mechanisms"]:
            if "sampling_rate" in m:
                key = (m["sampling_rate"], m["noise_multiplier"])
                steps[key] = steps.get(key, 0) + m["steps"]
            else:
                releases.append(m)
    return releases, [(q, s, t) for (q, s), t in steps.items()]


def number(value):
    return math.inf if value == "infinity" else float(value)


def check(ledger, every):
    """Lines to print, and whether all is well."""
    rows, well, budget = ledger["entries"], True, number(ledger["budget_epsilon"])
    previous = None
    for i, row in enumerate(rows):
        if row["sequence"] != i or row["dataset"] != ledger["dataset"] or (previous and row["previous"] != previous):
            yield f"row {i}: does not follow the row before", False
            return
        previous = row["hash"]
        if not every and i + 1 != len(rows):
            continue
        year = row["time"][:4]
        period = [r for r in rows[:i + 1] if ledger["period"] == "none" or r["time"][:4] == year]
        exact = epsilon_of(*grouped(period), row["neighbour"], ledger["delta"])
        said = number(row["epsilon_after"])
        fine = said == exact or exact * (1 - BELOW) <= said <= exact * (1 + ABOVE)
        fine = fine and (said <= budget or row["kind"] == "restored")
        well = well and fine
        verdict = "agrees" if fine else "DIFFERS"
        yield (f"row {i} ({row['kind']}, unit {row['unit']}, {row['neighbour']}): says {said:.9g}, recomputed {exact:.9g}: "
               f"{verdict}", fine)


def main():
    every = "--every" in sys.argv
    files = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(files) != 1:
        sys.exit(__doc__)
    with open(files[0], encoding="utf-8") as f:
        ledger = json.load(f)
    well = True
    for line, fine in check(ledger, every):
        print(line)
        well = well and fine
    head = ledger["entries"][-1]["hash"] if ledger["entries"] else ledger["head"]
    if head != ledger["head"]:
        print("the head is not the last row's hash")
        well = False
    print(f"dataset {ledger['dataset']}: {len(ledger['entries'])} rows, " + ("all agree" if well else "NOT ALL AGREE"))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
