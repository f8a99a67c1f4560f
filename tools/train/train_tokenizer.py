"""Trains the byte-level BPE tokenizer and writes tokenizer.json and tokenizer_config.json."""

import argparse
import json
import time
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import END_OF_TEXT, END_OF_TEXT_ID, documents


def train(texts: list[str], vocab_size: int) -> Tokenizer:
    # No normaliser: every text survives encoding and decoding byte for byte.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of train-*.txt.zst")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--vocab", type=int, default=8192, help="ids in all (default %(default)s)")
    parser.add_argument("--every", type=int, default=4,
                        help="train on every n-th document (default %(default)s)")
    args = parser.parse_args()

    start = time.time()
    texts = [d for i, d in enumerate(documents(args.corpus, "train")) if i % args.every == 0]
    print(f"{len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} M characters", flush=True)
    tokenizer = train(texts, args.vocab)

    if tokenizer.get_vocab_size() != args.vocab:
        raise SystemExit(f"{tokenizer.get_vocab_size()} ids, not {args.vocab}: too little text?")
    if tokenizer.token_to_id(END_OF_TEXT) != END_OF_TEXT_ID:
        raise SystemExit(f"{END_OF_TEXT} is not id {END_OF_TEXT_ID}")
    for text in texts[:200]:
        if tokenizer.decode(tokenizer.encode(text).ids) != text:
            raise SystemExit("a document does not survive encoding and decoding")
    write(tokenizer, args.out)
    print(f"wrote {args.out} in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
