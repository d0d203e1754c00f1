"""PEFT + PyTorch on the same work as tests/bench/train_bench.cc, one command a line from standard input.

"N": N training steps; "gemm": the bare products of the frozen weights for one step. Answers with one line of
JSON each. Random weights: time does not depend on them.
"""

import json
import resource
import sys
import time

import torch


def build(compiled):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
                         tie_word_embeddings=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0)
    run = torch.compile(model) if compiled else model
    ids = torch.randint(0, 49152, (1, TOKENS))

    def step():
        loss = run(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def gemm():
    """Forward and input-gradient products of every frozen matrix, the head in chunks of 256, into memory that
    exists: what no implementation of this step can do without."""
    shapes = [(960, 576), (576, 576), (3072, 576), (576, 1536)]
    layers = [[torch.randn(o, i).to(torch.bfloat16) for o, i in shapes] for _ in range(30)]
    head = torch.randn(49152, 576).to(torch.bfloat16)
    xs = [torch.randn(TOKENS, i).to(torch.bfloat16) for _, i in shapes]
    ys = [torch.randn(TOKENS, o).to(torch.bfloat16) for o, _ in shapes]
    chunk = min(TOKENS, 256)
    logits = torch.empty(chunk, 49152, dtype=torch.bfloat16)
    x = torch.randn(chunk, 576).to(torch.bfloat16)

    def step():
        for layer in layers:
            for w, a, y in zip(layer, xs, ys):
                torch.mm(a, w.t(), out=y)
        for _ in range(TOKENS // chunk):
            torch.mm(x, head.t(), out=logits)
            torch.mm(logits, head, out=x)
        for number, layer in enumerate(reversed(layers)):
            for w, a, y in zip(layer, xs, ys):
                if number < 29 or w.shape[0] != 960:  # nothing learns below the first layer
                    torch.mm(y, w, out=a)

    return step


TOKENS = int(sys.argv[2])
MODE = sys.argv[1]  # eager, compile or gemm
step = gemm() if MODE == "gemm" else build(MODE == "compile")
for line in sys.stdin:
    n = int(line)
    start = time.perf_counter()
    with torch.set_grad_enabled(MODE != "gemm"):
        for _ in range(n):
            step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps": n, "seconds": seconds, "tokens_per_s": TOKENS * n / seconds, "peak_mib": round(peak)}),
          flush=True)
