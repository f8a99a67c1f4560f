#!/usr/bin/env python3
"""Plain decoding with Hugging Face transformers."""

import common

ARGS = common.parse_args(__doc__)
try:
    import torch
    import transformers
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM
except ImportError as error:
    common.missing("transformers", error)


def build(generation, hidden_size, layers):
    shape = {"hidden_size": hidden_size, "num_hidden_layers": layers, "tie_word_embeddings": True,
             "vocab_size": -(-common.VOCAB // (8 * generation)) * 8 * generation}
    with torch.device(ARGS.device):
        if generation == 1:
            model = MambaForCausalLM(MambaConfig(state_size=16, **shape))
        else:
            model = Mamba2ForCausalLM(Mamba2Config(
                state_size=128, head_dim=64, num_heads=2 * hidden_size // 64, n_groups=1, **shape))
    model = model.to(getattr(torch, ARGS.dtype)).eval()
    if ARGS.compile:
        model.forward = torch.compile(model.forward, mode="reduce-overhead")
    return model


common.heading()
for preset in ARGS.presets:
    model = build(*common.PRESETS[preset])
    common.measure(torch, ARGS, "transformers", transformers.__version__, preset, model,
                   lambda prompt, n: model.generate(
                       prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                       max_new_tokens=n, min_new_tokens=n, eos_token_id=None, pad_token_id=0))
    del model
