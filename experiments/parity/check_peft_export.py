#!/usr/bin/env python3
"""Shows that a PEFT folder written by Concordat means the same to peft.

    python experiments/parity/check_peft_export.py --score build/release/tests/parity_score \
        --model MODEL.gguf --adapter ADAPTER_DIR --text FILE [--max-tokens 256]

Loads the folder with peft over the same dequantised weights in f32, scores the text, and compares the
log-likelihood of each token with what Concordat's engine gives for the same folder. Also checks that the token
ids are the same. Exit code 0 when the worst token differs by less than 1e-3 nat. Without --adapter it first
makes one: a few training steps on the text, exported as a job exports. Needs torch, transformers, tokenizers,
peft and gguf.
"""

import argparse
import json
import subprocess
import sys
import tempfile

import torch
from peft import PeftModel

import reference_model

TOLERANCE = 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--text", required=True)
    parser.add_argument("--max-tokens", default="256")
    args = parser.parse_args()
    common = [args.score, "--model", args.model, "--text", args.text, "--max-tokens", args.max_tokens]
    with tempfile.TemporaryDirectory() as made:
        if args.adapter is None:
            args.adapter = made
            subprocess.run(common + ["--train", "5", "--write", made], check=True)
        ours = json.loads(subprocess.run(common + ["--adapter", args.adapter], check=True, stdout=subprocess.PIPE,
                                         text=True).stdout)
        base, tokenizer = reference_model.load(args.model)
        with open(args.text, encoding="utf-8", newline="") as f:
            ids = tokenizer.encode(f.read()).ids[:int(args.max_tokens)]
        if ids != ours["tokens"]:
            sys.exit("token ids differ")
        with torch.no_grad():
            plain = score(base, ids)
            theirs = score(PeftModel.from_pretrained(base, args.adapter), ids)
    worst = max(abs(a - b) for a, b in zip(ours["log_likelihoods"], theirs, strict=True))
    moved = max(abs(a - b) for a, b in zip(plain, theirs))
    print(f"{len(ids)} tokens; loss per token: base {-sum(plain) / len(plain):.6f}, "
          f"peft {-sum(theirs) / len(theirs):.6f}, Concordat {-sum(ours['log_likelihoods']) / len(theirs):.6f}")
    print(f"worst difference of a token's log-likelihood: {worst:.2e} nat (the adapter moves one by up to {moved:.3f})")
    if moved < TOLERANCE:
        sys.exit("the adapter changes nothing: this shows nothing")
    if worst >= TOLERANCE:
        sys.exit(f"more than {TOLERANCE} apart")


def score(model, ids):
    model.eval()
    log_p = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return log_p[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1).tolist()


if __name__ == "__main__":
    main()
