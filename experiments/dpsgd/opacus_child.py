"""PEFT + PyTorch in bf16, without DP or as DP-SGD by Opacus, on the same work as tests/bench/train_bench.cc --batch.

"N" on standard input: N optimizer steps; answers with one line of JSON. Random weights: time does not depend on
them.
"""

import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def build(private, tokens, batch):
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
    if private:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        model = GradSampleModule(model)
        optimizer = DPOptimizer(optimizer, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=batch)
    ids = torch.randint(0, 49152, (batch, tokens))
    # Each sample has its own row, so that position ids have the batch in front.
    positions = torch.arange(tokens).unsqueeze(0).expand(batch, -1).contiguous()

    def step():
        loss = model(input_ids=ids, labels=ids, position_ids=positions, use_cache=False).loss
        loss.backward()
        if not private:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


mode, tokens, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
step = build(mode == "opacus", tokens, batch)
for line in sys.stdin:
    n = int(line)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(n):
        step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps": n, "seconds": seconds, "cpu_seconds": time.process_time() - cpu,
                      "tokens_per_s": tokens * batch * n / seconds, "peak_mib": round(peak)}), flush=True)
