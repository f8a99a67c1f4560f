"""Reads the text corpus: zstd-compressed UTF-8 files, documents separated by an end-of-text line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0

# The class of every document in the stream that `token_stream` makes ends with this id, so that a
# model learns where one text stops and the next, unrelated one starts.


def corpus_files(folder: Path, split: str) -> list[Path]:
    files = sorted(Path(folder).glob(f"{split}*.txt.zst"))
    if not files:
        raise SystemExit(f"no {split}*.txt.zst in {folder}: is this the corpus folder?")
    return files


def read_text(path: Path) -> str:
    """pyarrow's streaming codec accepts the 128 MiB window that the files were written with."""
    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        return stream.read().decode("utf-8")


def documents(folder: Path, split: str) -> Iterator[str]:
    """Every document of a split, its final line break kept."""
    for path in corpus_files(folder, split):
        for document in read_text(path).split(f"{END_OF_TEXT}\n"):
            if document:
                yield document


def token_stream(folder: Path, split: str, tokenizer: Tokenizer, cache: Path | None) -> np.ndarray:
    """The whole split as one uint16 array; each document is followed by the end-of-text id."""
    cached = cache / f"{split}.npy" if cache else None
    if cached and cached.exists():
        return np.load(cached)
    pieces = []
    for path in corpus_files(folder, split):
        texts = [d for d in read_text(path).split(f"{END_OF_TEXT}\n") if d]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            pieces.append(np.array(encoding.ids + [END_OF_TEXT_ID], dtype=np.uint16))
    tokens = np.concatenate(pieces)
    if cached:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cached, tokens)
    return tokens


def text_bytes(folder: Path, split: str) -> int:
    """UTF-8 bytes of a split, separators excluded: the denominator of bits per byte."""
    return sum(len(d.encode("utf-8")) for d in documents(folder, split))
