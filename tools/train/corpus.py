"""Reads the text corpus: zstd-compressed UTF-8, an end-of-text line after every document."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


def corpus_files(folder: Path, split: str) -> list[Path]:
    files = sorted(Path(folder).glob(f"{split}*.txt.zst"))
    if not files:
        raise SystemExit(f"no {split}*.txt.zst in {folder}: is this the corpus folder?")
    return files


def read_text(path: Path) -> str:
    """pyarrow's streaming codec accepts the 128 MiB window that the files were written with."""
    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        return stream.read().decode("utf-8")


def file_documents(path: Path) -> list[str]:
    """The documents of one file, their final line breaks kept."""
    return [d for d in read_text(path).split(f"{END_OF_TEXT}\n") if d]


def documents(folder: Path, split: str) -> Iterator[str]:
    for path in corpus_files(folder, split):
        yield from file_documents(path)


def token_stream(folder: Path, split: str, tokenizer: Tokenizer, cache: Path | None) -> np.ndarray:
    """The whole split as one uint16 array.

    The end-of-text id follows each document: a model learns that an unrelated text comes next.
    """
    cached = cache / f"{split}.npy" if cache else None
    if cached and cached.exists():
        return np.load(cached)
    pieces = []
    for path in corpus_files(folder, split):
        encodings = tokenizer.encode_batch_fast(file_documents(path), add_special_tokens=False)
        for encoding in encodings:
            pieces.append(np.array(encoding.ids + [END_OF_TEXT_ID], dtype=np.uint16))
    tokens = np.concatenate(pieces)
    if cached:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cached, tokens)
    return tokens


def text_bytes(folder: Path, split: str) -> int:
    """UTF-8 bytes of a split, separators excluded: the denominator of bits per byte."""
    return sum(len(d.encode("utf-8")) for d in documents(folder, split))
