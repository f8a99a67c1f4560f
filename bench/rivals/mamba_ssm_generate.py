#!/usr/bin/env python3
"""Plain decoding with mamba_ssm, the authors' code, CUDA graphs on (`cg=True`).

An installed mamba_ssm is used as it is. Its Python sources alone (`--packages`, as setup.sh lays
them out) suffice, too: decoding needs Triton only. What is compiled, selective_scan_cuda, is for
prompts; without it a prompt goes through the model's decoding step, token by token. The prompt
is not part of the time.
"""

import sys
import types

import common

ARGS = common.parse_args(common.option_parser(__doc__.partition("\n")[0]))
try:
    import selective_scan_cuda
except ImportError:
    # Imported by name wherever mamba_ssm is. Mamba-3 is not measured, and its module wants more.
    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")
    sys.modules["mamba_ssm.modules.mamba3"] = types.ModuleType("mamba_ssm.modules.mamba3")
    sys.modules["mamba_ssm.modules.mamba3"].Mamba3 = None
    PROMPT_KERNELS = False
else:
    PROMPT_KERNELS = True
try:
    import torch
    import mamba_ssm
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
    from mamba_ssm.modules import mamba2, mamba_simple
except Exception as error:  # its compiled parts fail in many ways
    common.missing("mamba_ssm", error)


def take_prompts_by_step(mixer):
    forward = mixer.forward

    def forward_by_step(self, hidden_states, inference_params=None, **kwargs):
        if inference_params.seqlen_offset > 0:
            return forward(self, hidden_states, inference_params=inference_params, **kwargs)
        states = self._get_states_from_cache(inference_params, hidden_states.shape[0],
                                             initialize_states=True)
        return torch.cat([self.step(token, *states)[0] for token in hidden_states.split(1, dim=1)],
                         dim=1)

    mixer.forward = forward_by_step


def build(generation, hidden_size, layers):
    config = MambaConfig(d_model=hidden_size, n_layer=layers, vocab_size=common.VOCAB,
                         ssm_cfg={"layer": f"Mamba{generation}"}, rms_norm=True,
                         residual_in_fp32=True, fused_add_norm=True,
                         pad_vocab_size_multiple=8 * generation, tie_embeddings=True)
    return MambaLMHeadModel(config, device=ARGS.device, dtype=getattr(torch, ARGS.dtype)).eval()


def how():
    conv = "without" if mamba_simple.causal_conv1d_update is None else "with"
    prompt = "prompt by its kernels" if PROMPT_KERNELS else "prompt by the decoding step"
    return f"CUDA graph; {conv} causal_conv1d; {prompt}"


def measure(preset):
    model = build(*common.PRESETS[preset])
    per_token = common.seconds_per_token(
        torch, ARGS, lambda prompt, n: model.generate(input_ids=prompt, cg=True, top_k=1,
                                                      max_length=prompt.shape[1] + n))
    common.print_line(ARGS, "mamba_ssm", mamba_ssm.__version__, preset, per_token,
                      common.weight_bytes(model), how())


if ARGS.device != "cuda":
    sys.exit("mamba_ssm decodes on CUDA only, nothing measured")
common.check_device(torch, ARGS)
if mamba_simple.selective_state_update is None or mamba2.selective_state_update is None:
    sys.exit("mamba_ssm finds no Triton here and would decode without its kernels")
if not PROMPT_KERNELS:
    take_prompts_by_step(mamba_simple.Mamba)
    take_prompts_by_step(mamba2.Mamba2)
common.measure_presets(ARGS, measure)
