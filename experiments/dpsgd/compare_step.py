#!/usr/bin/env python3
"""Time and peak memory of one step of DP-SGD beside the same step without DP, in one interleaved run; with --opacus
also PEFT + PyTorch without DP and with Opacus.

    python experiments/dpsgd/compare_step.py --bench build/dev/bin/train_bench --model MODEL.gguf \
        [--rounds 7] [--steps 1] [--tokens 512] [--batch 8] [--opacus] [--passive] [--out results.json]

SmolLM2-135M, LoRA rank 16 on all seven linear layers, every sequence a privacy unit, noise multiplier 1. The
programs take turns while the others wait for input, so that a change in the machine's speed meets all of them; each
turn's time (and processor time, which a busy machine changes less) is divided by that of the same round's turn
without DP, and the median of those is reported. --opacus
needs torch, transformers, peft and opacus in this Python.
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
                                        stderr=None if ARGS.verbose else subprocess.DEVNULL, env=environment)

    def turn(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0:3]} ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    bench = [ARGS.bench, "--model", ARGS.model, "--tokens", str(ARGS.tokens), "--batch", str(ARGS.batch), "--serve"]
    commands = {"Concordat": bench, "Concordat, DP-SGD": bench + ["--dp"]}
    base = {"Concordat, DP-SGD": "Concordat"}
    if ARGS.opacus:
        script = [sys.executable, str(pathlib.Path(__file__).parent / "opacus_child.py")]
        size = [str(ARGS.tokens), str(ARGS.batch)]
        commands["PEFT"] = script + ["peft"] + size
        commands["PEFT, Opacus"] = script + ["opacus"] + size
        base["PEFT, Opacus"] = "PEFT"
    children = {name: Child(command) for name, command in commands.items()}
    for child in children.values():
        child.turn(1)  # warm-up
    seconds = {name: [] for name in children}
    cpu = {name: [] for name in children}
    peak = {}
    for number in range(ARGS.rounds):
        names = list(children)
        for name in names[number % len(names):] + names[:number % len(names)]:
            answer = children[name].turn(ARGS.steps)
            seconds[name].append(answer["seconds"] / ARGS.steps)
            cpu[name].append(answer["cpu_seconds"] / ARGS.steps)
            peak[name] = answer["peak_mib"]
        print("round", number + 1, {name: round(seconds[name][-1], 3) for name in names},
              "load", os.getloadavg()[0], file=sys.stderr)
    for child in children.values():
        child.close()

    print("| program | s a step (median) | x without DP | CPU s | x without DP | peak MiB | x without DP |")
    print("|---|---|---|---|---|---|---|")
    result = {"tokens": ARGS.tokens, "batch": ARGS.batch, "load": os.getloadavg()[0]}
    for name in children:
        other = base.get(name, name)
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[other]))
        cpu_ratio = statistics.median(a / b for a, b in zip(cpu[name], cpu[other]))
        result[name] = {"seconds": statistics.median(seconds[name]), "ratio": ratio, "cpu_ratio": cpu_ratio,
                        "cpu_seconds": statistics.median(cpu[name]), "peak_mib": peak[name], "all": seconds[name],
                        "all_cpu": cpu[name]}
        print(f"| {name} | {result[name]['seconds']:.3f} | {ratio:.3f} | {result[name]['cpu_seconds']:.3f} "
              f"| {cpu_ratio:.3f} | {peak[name]:.0f} | {peak[name] / peak[other]:.2f} |")
    if ARGS.out:
        pathlib.Path(ARGS.out).write_text(json.dumps(result, indent=1) + "\n")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bench", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--steps", type=int, default=1)
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--opacus", action="store_true")
parser.add_argument("--passive", action="store_true", help="OMP_WAIT_POLICY=passive for all (a shared machine)")
parser.add_argument("--verbose", action="store_true", help="show what the programs say")
parser.add_argument("--out")
ARGS = parser.parse_args()
main()
