"""What the scripts of this folder share: shapes, options, timing and the line of the table.

The work is that of `sidewinder bench --model synthetic:<preset> --prompt-tokens 16
--max-new-tokens 512`: random weights of a real shape, one sequence, greedy, no stop token.
"""

import argparse
import functools
import os
import sys
import time
import traceback

VOCAB = 50277
# (Mamba generation, hidden size, layers)
PRESETS = {
    "mamba-tiny": (1, 64, 2), "mamba-130m": (1, 768, 24), "mamba-370m": (1, 1024, 48),
    "mamba-790m": (1, 1536, 48), "mamba-1.4b": (1, 2048, 48), "mamba-2.8b": (1, 2560, 64),
    "mamba2-tiny": (2, 64, 2), "mamba2-130m": (2, 768, 24), "mamba2-370m": (2, 1024, 48),
    "mamba2-780m": (2, 1536, 48), "mamba2-1.3b": (2, 2048, 48), "mamba2-2.7b": (2, 2560, 64),
}


def padded_vocab(generation):
    multiple = 8 * generation
    return -(-VOCAB // multiple) * multiple


def option_parser(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("presets", nargs="+", choices=PRESETS, metavar="preset",
                        help=", ".join(PRESETS))
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3, help="runs; the fastest counts")
    parser.add_argument("--read-gbps", type=float, help="bandwidth of the floor in GB/s, as "
                        "`sidewinder inspect` measures it (default: measured with torch.sum)")
    parser.add_argument("--packages", metavar="DIR", type=os.path.abspath,
                        help="folder that setup.sh filled; its packages come first")
    return parser


def parse_args(parser):
    args = parser.parse_args()
    if args.max_new_tokens < 2 or args.prompt_tokens < 1 or args.repeat < 1:
        parser.error("needs --max-new-tokens >= 2, --prompt-tokens >= 1 and --repeat >= 1")
    if args.packages:
        if not os.path.isdir(args.packages):
            parser.error(f"--packages: no folder {args.packages}; setup.sh makes it")
        sys.path.insert(0, args.packages)
    return args


def missing(package, error):
    sys.exit(f"{package} is not usable here, nothing measured: {type(error).__name__}: {error}")


def check_device(torch, args):
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device, nothing measured")


def seconds(torch, device, run):
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@functools.cache
def read_bandwidth(device):
    import torch  # llama_cpp.py gets along without it if --read-gbps is given
    data = torch.ones(1 << 28, dtype=torch.float32, device=device)  # 1 GiB
    return max(data.numel() * 4 / seconds(torch, device, data.sum) for _ in range(10))


def seconds_per_token(torch, args, generate):
    """`generate(prompt, n)` makes exactly n new tokens. What n tokens take beyond one is decoding
    alone: the prompt, and whatever an engine does once a call, is in both."""
    torch.manual_seed(0)
    prompt = torch.randint(0, VOCAB, (1, args.prompt_tokens), device=args.device)
    made = generate(prompt, args.max_new_tokens).shape[1] - args.prompt_tokens
    if made != args.max_new_tokens:
        raise RuntimeError(f"{made} new tokens instead of {args.max_new_tokens}")
    many, one = (min(seconds(torch, args.device, lambda n=n: generate(prompt, n))
                     for _ in range(args.repeat)) for n in (args.max_new_tokens, 1))
    return (many - one) / (args.max_new_tokens - 1)


def weight_bytes(model):
    return sum(p.numel() * p.element_size() for p in model.parameters())  # tied ones count once


def print_heading():
    print(f"{'engine':14} {'version':12} {'model':12} {'dtype':9} {'tokens/s':>9} "
          f"{'ms/token':>9} {'floor':>9}  how", flush=True)


def print_line(args, engine, version, preset, per_token, num_weight_bytes, how):
    """The floor, in tokens/s, is what reading every weight once a token would give."""
    bandwidth = args.read_gbps * 1e9 if args.read_gbps else read_bandwidth(args.device)
    print(f"{engine:14} {version:12} {preset:12} {args.dtype:9} {1 / per_token:9.1f} "
          f"{per_token * 1e3:9.3f} {bandwidth / num_weight_bytes:9.1f}  {how}", flush=True)


def measure_presets(args, measure):
    """Calls `measure(preset)` for each. One that fails is reported and does not stop the rest."""
    print_heading()
    failed = []
    for preset in args.presets:
        try:
            measure(preset)
        except Exception:
            traceback.print_exc()
            failed.append(preset)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
