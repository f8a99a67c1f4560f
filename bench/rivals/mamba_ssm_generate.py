#!/usr/bin/env python3
"""Plain decoding with mamba_ssm, the authors' code, CUDA graphs on (`cg=True`)."""

import common

ARGS = common.parse_args(__doc__)
try:
    import mamba_ssm
    import torch
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
except Exception as error:  # its compiled parts fail in many ways
    common.missing("mamba_ssm", error)


def build(generation, hidden_size, layers):
    config = MambaConfig(d_model=hidden_size, n_layer=layers, vocab_size=common.VOCAB,
                         ssm_cfg={"layer": f"Mamba{generation}"}, rms_norm=True,
                         residual_in_fp32=True, fused_add_norm=True,
                         pad_vocab_size_multiple=8 * generation, tie_embeddings=True)
    return MambaLMHeadModel(config, device=ARGS.device, dtype=getattr(torch, ARGS.dtype)).eval()


common.heading()
for preset in ARGS.presets:
    model = build(*common.PRESETS[preset])
    common.measure(torch, ARGS, "mamba_ssm", mamba_ssm.__version__, preset, model,
                   lambda prompt, n: model.generate(input_ids=prompt, cg=True, top_k=1,
                                                    max_length=prompt.shape[1] + n))
    del model
