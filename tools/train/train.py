"""Trains the verifier from scratch, for a given number of seconds.

The learning rate follows the fraction of that time which has passed, so any time budget gives a
finished model. Writes OUT/checkpoint.pt (every minute and at the end) and OUT/log.csv.
"""

import argparse
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from corpus import text_bytes, token_stream
from model import Config, Mamba2, default_device, precision
from optim import Optimizer, schedule


def to_device(tokens: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(tokens.astype(np.int32)).to(device)


def random_crops(tokens: Tensor, batch: int, length: int) -> Tensor:
    """[batch, length] ids cut at random places: most start in the middle of a document."""
    starts = torch.randint(len(tokens) - length, (batch, 1), device=tokens.device)
    return tokens[starts + torch.arange(length, device=tokens.device)].long()


def next_token_loss(model: Mamba2, hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model.head(hidden).flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def heldout_loss(model: Mamba2, tokens: Tensor, batch: int, context: int) -> float:
    """Mean nats a token over whole batches of consecutive windows, each from an empty state."""
    windows = tokens.unfold(0, context + 1, context).long()
    windows = windows[:max(1, len(windows) // batch) * batch]
    total = 0.0
    for rows in windows.split(batch):
        with precision(tokens.device):
            logits = model(rows[:, :-1])
        total += F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten()).item()
    return total / math.ceil(len(windows) / batch)


def save(model: Mamba2, path: Path) -> None:
    torch.save({"config": asdict(model.config), "model": model.state_dict()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt.zst")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--cache", type=Path, help="folder that keeps the tokenised corpus")
    parser.add_argument("--init", type=Path, help="start from this checkpoint.pt")
    parser.add_argument("--seconds", type=float, default=1000, help="default %(default)s")
    parser.add_argument("--hidden", type=int, default=320, help="width (default %(default)s)")
    parser.add_argument("--layers", type=int, default=11, help="default %(default)s")
    parser.add_argument("--state", type=int, default=64, help="state size (default %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="sequences (default %(default)s)")
    parser.add_argument("--context", type=int, default=1024, help="tokens (default %(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, help="AdamW's (default %(default)s)")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="default %(default)s")
    parser.add_argument("--weight-decay", type=float, default=0.05,
                        help="of the projections (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = default_device()
    args.out.mkdir(parents=True, exist_ok=True)

    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    clock = time.time()
    train = to_device(token_stream(args.corpus, "train", tokenizer, args.cache), device)
    valid_ids = token_stream(args.corpus, "valid", tokenizer, args.cache)
    valid = to_device(valid_ids, device)
    bits_per_byte = len(valid) / text_bytes(args.corpus, "valid") / math.log(2)
    print(f"{len(train):,} training and {len(valid):,} held-out tokens, "
          f"tokenised in {time.time() - clock:.0f} s", flush=True)

    config = Config(args.hidden, args.layers, args.state, vocab=tokenizer.get_vocab_size())
    model = Mamba2(config).to(device)
    if args.init:
        model.load_state_dict(torch.load(args.init, weights_only=True)["model"])
    print(f"{model.parameter_count():,} parameters, {config}", flush=True)
    optimizer = Optimizer(model, args.lr, args.muon_lr, args.weight_decay)
    loss_of = next_token_loss
    if device.type == "cuda":
        model.compile()
        loss_of = torch.compile(next_token_loss, dynamic=False)

    log = (args.out / "log.csv").open("w")
    log.write("seconds,tokens,train_bits_per_byte,heldout_bits_per_byte\n")
    # The first steps and the first evaluation compile; the clock starts after them.
    start = step = 0
    recent: list[Tensor] = []
    next_report, report_every = 0.0, args.seconds / 40
    progress = 0.0
    while progress < 1.0:
        rows = random_crops(train, args.batch, args.context + 1)
        with precision(device):
            loss = loss_of(model, model.hidden(rows[:, :-1]), rows[:, 1:])
        loss.backward()
        optimizer.step(schedule(progress))
        recent.append(loss.detach())
        step += 1
        if step == 3:
            heldout_loss(model, valid, args.batch, args.context)
            start = time.time()
        elapsed = time.time() - start if start else 0.0
        progress = elapsed / args.seconds
        if start and (elapsed >= next_report or progress >= 1.0):
            mean = torch.stack(recent).mean().item() * bits_per_byte
            held = heldout_loss(model, valid, args.batch, args.context) * bits_per_byte
            tokens = step * args.batch * args.context
            rate = tokens / max(elapsed, 1e-9)
            print(f"{elapsed:6.0f} s  step {step:6d}  {tokens / 1e6:8.1f} M tokens  "
                  f"{rate / 1e6:5.2f} M/s  train {mean:.4f}  held-out {held:.4f} bits/byte",
                  flush=True)
            log.write(f"{elapsed:.1f},{tokens},{mean:.5f},{held:.5f}\n")
            log.flush()
            save(model, args.out / "checkpoint.pt")
            recent.clear()
            next_report = elapsed + report_every


if __name__ == "__main__":
    main()
