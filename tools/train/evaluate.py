"""Measures a pair of checkpoints: bits per byte, agreement of draft and verifier, sample texts.

Greedy figures: the verifier continues held-out prompts; the draft reads the same text. As a round
of speculation always continues the verifier's own text, the places where the draft's first choice
equals the next token tell exactly what any draft length would have accepted.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from corpus import END_OF_TEXT_ID, text_bytes, token_stream
from model import Mamba2, default_device, generate, load, precision

VERIFY_COST = 1.2  # of a plain verifier step
DRAFT_OVERHEAD = 0.03  # of a plain verifier step, beyond the share of bytes


@torch.no_grad()
def bits_per_byte(model: Mamba2, tokens: Tensor, text_size: int, context: int) -> float:
    """Over consecutive windows of the held-out text, each from an empty state."""
    total = 0.0
    padded = F.pad(tokens, (0, -(len(tokens) - 1) % context), value=-100)
    for rows in padded.unfold(0, context + 1, context).split(16):
        with precision(tokens.device):
            logits = model(rows[:, :-1].clamp(min=0))
        targets = rows[:, 1:].flatten()
        total += F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum").item()
    return total / math.log(2) / text_size


def encode_prompts(texts: list[str], tokenizer: Tokenizer, new_tokens: int,
                   device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of ids with room for the continuation, and the lengths of the prompts."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.zeros(len(ids), int(lengths.max()) + new_tokens, dtype=torch.long)
    for row, prompt in zip(tokens, ids):
        row[:len(prompt)] = torch.tensor(prompt)
    return tokens.to(device), lengths.to(device)


def continued(tokens: Tensor, lengths: Tensor) -> Tensor:
    """[batch, time - 1]: which next tokens the verifier chose, up to the first end of text."""
    generated = torch.arange(1, tokens.shape[1], device=tokens.device) >= lengths[:, None]
    ended = (generated & (tokens[:, 1:] == END_OF_TEXT_ID)).int().cumsum(1)
    return generated & (ended - (tokens[:, 1:] == END_OF_TEXT_ID).int() == 0)


def rounds(matches: list[bool], draft_length: int) -> list[int]:
    """Accepted counts of successive rounds over one text. Each round adds one token of its own."""
    accepted, position = [], 0
    while position + draft_length <= len(matches):
        count = 0
        while count < draft_length and matches[position + count]:
            count += 1
        accepted.append(count)
        position += count + 1
    return accepted


@torch.no_grad()
def greedy_matches(draft: Mamba2, text: Tensor) -> Tensor:
    """[batch, time - 1]: where the draft's first choice is the next token of the text."""
    rows = []
    for part in text.split(32):
        with precision(text.device):
            rows.append(draft(part[:, :-1]).argmax(-1) == part[:, 1:])
    return torch.cat(rows)


def greedy_figures(matches: Tensor, counted: Tensor, draft_length: int) -> dict:
    counts = []
    for row, keep in zip(matches, counted):
        counts += rounds(row[keep].tolist(), draft_length)
    reached = [sum(n >= i for n in counts) for i in range(draft_length + 1)]
    return {
        "agreement": matches[counted].float().mean().item(),
        "per_position": [b / max(a, 1) for a, b in zip(reached, reached[1:])],
        "mean_acceptance_length": 1 + sum(counts) / max(len(counts), 1),
        "tokens": int(counted.sum()),
    }


@torch.no_grad()
def overlap(verifier: Mamba2, draft: Mamba2, text: Tensor, temperature: float) -> Tensor:
    """[batch, time - 1]: the chance that rejection sampling keeps a token of the draft."""
    rows = []
    for part in text.split(8):
        with precision(text.device):
            p = (verifier(part[:, :-1]).float() / temperature).softmax(-1)
            q = (draft(part[:, :-1]).float() / temperature).softmax(-1)
        rows.append(torch.minimum(p, q).sum(-1))
    return torch.cat(rows)


def estimated_speedups(verifier: Mamba2, draft: Mamba2, greedy: dict) -> dict[int, float]:
    """For each draft length: tokens of a round over its cost in plain verifier steps."""
    step = draft.parameter_count() / verifier.parameter_count() + DRAFT_OVERHEAD
    out, tokens, chance = {}, 1.0, 1.0
    for length, position in enumerate(greedy["per_position"], start=1):
        chance *= position
        tokens += chance
        out[length] = tokens / (VERIFY_COST + length * step)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verifier", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--draft", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of valid.txt.zst")
    parser.add_argument("--prompts", type=Path, required=True, help="heldout.jsonl")
    parser.add_argument("--new-tokens", type=int, default=256, help="default %(default)s")
    parser.add_argument("--draft-length", type=int, default=6, help="default %(default)s")
    parser.add_argument("--temperature", type=float, default=0.8, help="default %(default)s")
    parser.add_argument("--context", type=int, default=1024, help="default %(default)s")
    parser.add_argument("--samples", type=int, default=6, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = default_device()
    verifier, draft = load(args.verifier, device), load(args.draft, device)
    tokenizer = Tokenizer.from_file(str(args.verifier / "tokenizer.json"))
    figures = {"verifier_parameters": verifier.parameter_count(),
               "draft_parameters": draft.parameter_count()}

    ids = token_stream(args.corpus, "valid", tokenizer, None)
    valid = torch.from_numpy(ids.astype("int64")).to(device)
    size = text_bytes(args.corpus, "valid")
    figures["verifier_bits_per_byte"] = bits_per_byte(verifier, valid, size, args.context)
    figures["draft_bits_per_byte"] = bits_per_byte(draft, valid, size, args.context)

    prompts = [json.loads(line) for line in args.prompts.read_text().splitlines()]
    tokens, lengths = encode_prompts([p["prompt"] for p in prompts], tokenizer, args.new_tokens,
                                     device)
    texts = {t: generate(verifier, tokens, lengths, torch.full((len(tokens),), t, device=device))
             for t in (0.0, args.temperature)}
    counted = {t: continued(text, lengths) for t, text in texts.items()}
    matches = greedy_matches(draft, texts[0.0])
    kept = overlap(verifier, draft, texts[args.temperature], args.temperature)
    classes = [p["class"] for p in prompts]
    for name in ["all", *sorted(set(classes))]:
        rows = torch.tensor([name in ("all", c) for c in classes], device=device)
        greedy = greedy_figures(matches[rows], counted[0.0][rows], args.draft_length)
        figures[name] = {
            "greedy": greedy,
            "estimated_speedup": estimated_speedups(verifier, draft, greedy),
            f"acceptance_at_temperature_{args.temperature}":
                kept[rows][counted[args.temperature][rows]].mean().item(),
        }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")

    stride = max(1, len(prompts) // max(args.samples, 1))
    for index in range(0, len(prompts), stride)[:args.samples]:
        length = int(lengths[index])
        for temperature, text in texts.items():
            continuation = tokenizer.decode(text[index, length:length + 120].tolist(),
                                            skip_special_tokens=False)
            print(f"\n--- {classes[index]}, temperature {temperature}\n"
                  f"{prompts[index]['prompt']} >>>{continuation}")


if __name__ == "__main__":
    main()
