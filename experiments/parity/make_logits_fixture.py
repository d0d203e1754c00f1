#!/usr/bin/env python3
"""Writes tests/data/parity/smollm2_logits.json: logits of transformers in f32 for prompts in three languages.

    python experiments/parity/make_logits_fixture.py MODEL.gguf tests/data/parity/smollm2_logits.json

For chosen positions it keeps the 64 largest logits and those of 64 fixed random tokens. Needs torch,
transformers, tokenizers and gguf.
"""

import json
import sys

import numpy as np
import torch

import reference_model


def main(model_path, out_path):
    model, tokenizer = reference_model.load(model_path)
    fixed = ((reference_model.hash_unit(11, 64) + 1) / 2 * model.config.vocab_size).astype(int).tolist()
    prompts = []
    for language, text in reference_model.PROMPTS.items():
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        rows = []
        for position in (0, 1, len(ids) // 2, len(ids) - 1):
            best = torch.topk(logits[position], 64).indices.tolist()
            chosen = best + fixed
            values = [round(float(x), 5) for x in logits[position][chosen]]
            rows.append({"position": position, "ids": chosen, "logits": values})
        loss = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:]), reduction="sum")
        prompts.append({"language": language, "text": text, "tokens": ids, "rows": rows,
                        "loss_sum": round(float(loss), 6)})
        print(language, len(ids), "tokens, loss per token", float(loss) / (len(ids) - 1))
    with open(out_path, "w") as f:
        json.dump({"model_sha256": reference_model.sha256(model_path), "torch": torch.__version__,
                   "prompts": prompts}, f, separators=(",", ":"), ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
