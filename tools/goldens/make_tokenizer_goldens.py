#!/usr/bin/env python3
"""Writes the golden cases of tests/runtime/tokenizer: small tokenizers of every kind, with the ids
and texts that Hugging Face's tokenizers gives for hostile inputs.

  pip install tokenizers
  tools/goldens/make_tokenizer_goldens.py tests/goldens/tokenizer/cases.json

The file is an object {"texts": [...], "kinds": [{"name", "tokenizer", "encode", "decode"}]}:
  encode[i] = [text index, ids with special tokens, ids without (null: the same)]
  decode[i] = [ids, text with special tokens, text without (null: the same)]
"""
import argparse
import json
import random

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARK = "\u2581"

TRAINING = [
    "The quick brown fox jumps over the lazy dog. It's the dog's fault, isn't it? We'll see.",
    "In the beginning there was the word, and the word was with them; they've said so, I'm told.",
    "def main():\n    for i in range(100):\n        print(i, i * i)\n\n\treturn 0\n",
    "The year 1999 came before 2000, and 3.14159 is about 22/7. Call 555-1234 at 10:30!",
    "Les \u00e9l\u00e8ves \u00e9tudient \u00e0 l'\u00e9cole; le gar\u00e7on mange une p\u00eache.",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u4f60\u597d\uff0c\u4e16\u754c\u3002 "
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c",
    "a  b   c    d     e      f  the  the   the    and\n\n\nand\r\nthe\r\n\r\nend",
    "the theme there then them these they that this than thing think three through",
    "ing ring ringing sing singing king kings thing things being seeing doing going",
]

TEXTS = [
    "", " ", "  ", "   ", " " * 23, " " * 24, " " * 25, " " * 60, "\n", "\n\n", "\r\n", "\t", "\t\t ",
    "a", " a", "a ", "  a", "a  ", "a  b", "x  y", "a   b    c     d",
    "The quick brown fox jumps over the lazy dog.", "the theme  there\nthen\tthem",
    "Hello, world! It's a test; isn't it?", "IT'S WE'LL I'M THEY'VE YOU'RE HE'D CAN'T",
    "it's we'll i'm they've you're he'd can't", "it\u2019s we\u2019ll", "'s 't 're", "'S'T'LL", "''s",
    "'\u017f x'\u017f", "\u212a \u212b",
    "1 12 123 1234 12345 1234567890", "3.14159 1,000,000 -5 +7 1e10 0x1F",
    "\u0661\u0662\u0663 \u0967\u0968\u0969 \u00b2\u00b3\u00b9 \u00bd\u00bc \u2167 \u3007 \U0001d7d8",
    "def f(x):\n    return x + 1\n\n\n# end\r\n\r\nif a:\r\n\tb()\n",
    "a\u00a0b\u2003c\u3000d\u1680e\u180ef\u200bg\u2028h\u2029i\u0085j\u202fk\u205fl\ufeffm",
    "\u00a0", "\u00a0\u00a0 x", "\u2003\u2003", " \u00a0 \u3000 ", "a\u0085\u0085b", "\u180e\u180e a",
    "e\u0301 \u00e9 a\u0308\u0323 \u0344 \u1e9b\u0323 \u212b \u2126 \uac00 \u1100\u1161 \u0958 \u2adc",
    "\u0301\u0301 leading marks", "Z\u0351\u036b\u0343\u034dA\u0334\u0335\u031eLGO",
    "\ufb01 \ufb03 \u2460 \uff21 \u33a5 \ufdfa", "\u0130stanbul \u00df \u1e9e \u03a3\u03b1\u03c2",
    "\U0001f600\U0001f601 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd "
    "\U0001f1e9\U0001f1ea \u2764\ufe0f 1\ufe0f\u20e3",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \uc548\ub155\ud558\uc138\uc694",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0645\u0631\u062d\u0628\u0627 "
    "\u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\x00", "a\x00b", "\x01\x02\x1b[0m\x7f\x80\x9f", "\ufffd\ufffe\U0010ffff", "\ue000\uf8ff\U000f0000",
    "!?!?.,;:--__==++", "$100 \u20ac5 <b>&amp;</b> [x](y) {z} `c` ~t~ ^u^ |v|",
    "\u00ab\u00bb\u2014\u2026\u201c\u201d\u3001\u3002\uff01 \u00a7\u00b6\u00bf\u00a1", "a_b __init__ _x_",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|endof",
    "<s>hi</s>", " <s> hi </s> ", "<unk>", "<0x41>", "<|begin_of_text|>x<|eot_id|>",
    "<tok>", "a <tok> b", "a  <tok>  b", "<tok><tok>", "<left> a <left>b", "a \t\n<left>\u00a0<right> \n b",
    "<right>  <right>", "a<right>  b", "x<word>y", "x <word> y", "<word>", "(<word>)", "\u00e9<word>",
    "_<word>", "<word><word>", "<\u0301word>", "\u0301<word>", "\u24b6<word> \u200d<word>",
    "caf\u00e9 cafe\u0301 CAFE\u0301", "Day day DAY Monday", "<longer <longer token> <longer token",
    MARK, MARK * 3, f"a{MARK}b", f" {MARK}a {MARK} b", f"{MARK}{MARK}a  b",
    "\u0120\u010a\u0109 \u00c3\u00a9", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 40,
    "the" * 30, "-" * 50, "\n" * 20, "1" * 20, "\u4e16" * 12, "\U0001f600" * 8, "e\u0301" * 10,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "line one\nline two\n\n  indented\n\ttabbed\r\nwindows\r\rmac\n ",
    " leading", "trailing ", "\nleading", "trailing\n", "mixed \n \n \t\n x", "a \n", "a \n\n b", "  \n  a",
    "https://example.com/path?q=1&r=2#frag user@host.org C:\\dir\\file.txt",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202e\u202d bidi \u200f\u200e",
    "\u1e00\u0307 \u0344\u0301 q\u0323\u0307 q\u0307\u0323", "\u1100\u1161\u11a8 \uac01",
]


def spaced_runs():
    """GPT-NeoX's added tokens: runs of 24 down to 2 spaces."""
    return [AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)]


def corner_tokens():
    return [
        AddedToken("<tok>", normalized=False),
        AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<word>", single_word=True, normalized=False),
        AddedToken("<longer", normalized=False),
        AddedToken("<longer token>", normalized=False),
        AddedToken("caf\u00e9", normalized=True),
        AddedToken("Day", normalized=True, single_word=True),
    ]


def byte_level_bpe(vocab_size=420, specials=("<|endoftext|>",), **flags):
    """A model over the byte alphabet, trained on a little text."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(specials), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    if flags:
        data = json.loads(tok.to_str())
        data["model"].update(flags)
        tok = Tokenizer.from_str(json.dumps(data))
    tok.decoder = decoders.ByteLevel()
    return tok


def sentence_bpe(vocab_size=400, fallback=True, metaspace=True, **flags):
    """A model over characters with U+2581 for spaces, as converted from SentencePiece."""
    specials = ["<unk>", "<s>", "</s>"]
    if fallback:
        specials += [f"<0x{b:02X}>" for b in range(256)]
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    if metaspace:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    else:
        tok.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = TRAINING[:5] + TRAINING[6:]
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, show_progress=False))
    data = json.loads(tok.to_str())
    data["model"].update(dict(byte_fallback=fallback, fuse_unk=True, unk_token="<unk>"), **flags)
    data["pre_tokenizer"] = None
    data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] < 3]
    return Tokenizer.from_str(json.dumps(data))


def llama_decoder():
    return decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(),
                              decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def bos(token, token_id):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B",
                                         special_tokens=[(token, token_id)])


def split(pattern, behavior, invert=False, regex=True):
    return pre_tokenizers.Split(tokenizers.Regex(pattern) if regex else pattern, behavior, invert)


def with_split(*pre):
    tok = byte_level_bpe()
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        list(pre) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tok


def neox():
    tok = byte_level_bpe(specials=("<|endoftext|>", "<|padding|>"))
    tok.normalizer = normalizers.NFC()
    tok.add_tokens(spaced_runs())
    tok.post_processor = processors.ByteLevel(trim_offsets=True)
    return tok


def gpt2():
    tok = byte_level_bpe()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tok


def llama3():
    tok = byte_level_bpe(specials=(), ignore_merges=True)
    data = json.loads(tok.to_str())
    # A token that no merges lead to: only ignore_merges finds it.
    data["model"]["vocab"]["supercalifragilisticexpialidocious"] = len(data["model"]["vocab"])
    data["model"]["vocab"]["\u0120antidisestablishmentarianism"] = len(data["model"]["vocab"])
    tok = Tokenizer.from_str(json.dumps(data))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        split(LLAMA3, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    begin = tok.token_to_id("<|begin_of_text|>")
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False), bos("<|begin_of_text|>", begin)])
    return tok


def qwen():
    tok = with_split(split(QWEN, "isolated"))
    tok.normalizer = normalizers.NFC()
    tok.add_tokens([AddedToken("<tok>", normalized=False, special=False)])
    return tok


def llama2():
    tok = sentence_bpe()
    tok.normalizer = normalizers.Sequence([normalizers.Prepend(MARK),
                                           normalizers.Replace(" ", MARK)])
    tok.post_processor = bos("<s>", 1)
    tok.decoder = llama_decoder()
    return tok


def llama2_added():
    tok = llama2()
    tok.add_tokens(corner_tokens())
    return tok


def metaspace(scheme, do_split, added=False):
    tok = sentence_bpe()
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=do_split)
    tok.decoder = decoders.Metaspace(prepend_scheme=scheme, split=do_split)
    if added:
        tok.add_tokens(corner_tokens())
        tok.decoder = llama_decoder()
        tok.post_processor = bos("<s>", 1)
    return tok


def metaspace_old():
    tok = metaspace("never", True)
    data = json.loads(tok.to_str())
    for key in ("pre_tokenizer", "decoder"):
        del data[key]["split"]
        data[key]["add_prefix_space"] = False
    data["post_processor"] = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1],
                              "trim_offsets": True, "add_prefix_space": True}
    return Tokenizer.from_str(json.dumps(data))


def stripped_first():
    tok = metaspace("first", True)
    tok.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])
    tok.add_tokens(corner_tokens())
    return tok


def falcon():
    tok = byte_level_bpe()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation(behavior="contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]", "isolated")])
    return tok


def added_corners(normalizer):
    tok = byte_level_bpe()
    tok.normalizer = normalizer
    tok.add_tokens(corner_tokens() + [AddedToken("(x)", lstrip=True, rstrip=True, normalized=True)])
    return tok


def words(pre, **flags):
    tok = sentence_bpe(fallback=False, metaspace=False, **flags)
    tok.pre_tokenizer = pre
    return tok


def no_unk():
    tok = sentence_bpe(fallback=False, unk_token=None, fuse_unk=False)
    tok.decoder = decoders.Fuse()
    return tok


def partial_fallback():
    """Some byte tokens are missing, so that unknown and byte tokens meet."""
    tok = sentence_bpe()
    data = json.loads(tok.to_str())
    for byte in range(0xE4, 0xF1):
        del data["model"]["vocab"][f"<0x{byte:02X}>"]
    tok = Tokenizer.from_str(json.dumps(data))
    tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tok


def normalized_by(*steps):
    tok = byte_level_bpe()
    tok.normalizer = normalizers.Sequence(list(steps))
    return tok


def decoded_by(decoder):
    tok = sentence_bpe()
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tok.decoder = decoder
    return tok


KINDS = {
    "neox": neox,
    "gpt2": gpt2,
    "llama3": llama3,
    "qwen": qwen,
    "gpt4o": lambda: with_split(split(GPT4O, "removed", invert=True)),
    "llama2": llama2,
    "llama2_added": llama2_added,
    "mistral3": lambda: metaspace("first", False, added=True),
    "metaspace_always": lambda: metaspace("always", True),
    "metaspace_first": lambda: metaspace("first", True),
    "metaspace_never": lambda: metaspace("never", False),
    "metaspace_old": metaspace_old,
    "metaspace_stripped": stripped_first,
    "falcon": falcon,
    "added": lambda: added_corners(normalizers.NFC()),
    "added_lowercase": lambda: added_corners(normalizers.Lowercase()),
    "added_plain": lambda: added_corners(normalizers.Sequence([])),
    "whitespace": lambda: words(pre_tokenizers.Whitespace()),
    "whitespace_split": lambda: words(pre_tokenizers.WhitespaceSplit(), fuse_unk=False),
    "no_unk": no_unk,
    "partial_fallback": partial_fallback,
    "split_removed": lambda: with_split(split(r"\s+", "removed")),
    "split_previous": lambda: with_split(split(r"[aeiou ]", "merged_with_previous")),
    "split_next": lambda: with_split(split(r"[aeiou ]", "merged_with_next")),
    "split_contiguous": lambda: with_split(split(r"[aeiou]", "contiguous")),
    "split_inverted": lambda: with_split(split(r"\w+", "removed", invert=True)),
    "split_inverted_next": lambda: with_split(split(r"\d|[[:alpha:]]", "merged_with_next", True)),
    "split_literal": lambda: with_split(split("th", "merged_with_previous", regex=False),
                                        split(".", "isolated", regex=False)),
    "split_empty": lambda: with_split(split(r"x*", "isolated"), split("", "removed", regex=False)),
    "split_lines": lambda: with_split(split(r"^.|.$|\b\w", "isolated")),
    "split_ruby": lambda: with_split(split(r"\h{1,2}+|[^\S\n]+|(?m:t.)|\W[\W]|\u0061{,2}b", "isolated")),
    "digits": lambda: with_split(pre_tokenizers.Digits(individual_digits=True)),
    "punctuation": lambda: with_split(pre_tokenizers.Punctuation(behavior="merged_with_next")),
    "nfd": lambda: normalized_by(normalizers.NFD(), normalizers.StripAccents()),
    "nfkc": lambda: normalized_by(normalizers.NFKC(), normalizers.Lowercase()),
    "nfkd": lambda: normalized_by(normalizers.NFKD(), normalizers.Strip(left=True, right=False)),
    "replace": lambda: normalized_by(
        normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Replace("e", "\u00e9"),
        normalizers.Replace(tokenizers.Regex("th?|^.|$x"), "-"),
        normalizers.Strip(left=False, right=True)),
    "byte_normalizer": lambda: normalized_by(normalizers.Prepend("\u00bf"), normalizers.ByteLevel()),
    "no_decoder": lambda: decoded_by(None),
    "decoder_bytes_fused": lambda: decoded_by(decoders.Sequence(
        [decoders.Fuse(), decoders.ByteFallback(), decoders.Replace("th", "[th]")])),
    "decoder_replace": lambda: decoded_by(decoders.Sequence(
        [decoders.Replace(tokenizers.Regex("[aeiou]+"), "*"), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Replace("**", "<>"), decoders.Replace(tokenizers.Regex(r"\s+$"), "."),
         decoders.Metaspace(prepend_scheme="first")])),
    "decoder_byte_level": lambda: decoded_by(decoders.Sequence(
        [decoders.Replace(MARK, "\u0120"), decoders.ByteLevel(), decoders.Strip(" ", 2, 0)])),
}


def decode_cases(tok, rng, count):
    """Random id sequences: byte tokens in a row, unknown ids, special tokens."""
    size = tok.get_vocab_size()
    special = [i for i, t in tok.get_added_tokens_decoder().items()]
    byte_like = list(range(min(size, 260)))
    for _ in range(count):
        length = rng.choice([1, 2, 3, 5, 8, 13, 21])
        pools = [range(size + 3), byte_like, special or [0]]
        weights = rng.choice([(1, 0, 0), (0, 1, 0), (5, 5, 1), (1, 8, 1), (3, 0, 1)])
        yield [rng.choice(rng.choices(pools, weights)[0]) for _ in range(length)]


def compact(data):
    """Merges as strings and without the fields that say nothing: a third of the size."""
    model = data["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    return data


def attempt(call):
    """None where the library panics."""
    try:
        return call()
    except BaseException as e:  # pyo3's PanicException is no Exception
        if type(e).__name__ != "PanicException":
            raise
        return None


def make_kind(name, build, texts):
    tok = build()
    rng = random.Random(name)
    encode = []
    for i, text in enumerate(texts):
        full = attempt(lambda: tok.encode(text).ids)
        bare = attempt(lambda: tok.encode(text, add_special_tokens=False).ids)
        if full is None or bare is None:
            print(f"{name}: the library panics on {text!r}")
        else:
            encode.append([i, full, None if full == bare else bare])
    sequences = [case[1] for case in encode] + list(decode_cases(tok, rng, 40))
    decode = []
    for ids in sequences:
        full = attempt(lambda: tok.decode(ids, skip_special_tokens=False))
        bare = attempt(lambda: tok.decode(ids, skip_special_tokens=True))
        decode.append([ids, full, None if full == bare else bare])
    # The first decode cases are the encoded ids again.
    for i in range(len(encode)):
        decode[i][0] = None
    return {"name": name, "tokenizer": compact(json.loads(tok.to_str())), "encode": encode,
            "decode": decode}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("output")
    args = parser.parse_args()
    kinds = [make_kind(name, build, TEXTS) for name, build in KINDS.items()]
    with open(args.output, "w", encoding="utf-8") as f:
        f.write('{"library": "tokenizers %s", "texts": %s, "kinds": [\n' %
                (tokenizers.__version__, json.dumps(TEXTS, ensure_ascii=True)))
        f.write(",\n".join(json.dumps(k, ensure_ascii=False, separators=(",", ":")) for k in kinds))
        f.write("\n]}\n")


if __name__ == "__main__":
    main()
