#!/usr/bin/env python3
"""What --draft-tokens auto is worth on this machine: a table, from `sidewinder bench`.

  per category   auto against every fixed K on the prompts of one category alone
  mixed          all prompts in the order of the file, one engine for all
  useless draft  every proposal is rejected (--synthetic-acceptance 0), against plain decoding

docs/tuning.md says what to expect: within 3 % of the best fixed K in every category, faster than every
fixed K on the mix, at most 2 % slower than plain decoding with a useless draft. Timings of one run on
a machine that others use scatter by more than that; give --repeat.

  bench/auto_benchmark.py build/cpu/apps/sidewinder --tune
  bench/auto_benchmark.py build/cuda/apps/sidewinder --device cuda --profile profile.json --repeat 5
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sidewinder", help="the program")
    parser.add_argument("--model", default=ROOT / "checkpoints/sidewinder-10m")
    parser.add_argument("--draft", default=ROOT / "checkpoints/sidewinder-draft-1m")
    parser.add_argument("--prompts", default=ROOT / "checkpoints/prompts/heldout.jsonl", type=Path,
                        help='JSON lines with a "class" or "category"')
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", default=0, type=int)
    parser.add_argument("--profile", help="tuning profile; default: the one in the cache")
    parser.add_argument("--tune", action="store_true", help="measure a profile for this run first")
    parser.add_argument("--time-budget", default=60, type=float, help="seconds of --tune")
    parser.add_argument("--lengths", default="1,2,3,4,5,6", help="the fixed K")
    parser.add_argument("--limit", default=0, type=int, help="prompts of a category; 0: all")
    parser.add_argument("--max-new-tokens", default=128, type=int)
    parser.add_argument("--repeat", default=3, type=int)
    return parser.parse_args()


def common_flags(args):
    return ["--model", args.model, "--draft", args.draft, "--device", args.device,
            "--threads", args.threads]


def run(args, *command):
    return subprocess.run([args.sidewinder, *map(str, command)], check=True,
                          stdout=subprocess.PIPE).stdout


def bench(args, prompts, *flags):
    """Tokens per second by the number of draft tokens; 0 is plain decoding."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(prompt) + "\n" for prompt in prompts)
        file.flush()
        profile = ["--profile", args.profile] if args.profile else []
        result = json.loads(run(
            args, "bench", *common_flags(args), *profile, "--prompts", file.name, "--ignore-eos",
            "--max-new-tokens", args.max_new_tokens, "--repeat", args.repeat, "--json", *flags))
    return {row["draft_tokens"]: row["tokens_per_second"] for row in result["results"]}


def read_prompts(path):
    prompts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    categories = {}
    for prompt in prompts:
        category = prompt.get("category", prompt.get("class", "all"))
        categories.setdefault(category, []).append(prompt)
    return categories


def main():
    args = parse_arguments()
    categories = read_prompts(args.prompts)
    if args.limit:
        categories = {name: prompts[:args.limit] for name, prompts in categories.items()}
    # One of each category after the other.
    longest = max(map(len, categories.values()))
    mixed = [prompts[i] for i in range(longest) for prompts in categories.values()
             if i < len(prompts)]
    with tempfile.TemporaryDirectory() as folder:
        if args.tune:
            args.profile = Path(folder) / "profile.json"
            run(args, "tune", *common_flags(args), "--time-budget", args.time_budget,
                "--output", args.profile)
        lengths = [int(k) for k in args.lengths.split(",")]
        print("tokens/s", *["plain" if k == 0 else f"K={k}" for k in [0, *lengths]], "auto",
              "auto against the best fixed K", sep=" | ")
        for name, prompts in [*categories.items(), ("mixed", mixed)]:
            speeds = bench(args, prompts, "--draft-tokens", args.lengths + ",auto")
            fixed = [speeds[k] for k in [0, *lengths]]
            print(name, *[f"{speed:.0f}" for speed in fixed], f"{speeds['auto']:.0f}",
                  f"{100 * (speeds['auto'] / max(fixed) - 1):+.1f} %", sep=" | ", flush=True)
        speeds = bench(args, mixed, "--draft-tokens", "auto", "--synthetic-acceptance", 0)
        print(f"useless draft (SYNTHETIC ACCEPTANCE 0): plain {speeds[0]:.0f}, auto "
              f"{speeds['auto']:.0f}: {100 * (speeds['auto'] / speeds[0] - 1):+.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
