#!/usr/bin/env python3
"""Plain decoding with Hugging Face transformers."""

import common

PARSER = common.option_parser(__doc__)
PARSER.add_argument("--compile", action="store_true", help="decode with generate's own "
                    "torch.compile and CUDA graphs (cache_implementation='static'); minutes of "
                    "compilation for a large model")
ARGS = common.parse_args(PARSER)
try:
    import torch
    import transformers
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM
    from transformers.generation import CompileConfig
except ImportError as error:
    common.missing("transformers", error)


def build(generation, hidden_size, layers):
    shape = {"hidden_size": hidden_size, "num_hidden_layers": layers, "tie_word_embeddings": True,
             "vocab_size": common.padded_vocab(generation)}
    with torch.device(ARGS.device):
        if generation == 1:
            model = MambaForCausalLM(MambaConfig(state_size=16, **shape))
        else:
            model = Mamba2ForCausalLM(Mamba2Config(
                state_size=128, head_dim=64, num_heads=2 * hidden_size // 64, n_groups=1, **shape))
    return model.to(getattr(torch, ARGS.dtype)).eval()


def generation_options():
    if not ARGS.compile:
        return {}
    # The default of CompileConfig is what generate compiles with by itself; on a CPU it must be
    # asked to and there are no CUDA graphs.
    config = CompileConfig() if ARGS.device == "cuda" else CompileConfig(mode="default")
    config._compile_all_devices = ARGS.device == "cpu"
    return {"cache_implementation": "static", "compile_config": config}


def measure(preset):
    model = build(*common.PRESETS[preset])
    options = generation_options()

    def generate(prompt, n):
        return model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                              max_new_tokens=n, min_new_tokens=n, eos_token_id=None,
                              pad_token_id=0, **options)

    if ARGS.compile:  # the second call after another length compiles again
        for n in (ARGS.max_new_tokens, 1):
            generate(torch.ones(1, ARGS.prompt_tokens, dtype=torch.long, device=ARGS.device), n)
    per_token = common.seconds_per_token(torch, ARGS, generate)
    # transformers takes kernels of mamba_ssm and causal_conv1d if it finds those packages whole
    kernels = [name for name in ("mamba_ssm", "causal_conv1d") if importable(name)]
    how = ["compiled" if ARGS.compile else "eager",
           "kernels of " + ", ".join(kernels) if kernels else "no kernels of mamba_ssm"]
    common.print_line(ARGS, "transformers", transformers.__version__, preset, per_token,
                      common.weight_bytes(model), "; ".join(how))


def importable(name):
    try:
        __import__(name)
    except Exception:
        return False
    return True


common.check_device(torch, ARGS)
common.measure_presets(ARGS, measure)
