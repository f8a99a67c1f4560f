"""What the scripts of this folder share: shapes, timing and the line of the table.

The work is that of `sidewinder bench --model synthetic:<preset> --prompt-tokens 16
--max-new-tokens 512`: random weights of a real shape, one sequence, greedy, no stop token.
"""

import argparse
import sys
import time

VOCAB = 50277
# (Mamba generation, hidden size, layers)
PRESETS = {
    "mamba-tiny": (1, 64, 2), "mamba-130m": (1, 768, 24), "mamba-370m": (1, 1024, 48),
    "mamba-790m": (1, 1536, 48), "mamba-1.4b": (1, 2048, 48), "mamba-2.8b": (1, 2560, 64),
    "mamba2-tiny": (2, 64, 2), "mamba2-130m": (2, 768, 24), "mamba2-370m": (2, 1024, 48),
    "mamba2-780m": (2, 1536, 48), "mamba2-1.3b": (2, 2048, 48), "mamba2-2.7b": (2, 2560, 64),
}


def parse_args(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("presets", nargs="+", choices=PRESETS, metavar="preset",
                        help=", ".join(PRESETS))
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3, help="runs; the fastest counts")
    parser.add_argument("--read-gbps", type=float, help="bandwidth of the floor in GB/s, as "
                        "`sidewinder inspect` measures it (default: measured with torch.sum)")
    parser.add_argument("--compile", action="store_true",
                        help="torch.compile with CUDA graphs, where the engine records none itself")
    return parser.parse_args()


def missing(package, error):
    sys.exit(f"{package} is not usable here, nothing measured: {error}")


def read_bandwidth(torch, device):
    data = torch.ones(1 << 28, dtype=torch.float32, device=device)  # 1 GiB
    return max(data.numel() * 4 / seconds(torch, device, data.sum) for _ in range(10))


def seconds(torch, device, run):
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(torch, args, engine, version, preset, model, generate):
    """Prints a line. `generate(prompt, n)` makes exactly n new tokens; what n tokens take beyond
    one is time of decoding alone."""
    torch.manual_seed(0)
    prompt = torch.randint(0, VOCAB, (1, args.prompt_tokens), device=args.device)
    generate(prompt, args.max_new_tokens)  # compiles, records graphs
    many, one = (min(seconds(torch, args.device, lambda n=n: generate(prompt, n))
                     for _ in range(args.repeat)) for n in (args.max_new_tokens, 1))
    per_token = (many - one) / (args.max_new_tokens - 1)
    bandwidth = args.read_gbps * 1e9 if args.read_gbps else read_bandwidth(torch, args.device)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())  # tied ones count once
    print(f"{engine:14} {version:10} {preset:12} {args.dtype:9} {1 / per_token:9.1f} "
          f"{per_token * 1e3:9.3f} {bandwidth / weights:9.1f}", flush=True)


def heading():
    print(f"{'engine':14} {'version':10} {'model':12} {'dtype':9} {'tokens/s':>9} "
          f"{'ms/token':>9} {'floor':>9}")
