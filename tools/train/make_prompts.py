"""Cuts prompts from the held-out split, balanced over narrative, documentation and Python."""

import argparse
import ast
import json
import random
import re
from pathlib import Path

from tokenizers import Tokenizer

from corpus import documents

CLASSES = ("narrative", "documentation", "python")
MARKUP = re.compile(
    r"^(?:#+ |```|\* |- |\|| {4}\S|[=\-~^]{4,}$|\.\. )|`|\(\)|::|https?:"
    r"|\b(?:API|Kubernetes|cloud|install|servers?|software|user)\b", re.MULTILINE)


def classify(text: str) -> str:
    """The corpus does not label its documents, but its three classes hardly overlap."""
    try:
        ast.parse(text)
        return "python"
    except (SyntaxError, ValueError):
        pass
    # Technical pages have headings, lists, code, calls or terms of the trade every few lines.
    return "documentation" if len(MARKUP.findall(text)) * 1500 > len(text) else "narrative"


def cut(text: str, tokenizer: Tokenizer, rng: random.Random) -> str:
    """32 to 96 tokens from the start of a random paragraph or line, up to a word boundary."""
    starts = [0] + [m.end() for m in re.finditer(r"\n\n", text) if m.end() < len(text) - 800]
    start = rng.choice(starts)
    encoding = tokenizer.encode(text[start:start + 2000])
    count = min(rng.randint(32, 96), len(encoding.ids) - 1)
    end = encoding.offsets[count][0]
    prompt = text[start:start + end]
    # Text goes on after the prompt; drop the word that the cut may have split.
    boundary = max(prompt.rfind(" "), prompt.rfind("\n"))
    return prompt[:boundary].rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of valid.txt.zst")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="file to write (*.jsonl)")
    parser.add_argument("--count", type=int, default=100, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    by_class = {name: [] for name in CLASSES}
    for text in documents(args.corpus, "valid"):
        by_class[classify(text)].append(text)
    for name, texts in by_class.items():
        print(f"{len(texts)} {name} documents")
        rng.shuffle(texts)

    used = set()
    lines = []
    for index in range(args.count):
        name = CLASSES[index % len(CLASSES)]
        texts = by_class[name]
        text = texts[index // len(CLASSES) % len(texts)]
        prompt = cut(text, tokenizer, rng)
        while prompt in used or not 32 <= len(tokenizer.encode(prompt).ids) <= 96:
            prompt = cut(text if len(used) % 2 else rng.choice(texts), tokenizer, rng)
        used.add(prompt)
        lines.append({"id": f"heldout-{index:03d}", "class": name, "prompt": prompt})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"wrote {len(lines)} prompts to {args.out}")


if __name__ == "__main__":
    main()
