"""python -m accountant.ledger LEDGER.json: recomputes what a region's ledger says it has spent, from the parameters of its
own rows and with other code than wrote them. LEDGER.json is what `concordat --json ledger show --worker worker.yaml` prints.

python -m accountant.ledger --statement ADAPTER/privacy.json: the same for an adapter, from the statements that regions signed
of their ledgers (`concordat ledger statement`, `concordat adapter statement`): each row's hash, their chain to the head, each
row's figures, and the region's figures that the adapter is released with. A statement begins with the job's first charge; where
that is not the ledger's first, what came before is known by its price only, and a row's figures are held from below. Whose the
signatures are, `concordat adapter verify --charter` checks.

Sampled steps go to the arbiter of this folder (no grid, errors below 1e-9; needs numpy and mpmath), few of them to two bounds that
are 5e-4 apart at most (few.py), releases of integers with discrete Gaussian noise to the formulas of arXiv 2004.00010 and 2102.06387,
written out again below (standard library only).
Exit status 1 if a figure is below the recomputed value or more than 0.1% above it, if rows do not follow each other, or if the
budget was passed; with --statement also if no region has handed one out.
"""
import hashlib
import json
import math
import struct
import sys

ABOVE, BELOW = 1e-3, 1e-9
FEW = 16  # sampled steps, up to which two bounds take the arbiter's place


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
    import numpy as np
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
    # Where nothing but releases is priced, an epsilon of 1e12 has its best order at 1 + 1e-6 and one of 1e20 at 1 + 1e-10.
    xs = [i / 4 for i in (range(-40, 32) if steps else range(-120, 80))]
    best = min(xs, key=at)
    a, b, g = best - 0.25, best + 0.25, (math.sqrt(5) - 1) / 2
    for _ in range(40):
        c, d = b - g * (b - a), a + g * (b - a)
        a, b = (a, d) if at(c) < at(d) else (c, b)
    return max(at((a + b) / 2), 0.0)


def epsilon_of(releases, steps, neighbour, delta):
    if not releases and not steps:
        return 0.0
    if delta == 0:
        return math.inf
    if releases:
        return epsilon_by_rdp(releases, steps, delta, 0.5 if neighbour == "replace_one" else 1)
    if any(s == 0 for _, s, _ in steps):
        return math.inf
    if all(q == 1 for q, _, _ in steps):
        from .arbiter_mp import gaussian_delta
        mu = math.sqrt(sum(t / s**2 for _, s, t in steps)) * (2 if neighbour == "replace_one" else 1)
        return solve(lambda e: float(gaussian_delta(mu, e)), delta)
    return of_steps(steps, ("replace",) if neighbour == "replace_one" else ("remove", "add"), delta)


class Between(float):
    """A figure that is known to lie between this and `high`."""
    high = math.inf


def of_steps(steps, pairs, delta):
    from . import arbiter, few
    if sum(t for _, _, t in steps) > FEW:
        values = [arbiter.of_pair(steps, pair, delta, None) for pair in pairs]
        if all(error <= BELOW for _, error in values):
            return max(float(value) for value, _ in values)
    # The characteristic function of few steps falls too slowly for the arbiter, or at all but in hours.
    low, high = few.epsilon(steps, pairs, delta)
    out = Between(low)
    out.high = high
    return out


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
    """The mechanisms of these rows, equal ones counted together."""
    releases, steps = {}, {}
    for row in rows:
        for m in row["mechanisms"]:
            if "sampling_rate" in m:
                key = (m["sampling_rate"], m["noise_multiplier"])
                steps[key] = steps.get(key, 0) + m["steps"]
            else:
                key = (m["delta2_squared"], m["delta1"], m["share_variance"], m["shares"], m["dimension"])
                releases[key] = releases.get(key, 0) + m["count"]
    names = ("delta2_squared", "delta1", "share_variance", "shares", "dimension", "count")
    return [dict(zip(names, (*key, count))) for key, count in releases.items()], [(q, s, t) for (q, s), t in steps.items()]


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
        # Not those of this year alone: a clock that was set back frees nothing.
        period = [r for r in rows[:i + 1] if ledger["period"] == "none" or r["time"][:4] >= year]
        exact = epsilon_of(*grouped(period), row["neighbour"], ledger["delta"])
        said = number(row["epsilon_after"])
        fine = agrees(said, exact)
        fine = fine and (said <= budget or row["kind"] == "restored")
        well = well and fine
        verdict = "agrees" if fine else "DIFFERS"
        yield (f"row {i} ({row['kind']}, unit {row['unit']}, {row['neighbour']}): says {said:.9g}, recomputed {exact:.9g}: "
               f"{verdict}", fine)


# ---- Statements: what stands behind an adapter's privacy.json.

CODES = {"delta": 1, "evaluation": 2, "restored": 3, "site": 1, "person": 2, "record": 3,
         "zero_out": 1, "add_remove": 2, "replace_one": 3}


def tagged(tag, body):
    return hashlib.sha256(struct.pack("<I", len(tag)) + tag + body).hexdigest()


def milliseconds(text):
    """Since 1970, of 2026-11-22T07:12:54.123Z."""
    from datetime import datetime, timedelta, timezone
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def row_hash(row):
    """The hash that a ledger's line must have: all of it, in the byte order of common/canonical.h."""
    steps = [m for m in row["mechanisms"] if "sampling_rate" in m]
    terms = [m for m in row["mechanisms"] if "sampling_rate" not in m]
    name = row["dataset"].encode()
    body = struct.pack("<QqI", row["sequence"], milliseconds(row["time"]), len(name)) + name
    body += bytes([CODES[row["kind"]] | (0x80 if steps else 0), CODES[row["unit"]], CODES[row["neighbour"]]])
    body += bytes.fromhex(row["job"]) + struct.pack("<III", row["round"], row["attempt"], len(terms))
    for m in terms:
        body += struct.pack("<dddIQQ", m["delta2_squared"], m["delta1"], m["share_variance"], m["shares"], m["dimension"],
                            m["count"])
    if steps:
        body += struct.pack("<I", len(steps))
        for m in steps:
            body += struct.pack("<ddQ", m["sampling_rate"], m["noise_multiplier"], m["steps"])
    body += struct.pack("<dd", number(row["epsilon_before"]), number(row["epsilon_after"])) + bytes.fromhex(row["previous"])
    return tagged(b"concordat/v1/ledger-entry", body)


class Spend:
    """Epsilon of rows at a statement's delta; equal sets of mechanisms are priced once."""

    def __init__(self, statement):
        self.unit, self.neighbour, self.delta = statement["unit"], statement["neighbour"], statement["delta"]
        self.known = {}

    def of(self, rows):
        if any((r["unit"], r["neighbour"]) != (self.unit, self.neighbour) for r in rows):
            return math.inf
        releases, steps = grouped(rows)
        key = json.dumps([releases, sorted(steps)], sort_keys=True)
        if key not in self.known:
            self.known[key] = epsilon_of(releases, steps, self.neighbour, self.delta)
        return self.known[key]


def agrees(said, exact, floor=False):
    if said == exact:
        return True
    return exact * (1 - BELOW) <= said and (floor or said <= getattr(exact, "high", exact) * (1 + ABOVE))


def check_rows(statement, spend):
    """Lines that say what is wrong with a statement's rows; none when all is well."""
    rows, dataset = statement["rows"], statement["dataset"]
    whole = rows[0]["sequence"] == 0
    previous = tagged(b"concordat/v1/ledger", dataset.encode()) if whole else rows[0]["previous"]
    for i, row in enumerate(rows):
        where = f"row {row['sequence'] + 1}"
        if row["dataset"] != dataset or row["previous"] != previous or row["sequence"] != rows[0]["sequence"] + i:
            yield f"{where}: does not follow the row before"
            return
        if row_hash(row) != row["hash"]:
            yield f"{where}: its hash is not that of what it holds"
            return
        previous = row["hash"]
        year = row["time"][:4]
        before = [r for r in rows[:i] if statement["period"] == "none" or r["time"][:4] >= year]
        for key, charged in (("epsilon_before", before), ("epsilon_after", before + [row])):
            said, exact = number(row[key]), spend.of(charged)
            if not agrees(said, exact, floor=not whole):
                yield f"{where}: {key} says {said:.9g}, its rows give {exact:.9g}"
    if previous != statement["head"]:
        yield "the head is not the last row's hash"


def in_shares(row, shares):
    return dict(row, mechanisms=[dict(m, shares=shares) if "shares" in m else m for m in row["mechanisms"]])


def figures(statement, rounds, spend):
    """What a region's data paid: for the adapter by local noise and with honest survivors, and for the whole job."""
    mine = [r for r in statement["rows"] if r["kind"] == "restored" or r["job"] == statement["job"]]
    adapter = [r for r in mine if r["kind"] == "restored" or (r["kind"] == "delta" and r["round"] < rounds)]
    return {"epsilon_local": spend.of([in_shares(r, 1) for r in adapter]), "epsilon_distributed": spend.of(adapter),
            "epsilon_charged": spend.of(mine)}


def check_statement(privacy):
    """Lines to print for an adapter's privacy.json, and whether all is well."""
    charged = 0
    for region in privacy.get("regions", []):
        worker, statement = region["worker"], region["statement"]
        if statement is None:
            yield f"{worker}: planned, no ledger stands behind it", region["source"] == "plan"
            continue
        charged += 1
        if region["source"] != "ledger" or statement["worker"] != worker or statement["job"] != privacy["job"] \
                or statement["head"] != region["ledger"]:
            yield f"{worker}: the statement is of another worker, job or head", False
            continue
        spend = Spend(statement)
        wrong = list(check_rows(statement, spend))
        for key, exact in figures(statement, privacy["rounds"], spend).items():
            if region[key] is None and key == "epsilon_distributed":
                continue
            said = number(region[key])
            if not agrees(said, exact):
                wrong.append(f"{key} says {said:.9g}, its rows give {exact:.9g}")
        for line in wrong:
            yield f"{worker}: {line}: DIFFERS", False
        if not wrong:
            yield (f"{worker}: {len(statement['rows'])} rows to head {statement['head'][:12]}, local "
                   f"{number(region['epsilon_local']):.6g}, charged {number(region['epsilon_charged']):.6g}: agrees"), True
    yield f"{charged} of {len(privacy.get('regions', []))} regions' figures are from their ledgers", charged > 0


def read(name):
    with open(name, encoding="utf-8") as f:
        return json.load(f)


def main():
    files = [a for a in sys.argv[1:] if not a.startswith("--")]
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    if len(files) != 1 or set(flags) - {"--every", "--statement"}:
        sys.exit(__doc__)
    if "--statement" in flags:
        sys.exit(0 if report(check_statement(read(files[0]))) else 1)
    ledger = read(files[0])
    well = report(check(ledger, "--every" in flags))
    head = ledger["entries"][-1]["hash"] if ledger["entries"] else ledger["head"]
    if head != ledger["head"]:
        print("the head is not the last row's hash")
        well = False
    print(f"dataset {ledger['dataset']}: {len(ledger['entries'])} rows, " + ("all agree" if well else "NOT ALL AGREE"))
    sys.exit(0 if well else 1)


def report(lines):
    well = True
    for line, fine in lines:
        print(line)
        well = well and fine
    return well


if __name__ == "__main__":
    try:
        main()
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed, and this ledger has sampled steps: pip install -r accountant/requirements.txt")
