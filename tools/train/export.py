"""Writes a model as a Hugging Face folder: configs, bfloat16 weights, tokenizer."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from corpus import END_OF_TEXT_ID
from model import CHUNK, CONV_KERNEL, EPSILON, EXPAND, Config, Mamba2

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def hugging_face_config(config: Config) -> dict:
    return {
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        "dtype": "bfloat16",
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_heads": config.heads,
        "head_dim": config.head_dim,
        "state_size": config.state,
        "n_groups": 1,
        "expand": EXPAND,
        "conv_kernel": CONV_KERNEL,
        "chunk_size": CHUNK,
        "hidden_act": "silu",
        "layer_norm_epsilon": EPSILON,
        "rms_norm": True,
        "use_bias": False,
        "use_conv_bias": True,
        "residual_in_fp32": True,
        "time_step_limit": [0.0, float("inf")],
        "tie_word_embeddings": True,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "pad_token_id": END_OF_TEXT_ID,
        "use_cache": True,
    }


def export(model: Mamba2, folder: Path, tokenizer: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = hugging_face_config(model.config)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {name: END_OF_TEXT_ID for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(special, indent=2) + "\n")
    weights = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
               for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).resolve() != (folder / name).resolve():
            shutil.copyfile(tokenizer / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True,
                        help="file that train.py or distill.py wrote (*.pt)")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    checkpoint = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    model = Mamba2(Config(**checkpoint["config"]))
    model.load_state_dict(checkpoint["model"])
    export(model, args.out, args.tokenizer)
    print(f"wrote {args.out}: {model.parameter_count():,} parameters")


if __name__ == "__main__":
    main()
