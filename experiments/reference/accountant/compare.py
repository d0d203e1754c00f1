"""python -m accountant.compare [--bench PATH] [--seconds S]: dp-accounting beside the arbiter's table, and its time beside
accounting_bench's for the same 25 rows. Run in the folder above."""
import argparse
import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld

TABLE = Path(__file__).resolve().parents[3] / "tests/data/accounting/subsampled_gaussian.json"
# As BM_Table in tests/bench/accounting_bench.cc.
SETTINGS = ((0.04, 1.5), (0.01, 1.0), (0.001, 0.8), (0.1, 3.0), (0.02, 0.6))
STEPS = (100, 300, 1000, 3000, 10000)
RELATIONS = {"add-remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
             "replace-one": NeighboringRelation.REPLACE_ONE}


def epsilon(steps, relation, delta):
    """With the package's own defaults: connect the dots, losses on a grid of 1e-4."""
    composed = None
    for q, sigma, times in steps:
        one = pld.from_gaussian_mechanism(sigma, sampling_prob=q, neighboring_relation=RELATIONS[relation])
        many = one.self_compose(times)
        composed = many if composed is None else composed.compose(many)
    return composed.get_epsilon_for_delta(delta)


def errors(limit_seconds):
    def late(*_):
        raise TimeoutError(f"more than {limit_seconds} s")
    signal.signal(signal.SIGALRM, late)
    print(f"{'relation':12} {'first step (q, sigma, T)':28} {'delta':>8} {'exact':>14} {'dp-accounting':>14} {'relative':>10}")
    for row in json.loads(TABLE.read_text())["rows"]:
        if row["computed"] != "epsilon":
            continue
        signal.alarm(limit_seconds)
        try:
            got = epsilon(row["steps"], row["relation"], row["delta"])
            said = f"{got:14.9g} {got / row['epsilon'] - 1:+10.1e}"
        except Exception as e:  # named, not hidden: some rows it cannot price
            said = f"{type(e).__name__}: {str(e)[:40]}"
        finally:
            signal.alarm(0)
        first = f"{tuple(row['steps'][0])}{' …' if len(row['steps']) > 1 else ''}"
        print(f"{row['relation']:12} {first:28} {row['delta']:8g} {row['epsilon']:14.9g} {said}", flush=True)


def bench_seconds(path):
    out = subprocess.run([path, "--benchmark_filter=BM_Table", "--benchmark_format=json", "--benchmark_min_time=0.2"],
                         check=True, capture_output=True, text=True).stdout
    run = json.loads(out)["benchmarks"][0]
    return run["real_time"] * {"ms": 1e-3, "us": 1e-6, "ns": 1e-9, "s": 1}[run["time_unit"]]


def peer_seconds():
    start = time.perf_counter()
    for q, sigma in SETTINGS:
        for times in STEPS:
            epsilon([(q, sigma, times)], "add-remove", 1e-6)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", help="path of accounting_bench")
    parser.add_argument("--seconds", type=int, default=60, help="limit for one row of dp-accounting")
    parser.add_argument("--no-errors", action="store_true", help="times only")
    args = parser.parse_args()
    if args.bench:
        pairs = [(bench_seconds(args.bench), peer_seconds()) for _ in range(3)]
        ours, theirs = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratios = ", ".join(f"{b / a:.1f}" for a, b in pairs)
        print(f"25 rows: accounting_bench {ours * 1e3:.1f} ms, dp-accounting {theirs * 1e3:.0f} ms; ratio {ratios}; "
              f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs", flush=True)
    if not args.no_errors:
        errors(args.seconds)


if __name__ == "__main__":
    main()
