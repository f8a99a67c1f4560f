"""Distils drafts from a trained verifier, for a given number of seconds.

Several candidate shapes learn side by side from the same batches, so the verifier's work is shared.
Half of each batch is corpus text, half is text that the verifier wrote itself, as that is what a
draft has to predict. Writes OUT/<shape>.pt for each candidate and prints its agreement.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from corpus import token_stream
from evaluate import (continued, encode_prompts, estimated_speedups, greedy_figures,
                      greedy_matches)
from model import Config, Mamba2, default_device, generate, load, precision
from optim import Optimizer, schedule
from train import random_crops, save, to_device

PROMPT_TOKENS = 64
GENERATION_BATCH = 8192


@dataclass
class Candidate:
    name: str
    model: Mamba2
    optimizer: Optimizer


def parse_shape(text: str) -> Config:
    try:
        hidden, layers, state = map(int, text.split("x"))
        return Config(hidden, layers, state)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HIDDENxLAYERSxSTATE: {error}") from None


def distillation_loss(draft: Mamba2, hidden: Tensor, teacher_logits: Tensor,
                      argmax_weight: float) -> Tensor:
    """Cross-entropy to the verifier's distribution, plus some to its first choice.

    The first term is what sampled acceptance needs; greedy acceptance asks only for the first
    choice, and a small model does better at it when told so.
    """
    log_q = draft.head(hidden).float().log_softmax(-1)
    p = teacher_logits.float().softmax(-1)
    soft = -(p * log_q).sum(-1).mean()
    hard = -log_q.gather(-1, teacher_logits.argmax(-1, keepdim=True)).mean()
    return soft + argmax_weight * hard


def verifier_texts(verifier: Mamba2, corpus: Tensor, count: int, context: int) -> Tensor:
    """[count, context] ids: prompts from the corpus, continued by the verifier.

    Every other row is greedy, the rest are sampled at temperatures between 0.5 and 1.
    """
    texts = []
    batch = min(count, GENERATION_BATCH)
    for _ in range(0, count, batch):
        rows = random_crops(corpus, batch, context)
        lengths = torch.full((batch,), PROMPT_TOKENS, device=rows.device)
        temperature = torch.empty(batch, device=rows.device).uniform_(0.5, 1.0)
        temperature[::2] = 0.0
        texts.append(generate(verifier, rows, lengths, temperature))
    return torch.cat(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verifier", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt.zst")
    parser.add_argument("--prompts", type=Path, required=True, help="heldout.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--cache", type=Path, help="folder that keeps the tokenised corpus")
    parser.add_argument("--draft", type=parse_shape, action="append", required=True,
                        metavar="HIDDENxLAYERSxSTATE", help="a candidate; may be repeated")
    parser.add_argument("--seconds", type=float, default=300, help="default %(default)s")
    parser.add_argument("--texts", type=int, default=49152,
                        help="verifier texts to generate (default %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="sequences (default %(default)s)")
    parser.add_argument("--context", type=int, default=512, help="tokens (default %(default)s)")
    parser.add_argument("--lr", type=float, default=4e-3, help="AdamW's (default %(default)s)")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="default %(default)s")
    parser.add_argument("--weight-decay", type=float, default=0.02,
                        help="of the projections (default %(default)s)")
    parser.add_argument("--argmax-weight", type=float, default=0.3, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    # Every candidate shape is a compilation of its own of the same functions.
    torch._dynamo.config.cache_size_limit = 64
    device = default_device()
    compiled = device.type == "cuda"
    args.out.mkdir(parents=True, exist_ok=True)

    tokenizer = Tokenizer.from_file(str(args.verifier / "tokenizer.json"))
    corpus = to_device(token_stream(args.corpus, "train", tokenizer, args.cache), device)
    verifier = load(args.verifier, device).requires_grad_(False)
    candidates = []
    for config in args.draft:
        model = Mamba2(config).to(device)
        optimizer = Optimizer(model, args.lr, args.muon_lr, args.weight_decay)
        name = f"{config.hidden}x{config.layers}x{config.state}"
        candidates.append(Candidate(name, model, optimizer))
        print(f"{name}: {model.parameter_count():,} parameters", flush=True)
    loss_of = distillation_loss
    if compiled:
        for model in [verifier, *(c.model for c in candidates)]:
            model.compile()
        loss_of = torch.compile(distillation_loss, dynamic=False)

    clock = time.time()
    texts = verifier_texts(verifier, corpus, args.texts, args.context + 1)
    print(f"{len(texts):,} texts of the verifier's own in {time.time() - clock:.0f} s", flush=True)

    start = step = 0
    progress = next_report = 0.0
    recent: list[Tensor] = []
    while progress < 1.0:
        own = texts[torch.randint(len(texts), (args.batch // 2,), device=device)]
        rows = torch.cat([random_crops(corpus, args.batch - len(own), args.context + 1), own])
        rows = rows[:, :-1]
        with torch.no_grad(), precision(device):
            teacher_logits = verifier(rows)
        losses = []
        for candidate in candidates:
            model = candidate.model
            with precision(device):
                loss = loss_of(model, model.hidden(rows), teacher_logits, args.argmax_weight)
            loss.backward()
            candidate.optimizer.step(schedule(progress))
            losses.append(loss.detach())
        recent.append(torch.stack(losses))
        step += 1
        if step == 3:
            if compiled:
                torch.cuda.synchronize()
            start = time.time()
        elapsed = time.time() - start if start else 0.0
        progress = elapsed / args.seconds
        if start and (elapsed >= next_report or progress >= 1.0):
            means = torch.stack(recent).mean(0).tolist()
            tokens = step * args.batch * args.context
            report = "  ".join(f"{c.name} {mean:.4f}" for c, mean in zip(candidates, means))
            print(f"{elapsed:6.0f} s  {tokens / 1e6:7.1f} M tokens  {report}", flush=True)
            recent.clear()
            next_report = elapsed + args.seconds / 20

    prompts = [json.loads(line) for line in args.prompts.read_text().splitlines()]
    tokens, lengths = encode_prompts([p["prompt"] for p in prompts], tokenizer, 256, device)
    text = generate(verifier, tokens, lengths, torch.zeros(len(tokens), device=device))
    counted = continued(text, lengths)
    figures = {}
    for candidate in candidates:
        save(candidate.model, args.out / f"{candidate.name}.pt")
        greedy = greedy_figures(greedy_matches(candidate.model, text), counted, draft_length=6)
        figures[candidate.name] = {
            "parameters": candidate.model.parameter_count(),
            "tokens_seen": step * args.batch * args.context,
            "greedy": greedy,
            "estimated_speedup": estimated_speedups(verifier, candidate.model, greedy),
        }
    print(json.dumps(figures, indent=2))
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
