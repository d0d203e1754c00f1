#!/usr/bin/env python3
"""Tokens per second and peak memory of Concordat's engine beside PEFT + PyTorch in bf16, in one interleaved run.

    python experiments/training_speed/compare.py --bench build/dev/bin/train_bench --model MODEL.gguf \
        [--rounds 7] [--steps 2] [--tokens 512] [--compile] [--out results.json]

SmolLM2-135M, LoRA rank 16 on all seven linear layers, batch 1, one optimizer step a sequence. The programs take
turns of a few steps while the others wait for input, so that a change in the machine's speed meets all of them;
each turn's ratio to the same round's PEFT turn is taken, and the median of those is reported. Needs torch,
transformers and peft in this Python.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


class Child:
    def __init__(self, command):
        # Waiting threads sleep: the program whose turn it is not must not hold a core.
        environment = dict(os.environ, OMP_WAIT_POLICY="passive") if ARGS.passive else None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, env=environment)

    def turn(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0:2]} ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    script = str(pathlib.Path(__file__).parent / "peft_child.py")
    python = [sys.executable, script]
    children = {
        "concordat": Child([ARGS.bench, "--model", ARGS.model, "--tokens", str(ARGS.tokens), "--serve"]),
        "peft eager": Child(python + ["eager", str(ARGS.tokens)]),
        "bare products": Child(python + ["gemm", str(ARGS.tokens)]),
    }
    if ARGS.compile:
        children["peft compiled"] = Child(python + ["compile", str(ARGS.tokens)])
    for child in children.values():
        child.turn(2)  # warm-up, compilation
    rates = {name: [] for name in children}
    last = {}
    for number in range(ARGS.rounds):
        names = list(children)
        for name in names[number % len(names):] + names[:number % len(names)]:
            last[name] = children[name].turn(ARGS.steps)
            rates[name].append(last[name]["tokens_per_s"])
        print("round", number + 1, {name: round(rates[name][-1]) for name in names}, file=sys.stderr)
    for child in children.values():
        child.close()

    peft_peak = last["peft eager"]["peak_mib"]
    print(f"| {'program':<14} | tokens/s (median) | x PEFT eager | peak MiB | x PEFT eager |")
    print("|---|---|---|---|---|")
    result = {}
    for name in children:
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates["peft eager"]))
        result[name] = {"tokens_per_s": statistics.median(rates[name]), "ratio": ratio,
                        "peak_mib": last[name]["peak_mib"], "all": rates[name]}
        print(f"| {name:<14} | {result[name]['tokens_per_s']:17.0f} | {ratio:12.2f} | {last[name]['peak_mib']:8.0f} "
              f"| {last[name]['peak_mib'] / peft_peak:12.2f} |")
    share = statistics.median(a / b for a, b in zip(rates["concordat"], rates["bare products"]))
    print(f"\nConcordat at {share:.0%} of the bare products of the frozen weights.")
    if ARGS.out:
        pathlib.Path(ARGS.out).write_text(json.dumps(result, indent=1) + "\n")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bench", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--steps", type=int, default=2)
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--passive", action="store_true", help="OMP_WAIT_POLICY=passive for all (a shared machine)")
parser.add_argument("--out")
ARGS = parser.parse_args()
main()
