"""Writes tiny random checkpoints as model folders, with the logits and greedy texts they must give.

Expected values come from the plain float64 recurrence below (class Reference), one token at a time.
Each model is also run through transformers (5.23) in float32, and the script fails unless both
agree. Numbers are reproducible: every model has a fixed seed.

    python tools/goldens/make_model_goldens.py --out tests/goldens/models

Each folder holds what a downloaded model folder holds, and golden_logits.npy, float32
[rows, vocab_size]. cases.json lists for every model
    prompts[i]   {tokens, positions, first_row}: logits after the tokens at `positions`, in rows
                 first_row, first_row + 1, ...
    greedy[i]    {prompt, tokens}: what follows that prompt, most likely id below vocab_limit each
                 time, ids of end of text not stopping it (none occurs)
    max_abs_logit, min_top_gap: the scale of the logits, and the smallest distance of the two
                 largest ones over all greedy steps as a share of it
    texts[i]     {text, tokens}: only where the folder has a tokenizer; ids without special ones
Prompts of different models differ.
"""

import argparse
import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

PROMPT_LENGTHS = (1, 2, 3, 5, 17, 79)
POSITIONS_OF_LONG = (0, 1, 2, 15, 16, 31, 32, 63, 64, 77, 78)
GREEDY_PROMPTS = (0, 3, 4, 5)  # indices into PROMPT_LENGTHS
GREEDY_TOKENS = 28
MIN_TOP_GAP = 2e-3
AGREEMENT = 2e-5  # of the largest logit, between transformers in float32 and the reference


@dataclass
class Case:
    name: str
    family: str  # mamba, mamba2
    hidden: int
    layers: int
    vocab: int
    state: int
    conv: int = 4
    inner: int = 0  # 0: twice the width
    rank: int = 0  # mamba; 0: "auto"
    heads: int = 0
    head_dim: int = 0
    groups: int = 1
    norm_group: int = 0  # 0: inner / groups
    tied: bool = True
    bias: bool = False
    conv_bias: bool = True
    limit: tuple = (0.0, math.inf)
    eps: float = 1e-5
    dtype: torch.dtype = torch.float32
    keep_float32: tuple = ()  # endings of tensor names that stay float32
    bos: int = 0
    eos: object = 0
    more_eos: object = None  # of generation_config.json
    original: bool = False  # state-spaces naming
    vocab_limit: int = 0  # original: ids from here on are padding
    shard_size: str = "1GB"
    seed: int = 0
    config_extra: dict = field(default_factory=dict)
    tokenizer: str = ""  # "bytes": byte-level BPE; "pieces": as converted from SentencePiece
    faint: int = 0  # rows of the embedding, from 0 on, that are scaled down: seldom chosen

    def __post_init__(self):
        self.inner = self.inner or (self.heads * self.head_dim if self.heads else 2 * self.hidden)
        self.auto_rank = self.rank == 0
        self.rank = self.rank or math.ceil(self.hidden / 16)
        self.norm_group = self.norm_group or self.inner // self.groups
        self.vocab_limit = self.vocab_limit or self.vocab

    @property
    def conv_dim(self):
        return self.inner + (2 * self.groups * self.state if self.family == "mamba2" else 0)


CASES = [
    Case("mamba1_tied", "mamba", hidden=32, layers=2, vocab=64, state=16),
    Case("mamba1_bias", "mamba", hidden=24, layers=3, vocab=61, state=8, rank=3, tied=False,
         bias=True, eos=[0, 7], more_eos=[7, 9], eps=1e-4),
    Case("mamba1_inner", "mamba", hidden=32, layers=2, vocab=72, state=16, inner=40,
         conv_bias=False, dtype=torch.bfloat16, keep_float32=("A_log", "D")),
    Case("mamba1_conv3", "mamba", hidden=28, layers=2, vocab=50, state=5, conv=3, rank=1),
    Case("mamba1_conv2", "mamba", hidden=20, layers=2, vocab=50, state=4, conv=2, tied=False),
    Case("mamba1_original", "mamba", hidden=32, layers=2, vocab=64, vocab_limit=59, state=16,
         original=True, dtype=torch.float16, eos=None),
    Case("mamba2_tied", "mamba2", hidden=32, layers=2, vocab=64, state=16, heads=4, head_dim=16),
    Case("mamba2_groups", "mamba2", hidden=32, layers=2, vocab=80, state=8, heads=8, head_dim=8,
         groups=2, tied=False, bias=True, eos=[0, 2], more_eos=5),
    Case("mamba2_whole_norm", "mamba2", hidden=32, layers=2, vocab=50, state=8, heads=4,
         head_dim=16, groups=2, norm_group=64, tied=False,
         config_extra={"gated_norm_group": 64}),
    Case("mamba2_limit", "mamba2", hidden=32, layers=2, vocab=64, state=16, heads=4, head_dim=16,
         conv_bias=False, limit=(0.05, 0.4), eps=1e-6),
    Case("mamba2_bfloat16", "mamba2", hidden=32, layers=3, vocab=96, state=16, heads=4,
         head_dim=16, groups=4, dtype=torch.bfloat16),
    Case("mamba2_original", "mamba2", hidden=32, layers=2, vocab=64, vocab_limit=53, state=16,
         heads=4, head_dim=16, groups=2, original=True, eos=None),
    Case("mamba2_sharded", "mamba2", hidden=32, layers=4, vocab=64, state=16, heads=2, head_dim=32,
         tied=False, shard_size="60KB"),
    Case("mamba2_odd", "mamba2", hidden=36, layers=2, vocab=67, state=12, heads=3, head_dim=24,
         groups=3, conv=3),
    Case("mamba2_text", "mamba2", hidden=32, layers=2, vocab=64, state=8, heads=4, head_dim=16,
         tokenizer="bytes"),
    Case("mamba1_pieces", "mamba", hidden=24, layers=2, vocab=340, state=8, tokenizer="pieces",
         faint=259, bos=1, eos=2),
]

TOKENIZER_TEXT = ("the model reads a word and then guesses the next word",
                  "a small draft guesses many words; the large model checks them at once",
                  "what the draft guessed right is kept, the rest is thrown away",
                  "state is cheap to keep and hard to undo, so keep what leads to it")
TEXTS = ("the next word", "a draft of the state\nis kept; the rest", "words, words,  words", "")


def tensor_shapes(case: Case) -> dict:
    embedding = "backbone.embedding.weight" if case.original else "backbone.embeddings.weight"
    shapes = {embedding: (case.vocab, case.hidden), "backbone.norm_f.weight": (case.hidden,)}
    if not case.tied:
        shapes["lm_head.weight"] = (case.vocab, case.hidden)
    for i in range(case.layers):
        layer = {"norm.weight": (case.hidden,),
                 "mixer.conv1d.weight": (case.conv_dim, 1, case.conv),
                 "mixer.out_proj.weight": (case.hidden, case.inner)}
        if case.family == "mamba":
            in_rows = 2 * case.inner
            layer |= {"mixer.x_proj.weight": (case.rank + 2 * case.state, case.inner),
                      "mixer.dt_proj.weight": (case.inner, case.rank),
                      "mixer.dt_proj.bias": (case.inner,),
                      "mixer.A_log": (case.inner, case.state), "mixer.D": (case.inner,)}
        else:
            in_rows = case.inner + case.conv_dim + case.heads
            layer |= {"mixer.dt_bias": (case.heads,), "mixer.A_log": (case.heads,),
                      "mixer.D": (case.heads,), "mixer.norm.weight": (case.inner,)}
        layer["mixer.in_proj.weight"] = (in_rows, case.hidden)
        if case.bias:
            layer |= {"mixer.in_proj.bias": (in_rows,), "mixer.out_proj.bias": (case.hidden,)}
        if case.conv_bias:
            layer["mixer.conv1d.bias"] = (case.conv_dim,)
        shapes |= {f"backbone.layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def random_weights(case: Case, seed: int) -> dict:
    """Values of the size that training gives; none of them zero, one or equal to another."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in tensor_shapes(case).items():
        noise = rng.standard_normal(shape)
        if name.endswith(("norm.weight", "norm_f.weight", ".D")):
            value = 1 + 0.2 * noise
        elif name.endswith(("dt_proj.bias", "dt_bias")):  # time steps of 0.01 to 0.6
            step = np.exp(rng.uniform(math.log(0.01), math.log(0.6), shape))
            value = step + np.log(-np.expm1(-step))
        elif name.endswith("A_log"):
            value = np.log(np.arange(1, shape[-1] + 1)) + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif name.endswith("conv1d.weight"):
            value = 0.6 * noise
        elif "embedding" in name or "lm_head" in name:
            value = 0.3 * noise
            value[case.vocab_limit:] *= 3  # padding would win if it were not masked
            value[:case.faint] *= 0.5
        else:
            value = 1.2 * noise / math.sqrt(shape[-1])
        dtype = torch.float32 if name.endswith(case.keep_float32 or ("?",)) else case.dtype
        weights[name] = torch.tensor(value, dtype=torch.float64).to(dtype)
    return weights


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, weight, eps, group=None):
    grouped = x.reshape(-1, group or x.size)
    scale = 1 / np.sqrt(np.mean(grouped * grouped, axis=1, keepdims=True) + eps)
    return weight * (grouped * scale).reshape(-1)


class Reference:
    """The recurrence, written down plainly: float64, one sequence, one token at a time."""

    def __init__(self, case: Case, weights: dict):
        self.case = case
        self.weights = {name: w.to(torch.float64).numpy() for name, w in weights.items()}
        self.embedding = next(w for n, w in self.weights.items() if "backbone.embedding" in n)
        self.head = self.weights.get("lm_head.weight", self.embedding)
        self.reset()

    def reset(self):
        case = self.case
        self.windows = np.zeros((case.layers, case.conv_dim, case.conv))
        shape = ((case.inner, case.state) if case.family == "mamba" else
                 (case.heads, case.head_dim, case.state))
        self.states = np.zeros((case.layers, *shape))

    def linear(self, prefix, x):
        return self.weights[prefix + ".weight"] @ x + self.weights.get(prefix + ".bias", 0)

    def convolve(self, i, prefix, x):
        window = np.concatenate([self.windows[i][:, 1:], x[:, None]], axis=1)
        self.windows[i] = window
        taps = self.weights[prefix + ".weight"][:, 0, :]
        return silu(np.sum(taps * window, axis=1) + self.weights.get(prefix + ".bias", 0))

    def mamba(self, i, p, x):
        case, w = self.case, self.weights
        u, z = np.split(self.linear(p + "in_proj", x), 2)
        v = self.convolve(i, p + "conv1d", u)
        low, b, c = np.split(w[p + "x_proj.weight"] @ v, [case.rank, case.rank + case.state])
        delta = np.logaddexp(0, w[p + "dt_proj.weight"] @ low + w[p + "dt_proj.bias"])
        decay = np.exp(delta[:, None] * -np.exp(w[p + "A_log"]))
        self.states[i] = decay * self.states[i] + (delta * v)[:, None] * b[None, :]
        y = self.states[i] @ c + w[p + "D"] * v
        return self.linear(p + "out_proj", y * silu(z))

    def mamba2(self, i, p, x):
        case, w = self.case, self.weights
        bc = case.groups * case.state
        z, xbc, dt = np.split(self.linear(p + "in_proj", x), [case.inner, case.inner + case.conv_dim])
        v, b, c = np.split(self.convolve(i, p + "conv1d", xbc), [case.inner, case.inner + bc])
        delta = np.clip(np.logaddexp(0, dt + w[p + "dt_bias"]), *case.limit)
        decay = np.exp(-np.exp(w[p + "A_log"]) * delta)
        heads = v.reshape(case.heads, case.head_dim)
        y = np.empty_like(heads)
        for h in range(case.heads):
            g = h // (case.heads // case.groups)
            b_g = b[g * case.state:(g + 1) * case.state]
            c_g = c[g * case.state:(g + 1) * case.state]
            self.states[i][h] = decay[h] * self.states[i][h] + delta[h] * np.outer(heads[h], b_g)
            y[h] = self.states[i][h] @ c_g + w[p + "D"][h] * heads[h]
        r = rms_norm(y.reshape(-1) * silu(z), w[p + "norm.weight"], case.eps, case.norm_group)
        return self.linear(p + "out_proj", r)

    def step(self, token):
        case, w = self.case, self.weights
        residual = self.embedding[token].copy()
        mixer = self.mamba if case.family == "mamba" else self.mamba2
        for i in range(case.layers):
            p = f"backbone.layers.{i}."
            residual += mixer(i, p + "mixer.", rms_norm(residual, w[p + "norm.weight"], case.eps))
        return self.head @ rms_norm(residual, w["backbone.norm_f.weight"], case.eps)


def prompts_of(case: Case, seed: int) -> list:
    rng = np.random.default_rng(seed + 1)
    return [[int(t) for t in rng.integers(0, case.vocab_limit, n)] for n in PROMPT_LENGTHS]


def end_ids(case: Case) -> set:
    ids = set()
    for value in (case.eos, case.more_eos):
        ids |= set(value if isinstance(value, list) else [] if value is None else [value])
    return ids


def greedy_run(case: Case, reference: Reference, prompt: list):
    """Returns (tokens, smallest distance of the two largest logits), or None for a dull text."""
    reference.reset()
    for token in prompt:
        logits = reference.step(token)
    tokens, gap = [], math.inf
    for _ in range(GREEDY_TOKENS):
        order = np.argsort(logits[:case.vocab_limit])
        gap = min(gap, (logits[order[-1]] - logits[order[-2]]) / np.max(np.abs(logits)))
        tokens.append(int(order[-1]))
        logits = reference.step(tokens[-1])
    dull = len(set(tokens)) < 6 or end_ids(case) & set(tokens)
    return None if dull or gap < MIN_TOP_GAP else (tokens, gap)


def find_seed(case: Case):
    """The first seed whose greedy texts are stable: no near ties, several different ids."""
    for seed in range(1000 * (CASES.index(case) + 1), 1000 * (CASES.index(case) + 2)):
        weights = random_weights(case, seed)
        reference = Reference(case, weights)
        prompts = prompts_of(case, seed)
        runs = []
        for index in GREEDY_PROMPTS:
            run = greedy_run(case, reference, prompts[index])
            if run is None:
                break
            runs.append((index, *run))
        else:
            return seed, weights, prompts, runs
    raise RuntimeError(f"{case.name}: no seed gives stable greedy texts")


def transformers_model(case: Case, weights: dict):
    common = dict(hidden_size=case.hidden, num_hidden_layers=case.layers, vocab_size=case.vocab,
                  state_size=case.state, conv_kernel=case.conv, use_bias=case.bias,
                  use_conv_bias=case.conv_bias, tie_word_embeddings=case.tied,
                  layer_norm_epsilon=case.eps, bos_token_id=case.bos, pad_token_id=0,
                  eos_token_id=case.eos)
    if case.family == "mamba":
        if case.inner != 2 * case.hidden:
            common["intermediate_size"] = case.inner
        config = transformers.MambaConfig(**common,
                                          time_step_rank="auto" if case.auto_rank else case.rank)
        model = transformers.MambaForCausalLM(config)
    else:
        config = transformers.Mamba2Config(**common, num_heads=case.heads, head_dim=case.head_dim,
                                           n_groups=case.groups, time_step_limit=list(case.limit),
                                           expand=case.inner // case.hidden, chunk_size=32)
        model = transformers.Mamba2ForCausalLM(config)
        for layer in model.backbone.layers:  # up to 5.17 the group was the whole width
            layer.mixer.norm.group_size = case.norm_group
    renamed = {n.replace("backbone.embedding.", "backbone.embeddings."): w.float()
               for n, w in weights.items()}
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"{case.name}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


def original_config(case: Case) -> dict:
    ssm = {"d_state": case.state}
    if case.family == "mamba2":
        ssm |= {"layer": "Mamba2", "headdim": case.head_dim, "ngroups": case.groups}
    return {"d_model": case.hidden, "d_intermediate": 0, "n_layer": case.layers,
            "vocab_size": case.vocab_limit, "ssm_cfg": ssm, "attn_layer_idx": [], "attn_cfg": {},
            "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
            "pad_vocab_size_multiple": 16, "tie_embeddings": case.tied}


def tiny_tokenizer(case: Case) -> tokenizers.Tokenizer:
    """Trained on a few sentences: as many ids as the model has rows."""
    tokenizer = byte_tokenizer(case) if case.tokenizer == "bytes" else piece_tokenizer(case)
    if tokenizer.get_vocab_size() != case.vocab:
        raise RuntimeError(f"{case.name}: the tokenizer has {tokenizer.get_vocab_size()} ids")
    return tokenizer


def byte_tokenizer(case: Case) -> tokenizers.Tokenizer:
    """Byte-level BPE over the characters of the sentences."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=case.vocab, special_tokens=[SPECIALS["bytes"]["eos_token"]],
        initial_alphabet=["\u010a"], show_progress=False)
    tokenizer.train_from_iterator(TOKENIZER_TEXT, trainer)
    return tokenizer


def piece_tokenizer(case: Case) -> tokenizers.Tokenizer:
    """Pieces with U+2581 for spaces, a token for each of the 256 bytes, <s> before every text."""
    mark = "\u2581"
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=case.vocab, special_tokens=specials + [f"<0x{b:02X}>" for b in range(256)],
        show_progress=False)
    tokenizer.train_from_iterator(TOKENIZER_TEXT, trainer)
    data = json.loads(tokenizer.to_str())
    data["model"].update(byte_fallback=True, fuse_unk=True)
    data["pre_tokenizer"] = None
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in specials]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend(mark), tokenizers.normalizers.Replace(" ", mark)])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace(mark, " "), tokenizers.decoders.ByteFallback(),
         tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)])
    return tokenizer


SPECIALS = {
    "bytes": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
              "unk_token": "<|endoftext|>", "add_prefix_space": False,
              "clean_up_tokenization_spaces": False, "tokenizer_class": "GPTNeoXTokenizer"},
    "pieces": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
               "clean_up_tokenization_spaces": False, "tokenizer_class": "LlamaTokenizer"},
}


def write_tokenizer(case: Case, folder: Path) -> list:
    tokenizer = tiny_tokenizer(case)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(SPECIALS[case.tokenizer], indent=2) + "\n")
    texts = []
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(tokens) != text:
            raise RuntimeError(f"{case.name}: the tokenizer does not give {text!r} back")
        texts.append({"text": text, "tokens": tokens})
    return texts


def write_folder(case: Case, folder: Path, weights: dict, model) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.original:
        (folder / "config.json").write_text(json.dumps(original_config(case), indent=4) + "\n")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    if case.more_eos is not None:
        model.generation_config.eos_token_id = case.more_eos
    model.to(case.dtype).save_pretrained(folder, max_shard_size=case.shard_size)
    if case.keep_float32:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if case.config_extra:
        config = json.loads((folder / "config.json").read_text())
        config |= case.config_extra
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    written = {}
    for shard in sorted(folder.glob("*.safetensors")):
        shard.chmod(0o644)
        written |= load_file(shard)
    if written.keys() != weights.keys() or not all(
            written[n].dtype == w.dtype and torch.equal(written[n], w) for n, w in weights.items()):
        raise RuntimeError(f"{case.name}: the folder does not hold the weights")


def check_against_transformers(case: Case, model, prompt, continuation, logits) -> float:
    """Runs prompt and continuation at once; `logits` are the reference's of the prompt."""
    with torch.no_grad():
        tokens = torch.tensor([prompt + continuation])
        run = model(tokens, use_cache=False).logits[0].double().numpy()
    worst = np.max(np.abs(run[:len(prompt)] - logits)) / np.max(np.abs(logits))
    if worst > AGREEMENT:
        raise RuntimeError(f"{case.name}: transformers differs by {worst:.1e} of the largest logit")
    chosen = np.argmax(run[len(prompt) - 1:-1, :case.vocab_limit], axis=1)
    if continuation and list(chosen) != continuation:
        raise RuntimeError(f"{case.name}: transformers chooses other greedy tokens")
    return worst


def make(case: Case, out: Path) -> dict:
    seed, weights, prompts, runs = find_seed(case)
    model = transformers_model(case, weights)
    reference = Reference(case, weights)
    rows, listed, worst, scale = [], [], 0.0, 0.0
    for index, prompt in enumerate(prompts):
        reference.reset()
        logits = np.stack([reference.step(token) for token in prompt])
        continuation = next((tokens for i, tokens, _ in runs if i == index), [])
        worst = max(worst, check_against_transformers(case, model, prompt, continuation, logits))
        positions = POSITIONS_OF_LONG if len(prompt) > 20 else range(len(prompt))
        listed.append({"tokens": prompt, "positions": list(positions), "first_row": len(rows)})
        rows.extend(logits[p] for p in positions)
        scale = max(scale, np.max(np.abs(logits)))
    write_folder(case, out / case.name, weights, model)
    np.save(out / case.name / "golden_logits.npy", np.stack(rows).astype(np.float32))
    texts = write_tokenizer(case, out / case.name) if case.tokenizer else []
    gap = min(gap for _, _, gap in runs)
    print(f"{case.name}: seed {seed}, largest logit {scale:.2f}, smallest top gap {gap:.4f}, "
          f"transformers differs by {worst:.1e}")
    return {"name": case.name, "family": case.family, "vocab_size": case.vocab,
            "vocab_limit": case.vocab_limit, "tied": case.tied, "seed": seed,
            "max_abs_logit": round(scale, 4), "min_top_gap": round(gap, 5), "prompts": listed,
            "greedy": [{"prompt": i, "tokens": tokens} for i, tokens, _ in runs], "texts": texts}


def dump_compact(cases: list, path: Path) -> None:
    """One prompt or greedy text a line."""
    lines = []
    for case in cases:
        head = ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in case.items()
                         if k not in ("prompts", "greedy", "texts"))
        lists = [f'  "{key}": [\n   ' + ",\n   ".join(json.dumps(item) for item in case[key]) + "]"
                 for key in ("prompts", "greedy", "texts") if case[key]]
        lines.append(" {" + head + ",\n" + ",\n".join(lists) + "}")
    path.write_text(f'{{"transformers": "{transformers.__version__}",\n"models": [\n'
                    + ",\n".join(lines) + "\n]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--only", help="write this model alone and leave cases.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    cases = [make(case, args.out) for case in CASES if args.only in (None, case.name)]
    if args.only is None:
        dump_compact(cases, args.out / "cases.json")


if __name__ == "__main__":
    main()
