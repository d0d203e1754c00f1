#!/usr/bin/env python3
"""Writes tests/data/parity/smollm2_gradients.json: loss and LoRA gradients of peft in f32.

    python experiments/parity/make_gradient_fixture.py MODEL.gguf tests/data/parity/smollm2_gradients.json

Adapter: rank 4, alpha 8, all seven linear layers, element i of the flat vector (layer, then target, then A
before B, row-major) is 0.02 · hash_unit(7, i). Loss: summed over the tokens from the second on. For every
factor the norm of its gradient, for those of three layers 16 of its elements. Needs torch, transformers,
tokenizers, peft and gguf.
"""

import json
import sys

import torch
from peft import LoraConfig, get_peft_model

import reference_model

RANK, ALPHA, SEED, SIZE = 4, 8, 7, 0.02
SAMPLED_LAYERS = (0, 14, 29)


def factors(model):
    """(name, parameter) in the order of the flat vector."""
    by_name = dict(model.named_parameters())
    for layer in range(model.config.num_hidden_layers):
        for target in reference_model.TARGETS:
            for factor in "AB":
                key = (f"base_model.model.model.layers.{layer}.{reference_model.MODULES[target]}.{target}"
                       f".lora_{factor}")
                yield layer, key + ".weight", by_name[key + ".default.weight"]


def main(model_path, out_path):
    base, tokenizer = reference_model.load(model_path)
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0,
                                            target_modules=reference_model.TARGETS))
    model.eval()
    offset = 0
    with torch.no_grad():
        for _, _, p in factors(model):
            values = SIZE * reference_model.hash_unit(SEED, p.numel(), offset)
            p.copy_(torch.from_numpy(values).to(torch.float32).view(p.shape))
            offset += p.numel()
    prompts = []
    for language, text in reference_model.PROMPTS.items():
        ids = torch.tensor([tokenizer.encode(text).ids])
        model.zero_grad()
        logits = model(ids).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
        loss.backward()
        norms, samples = {}, {}
        for layer, name, p in factors(model):
            short = name.removeprefix("base_model.model.model.layers.").removesuffix(".weight")
            norms[short] = float(f"{p.grad.double().norm():.7g}")
            if layer in SAMPLED_LAYERS:
                flat = p.grad.flatten()
                at = ((reference_model.hash_unit(13, 16) + 1) / 2 * flat.numel()).astype(int).tolist()
                samples[short] = [float(f"{x:.7g}") for x in flat[at].tolist()]
        prompts.append({"language": language, "tokens": ids[0].tolist(),
                        "loss_sum": round(float(loss.detach().double()), 6), "norms": norms, "samples": samples})
        print(language, "loss", float(loss))
    with open(out_path, "w") as f:
        json.dump({"model_sha256": reference_model.sha256(model_path), "rank": RANK, "alpha": ALPHA, "seed": SEED,
                   "size": SIZE, "sample_seed": 13, "torch": torch.__version__, "prompts": prompts}, f,
                  separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
