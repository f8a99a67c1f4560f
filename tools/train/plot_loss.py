"""Draws the loss curve of train.py's log.csv as a small PNG."""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="log.csv")
    parser.add_argument("out", type=Path, help="PNG to write")
    args = parser.parse_args()

    with args.log.open() as file:
        rows = list(csv.DictReader(file))[1:]  # the first row is the untrained model
    tokens = [float(row["tokens"]) / 1e6 for row in rows]
    figure, axes = plt.subplots(figsize=(6, 3.2), dpi=100)
    for column, label in (("train_bits_per_byte", "training"),
                          ("heldout_bits_per_byte", "held-out")):
        axes.plot(tokens, [float(row[column]) for row in rows], label=label)
    axes.set_xlabel("million tokens seen")
    axes.set_ylabel("bits per byte")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
