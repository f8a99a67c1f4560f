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
def greedy_agreement(verifier: Mamba2, draft: Mamba2, tokens: Tensor, lengths: Tensor,
                     draft_length: int) -> dict:
    text = generate(verifier, tokens, lengths, torch.zeros(len(tokens), device=tokens.device))
    valid = continued(text, lengths)
    with precision(tokens.device):
        match = draft(text[:, :-1]).argmax(-1) == text[:, 1:]
    counts = [n for row, keep in zip(match, valid) for n in rounds(row[keep].tolist(), draft_length)]
    reached = [sum(n >= i for n in counts) for i in range(draft_length + 1)]
    return {
        "agreement": match[valid].float().mean().item(),
        "per_position": [b / max(a, 1) for a, b in zip(reached, reached[1:])],
        "mean_acceptance_length": 1 + sum(counts) / max(len(counts), 1),
        "tokens": int(valid.sum()),
    }


@torch.no_grad()
def sampled_acceptance(verifier: Mamba2, draft: Mamba2, tokens: Tensor, lengths: Tensor,
                       temperature: float) -> float:
    """Mean chance that rejection sampling keeps a draft token: the overlap of both softmaxes."""
    text = generate(verifier, tokens, lengths,
                    torch.full((len(tokens),), temperature, device=tokens.device))
    valid = continued(text, lengths)
    overlap, count = 0.0, 0
    for rows, keep in zip(text.split(8), valid.split(8)):
        with precision(tokens.device):
            p = (verifier(rows[:, :-1]).float() / temperature).softmax(-1)
            q = (draft(rows[:, :-1]).float() / temperature).softmax(-1)
        overlap += torch.minimum(p, q).sum(-1)[keep].sum().item()
        count += int(keep.sum())
    return overlap / count


def estimated_speedups(verifier: Mamba2, draft: Mamba2, agreement: dict) -> dict[int, float]:
    """For each draft length: tokens of a round over its cost in plain verifier steps."""
    step = draft.parameter_count() / verifier.parameter_count() + DRAFT_OVERHEAD
    out, tokens, chance = {}, 1.0, 1.0
    for length, position in enumerate(agreement["per_position"], start=1):
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
    classes = sorted({p["class"] for p in prompts})
    for name in ["all", *classes]:
        texts = [p["prompt"] for p in prompts if name in ("all", p["class"])]
        batch = encode_prompts(texts, tokenizer, args.new_tokens, device)
        greedy = greedy_agreement(verifier, draft, *batch, args.draft_length)
        figures[name] = {
            "greedy": greedy,
            "estimated_speedup": estimated_speedups(verifier, draft, greedy),
            f"acceptance_at_temperature_{args.temperature}":
                sampled_acceptance(verifier, draft, *batch, args.temperature),
        }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")

    chosen = prompts[::max(1, len(prompts) // max(args.samples, 1))][:args.samples]
    tokens, lengths = encode_prompts([p["prompt"] for p in chosen], tokenizer, 120, device)
    for temperature in (0.0, args.temperature):
        texts = generate(verifier, tokens, lengths,
                         torch.full((len(tokens),), temperature, device=device))
        for prompt, row, length in zip(chosen, texts.tolist(), lengths.tolist()):
            print(f"\n--- {prompt['class']}, temperature {temperature}\n{prompt['prompt']}"
                  f" >>>{tokenizer.decode(row[length:length + 120], skip_special_tokens=False)}")


if __name__ == "__main__":
    main()
