"""python -m accountant --write: makes the rows of the C++ tests' table that it lacks; --check: makes it anew and compares;
--mpmath: a few rows again in mpmath, 30 digits. Run in the folder above."""
import argparse
import json
import sys
import time
from pathlib import Path

import mpmath as mp

from . import arbiter, arbiter_mp
from .rows import DELTA_ROWS, EPSILON_ROWS

TABLE = Path(__file__).resolve().parents[3] / "tests/data/accounting/subsampled_gaussian.json"


def closed_form(steps, pair):
    """delta as a function of eps where there is a closed form, else None."""
    if all(q == 1 for q, _, _ in steps):
        mu = mp.sqrt(mp.fsum(mp.mpf(t) / mp.mpf(s)**2 for _, s, t in steps)) * (2 if pair == "replace" else 1)
        return lambda eps: arbiter_mp.gaussian_delta(mu, mp.mpf(eps))
    if len(steps) == 1 and steps[0][2] == 1:
        return lambda eps: arbiter_mp.one_step_delta(steps[0][0], steps[0][1], pair, eps)
    return None


def value(steps, relation, delta=None, epsilon=None):
    out, errors = {}, {}
    for pair in ("remove", "add") if relation == "add-remove" else ("replace",):
        form = closed_form(steps, pair)
        if form is None:
            out[pair], errors[pair] = arbiter.of_pair(steps, pair, delta, epsilon)
        else:
            out[pair] = float(form(epsilon) if delta is None else arbiter_mp.solve(form, delta))
            errors[pair] = 1e-16
    # Of a direction that hardly counts, so much of its error.
    return out, max(errors[p] * out[p] for p in out) / max(out.values())


def make(kept):
    """All rows; one that `kept` holds already is not made again. Yields after each."""
    rows = []
    for kind, settings in (("epsilon", EPSILON_ROWS), ("delta", DELTA_ROWS)):
        for relation, steps, given in settings:
            start = time.time()
            asked = {"delta": given} if kind == "epsilon" else {"epsilon": given}
            head = {"computed": kind, "relation": relation, "steps": [list(s) for s in steps], **asked}
            row = next((r for r in kept if all(r.get(k) == v for k, v in head.items())), None)
            if row is None:
                got, error = value(steps, relation, **asked)
                row = {**head, kind: max(got.values()), "by_direction": got, "error": float(f"{error:.1e}")}
                print(f"{relation} {steps[0]}{'…' if len(steps) > 1 else ''} {asked} -> {got} "
                      f"error {error:.1e} ({time.time() - start:.1f} s)", flush=True)
                if error > 1e-9:
                    sys.exit("the arbiter's own variants differ by more than 1e-9")
            rows.append(row)
            yield rows


def mpmath_again():
    """Single values of the table by the inversion in mpmath."""
    for steps, pair, eps in (([(0.01, 0.7, 120)], "remove", 2.46123769), ([(0.2, 4.0, 300)], "add", 3.0),
                             ([(0.05, 2.0, 1000)], "replace", 8.29667254)):
        log_m = arbiter.coarse(steps, pair)
        theta = arbiter.least(lambda t: log_m(t) - t * eps)
        inv = arbiter.Inversion(steps, pair, theta, float(inv_guess(log_m, theta, eps)), 1.0)
        exact = arbiter_mp.composed_delta(steps, pair, eps, theta, float(inv.du), float(inv.u[-1]))
        here = mp.mpf(str(inv.log_delta(eps)))
        print(steps, pair, eps, mp.nstr(exact, 18), "ln differs by", mp.nstr(mp.log(exact) - here, 3), flush=True)


def inv_guess(log_m, theta, eps):
    return log_m(theta) - theta * eps - 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--mpmath", action="store_true")
    args = parser.parse_args()
    mp.mp.dps = 40
    if args.mpmath:
        mpmath_again()
    kept = json.loads(TABLE.read_text())["rows"] if TABLE.exists() else []
    if args.write:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        for rows in make(kept):
            TABLE.write_text("{\n \"rows\": [\n" + ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]\n}\n")
    if args.check:
        rows = []
        for rows in make([]):
            a, b = kept[len(rows) - 1], rows[-1]
            if abs(a[a["computed"]] / b[b["computed"]] - 1) > 1e-9:
                sys.exit(f"differs: {a} {b}")
        print("the same" if len(rows) == len(kept) else "another number of rows")


if __name__ == "__main__":
    main()
