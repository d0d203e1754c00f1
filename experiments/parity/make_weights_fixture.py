#!/usr/bin/env python3
"""Writes tests/data/model/smollm2_weights.json: SHA-256 of every tensor of a GGUF file, dequantised to f32 by the
package `gguf`, with Hugging Face's names and row order.

    python3 experiments/parity/make_weights_fixture.py MODEL.gguf tests/data/model/smollm2_weights.json
"""

import hashlib
import json
import re
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def hf_name(name):
    base = name.removesuffix(".weight")
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)", base)
    return (f"model.layers.{match[1]}.{LAYER[match[2]]}" if match else GLOBAL[base]) + ".weight"


def main():
    reader = GGUFReader(sys.argv[1])
    field = lambda key: reader.fields[f"llama.{key}"].contents()
    heads = {"attn_q": field("attention.head_count"), "attn_k": field("attention.head_count_kv")}
    out = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for key, n in heads.items():
            if f".{key}." in tensor.name:
                rows, cols = values.shape
                values = values.reshape(n, rows // n // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
        out[hf_name(tensor.name)] = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        json.dump(out, f, indent=0, sort_keys=True)
        f.write("\n")
    print(f"{len(out)} tensors")


if __name__ == "__main__":
    main()
