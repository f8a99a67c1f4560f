#!/usr/bin/env python3
"""What the authors of the models claim, measured here: random weights of the real shapes, one GPU.

    bench/claims/run.py [--build BUILD] [--output FILE.json] [--short] CLAIM...

    constant-time     Falcon Mamba 7B: the time of a token and memory stay the same, 130,000 tokens
    long-prompt       Falcon Mamba 7B: a prompt of 1,000,000 tokens in constant memory
    zamba2            Zamba2-7B beside Llama-3-8B: first token and speed at prompts of 2k, 8k, 32k
    jamba             Jamba (52B, 12B active): contexts of 140k and 256k (needs more than 110 GB)
    mamba-in-llama    hybrid 8B, half of it attention, with a small draft at acceptance 0.65

BUILD is a build folder with the CUDA backend (build/cuda). --short runs a tenth of the lengths.
Floors: bytes that a pass must move (weights, state read and written, keys and values) over the
measured read bandwidth. Draft tokens are accepted by lot; every such line says so.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


class Runner:
    def __init__(self, build: Path):
        self.long_context = build / "bench/claims/long_context"
        self.sidewinder = build / "apps/sidewinder"
        self.bandwidth = None
        self.results = []

    def run(self, claim: str, *arguments: str) -> tuple:
        """Returns (pieces, summary) of one run, or (pieces, None) if it failed."""
        command = [str(self.long_context), *map(str, arguments)]
        print("#", " ".join(command[1:]), flush=True)
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0:
            print(f"  failed: {done.stderr.strip()}", flush=True)
            return lines, None
        self.results.append({"claim": claim, "arguments": list(map(str, arguments)),
                             "pieces": lines[:-1], "summary": lines[-1]})
        return lines[:-1], lines[-1]

    def floor(self, summary: dict, context: int, rows_per_round: float = 1.0) -> float:
        """Tokens a second that memory allows a plain or speculative verifier at that context."""
        if self.bandwidth is None:
            inspected = json.loads(subprocess.run(
                [str(self.sidewinder), "inspect", "--json", "--model", "synthetic:mamba-2.8b"],
                capture_output=True, text=True, check=True).stdout)
            self.bandwidth = inspected["read_bytes_per_second"]
        moved = (summary["weight_bytes"] + 2 * summary["state_bytes"]
                 + context * summary["kv_bytes_per_token"])
        return rows_per_round * self.bandwidth / moved


def gigabytes(value: int) -> str:
    return f"{value / 1e9:.2f} GB"


def constant_time(runner: Runner, scale: float) -> None:
    tokens = int(130_000 * scale)
    draft_model = "synthetic:mamba-130m:vocab=65024"
    for draft in ([], ["--draft", draft_model, "--draft-tokens", 3, "--acceptance", 0.8]):
        pieces, total = runner.run("constant-time", "generate", "synthetic:falcon-mamba-7b", tokens,
                                   "--every", 1000, *draft)
        if total is None:
            continue
        floor = runner.floor(total, 0)
        print("| position | tokens/s | memory |\n| --- | --- | --- |")
        step = max(1, len(pieces) // 10)
        for piece in pieces[::step] + pieces[-1:]:
            print(f"| {piece['position']:,} | {piece['tokens_per_second']:.1f} "
                  f"| {gigabytes(piece['memory_bytes'])} |")
        rates = [piece["tokens_per_second"] for piece in pieces]
        print(f"{total['tokens']:,} tokens: {total['tokens_per_second']:.1f} tokens/s, "
              f"{total['tokens_per_second'] / floor:.0%} of the floor {floor:.0f}; slowest 1,000 "
              f"{min(rates):.1f}, fastest {max(rates):.1f}; peak memory "
              f"{gigabytes(total['peak_memory_bytes'])}"
              + (f"; draft {draft_model}, accepted by lot" if draft else ""), flush=True)


def long_prompt(runner: Runner, scale: float) -> None:
    tokens = int(1_000_000 * scale)
    pieces, total = runner.run("long-prompt", "prefill", "synthetic:falcon-mamba-7b", tokens,
                               "--every", max(512, tokens // 10))
    if total is None:
        return
    print("| position | tokens/s | memory |\n| --- | --- | --- |")
    for piece in pieces:
        print(f"| {piece['position']:,} | {piece['tokens_per_second']:.0f} "
              f"| {gigabytes(piece['memory_bytes'])} |")
    print(f"{tokens:,} tokens in {total['seconds']:.1f} s, peak memory "
          f"{gigabytes(total['peak_memory_bytes'])}", flush=True)


def compare(runner: Runner, claim: str, models: list, prompts: list, new_tokens: int) -> None:
    print("| model | prompt | first token | tokens/s | floor | of floor | peak memory |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for prompt in prompts:
        for model in models:
            _, total = runner.run(claim, "generate", f"synthetic:{model}", new_tokens, "--prompt",
                                  prompt)
            if total is None:
                continue
            floor = runner.floor(total, prompt + new_tokens // 2)
            rows.append(f"| {model} | {prompt:,} | {total['ttft_ms']:.0f} ms "
                        f"| {total['tokens_per_second']:.1f} | {floor:.0f} "
                        f"| {total['tokens_per_second'] / floor:.0%} "
                        f"| {gigabytes(total['peak_memory_bytes'])} |")
    print("\n".join(rows), flush=True)


def zamba2(runner: Runner, scale: float) -> None:
    compare(runner, "zamba2", ["zamba2-7b", "llama3-8b"],
            [int(n * scale) for n in (2048, 8192, 32768)], 256)


def jamba(runner: Runner, scale: float) -> None:
    compare(runner, "jamba", ["jamba-v0.1"], [int(n * scale) for n in (140_000, 256_000)], 128)


def mamba_in_llama(runner: Runner, scale: float) -> None:
    model = "synthetic:mamba2-llama3-8b-50"
    tokens = int(512 * max(scale, 0.25))
    print("| draft tokens | acceptance | ms a round | tokens/s | speed-up |\n"
          "| --- | --- | --- | --- | --- |")
    plain = None
    rows = []
    for k in (0, 3, 4):
        draft = ["--draft", "synthetic:llama3.2-1b", "--draft-tokens", k, "--acceptance",
                 0.65] if k else []
        _, total = runner.run("mamba-in-llama", "generate", model, tokens, *draft)
        if total is None:
            continue
        if k == 0:
            plain = total["tokens_per_second"]
        round_ms = 1e3 * total["seconds"] / max(1, total["rounds"] - 1)
        acceptance = f"{total['acceptance_rate']:.2f} (by lot)" if k else "-"
        speedup = f"{total['tokens_per_second'] / plain:.2f}x" if plain else "-"
        rows.append(f"| {k} | {acceptance} | {round_ms:.2f} | {total['tokens_per_second']:.1f} "
                    f"| {speedup} |")
        if k == 0:
            floor = runner.floor(total, 16 + tokens // 2)
            rows[-1] += f" {plain / floor:.0%} of the floor {floor:.0f}"
    print("\n".join(rows), flush=True)


CLAIMS = {"constant-time": constant_time, "long-prompt": long_prompt, "zamba2": zamba2,
          "jamba": jamba, "mamba-in-llama": mamba_in_llama}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="+", choices=CLAIMS, metavar="CLAIM")
    parser.add_argument("--build", type=Path,
                        default=Path(__file__).resolve().parents[2] / "build/cuda")
    parser.add_argument("--output", type=Path, help="all figures as JSON")
    parser.add_argument("--short", action="store_true", help="a tenth of the lengths")
    args = parser.parse_args()
    runner = Runner(args.build)
    if not runner.long_context.exists():
        print(f"run.py: {runner.long_context} is not there; build it first "
              "(cmake --preset cuda && cmake --build --preset cuda)", file=sys.stderr)
        return 2
    for claim in args.claims:
        print(f"\n## {claim}", flush=True)
        CLAIMS[claim](runner, 0.1 if args.short else 1.0)
    if args.output:
        args.output.write_text(json.dumps(runner.results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
