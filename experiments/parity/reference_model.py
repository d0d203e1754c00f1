"""SmolLM2 out of its GGUF file as transformers' LlamaForCausalLM in f32, and its tokenizer.

The weights are dequantised by the `gguf` package, q and k un-permuted to Hugging Face's row order. The
tokenizer is built from the file's own vocabulary with the pre-tokenizer that "smollm" stands for (single
digits, then GPT-2's byte level); transformers' own GGUF import leaves the digits out.
"""

import hashlib

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MODULES = {
    "q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
    "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp",
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _field(reader, name):
    return reader.fields[name].contents()


def load(path):
    """(model in f32 with eager attention, tokenizer)."""
    reader = gguf.GGUFReader(path)
    heads = _field(reader, "llama.attention.head_count")
    kv_heads = _field(reader, "llama.attention.head_count_kv")
    tokens = _field(reader, "tokenizer.ggml.tokens")
    tensors = {t.name: torch.from_numpy(gguf.dequantize(t.data, t.tensor_type).astype(np.float32))
               for t in reader.tensors}
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_theta=_field(reader, "llama.rope.freq_base"),
        rms_norm_eps=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        max_position_embeddings=_field(reader, "llama.context_length"),
        tie_word_embeddings="output.weight" not in tensors,
        attn_implementation="eager",
    )
    if getattr(config, "rope_parameters", None) is not None:  # transformers 5 moved it
        config.rope_parameters["rope_theta"] = _field(reader, "llama.rope.freq_base")
    model = LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": tensors["token_embd.weight"],
             "model.norm.weight": tensors["output_norm.weight"]}
    state["lm_head.weight"] = tensors.get("output.weight", tensors["token_embd.weight"])
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    for i in range(config.num_hidden_layers):
        prefix = f"model.layers.{i}."
        state[prefix + "input_layernorm.weight"] = tensors[f"blk.{i}.attn_norm.weight"]
        state[prefix + "post_attention_layernorm.weight"] = tensors[f"blk.{i}.ffn_norm.weight"]
        for target, name in names.items():
            w = tensors[f"blk.{i}.{name}.weight"]
            if target in ("q_proj", "k_proj"):
                h = heads if target == "q_proj" else kv_heads
                w = w.reshape(h, w.shape[0] // h // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            state[prefix + MODULES[target] + "." + target + ".weight"] = w
    model.load_state_dict(state, strict=True)
    model.eval()

    merges = [tuple(m.split(" ", 1)) for m in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return model, tokenizer


def hash_unit(seed, count, first=0):
    """Numbers in [-1, 1): SplitMix64's finaliser over the index, as HashUnit in the C++ tests."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.arange(first, first + count, dtype=np.uint64)
        z = z + np.uint64(1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


PROMPTS = {
    "en": "The ls command lists information about files. By default, entries are sorted alphabetically; with -t "
          "the newest come first, and in 2026 that still surprises people.",
    "de": "Der Befehl ls zeigt Informationen über Dateien an. Ohne Optionen werden die Einträge alphabetisch "
          "sortiert; Größe und Änderungszeit gibt es mit -l.",
    "fr": "La commande ls affiche des informations sur les fichiers. Par défaut, les entrées sont triées par "
          "ordre alphabétique ; l’option -a montre aussi les fichiers cachés.",
}
