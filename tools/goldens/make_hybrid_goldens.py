"""Writes tiny random checkpoints of the other families, as make_model_goldens.py does of Mamba's.

    python tools/goldens/make_hybrid_goldens.py --out tests/goldens/models

Expected values come from transformers (5.24) run in float64, with every cast to float32 in its
classes turned into one to float64; the script fails unless transformers in float32 and the folder
as loaded again agree with that. "The Mamba in the Llama" has no class there: its values come from
the plain reference of mamba_in_llama.py, whose attention and Mamba-2 layers are compared with those
of transformers. hybrid_cases.json has the layout of cases.json and for each model
    tolerance    how far logits may be off, as a share of the largest
"""

import argparse
import copy
import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

import mamba_in_llama
from hybrid_cases import HYBRID_CASES, SEEDS, HybridCase
from make_model_goldens import (GREEDY_PROMPTS, MIN_TOP_GAP, POSITIONS_OF_LONG, PROMPT_LENGTHS,
                                dump_compact)

GREEDY_TOKENS = 48
MIN_ROUTER_GAP = 1e-4  # between the score of the last expert chosen and the first that is not
SHARE_OF_TOLERANCE = 0.1  # what float32 and the written folder may use of it


class Float64(TorchFunctionMode):
    """Where a class asks for float32, it gets float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            return args[0].double()
        swap = lambda x: torch.float64 if x is torch.float32 else x
        return func(*map(swap, args), **{k: swap(v) for k, v in (kwargs or {}).items()})


def class_config(case: HybridCase):
    config = transformers.AutoConfig.for_model(case.family, **copy.deepcopy(case.config))
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


def build(case: HybridCase, dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    try:
        return transformers.AutoModelForCausalLM.from_config(class_config(case)).to(dtype).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def value_of(case: HybridCase, name: str, shape: tuple, rng) -> np.ndarray:
    """Of the size that training gives; none of them zero, one or equal to another."""
    noise = rng.standard_normal(shape)
    if name.endswith(("norm.weight", "norm1.weight", "norm_f.weight")):
        # Qwen3-Next adds one to all weights but those of the gated norm.
        centre = 0 if case.family == "qwen3_next" and "linear_attn" not in name else 1
        return centre + 0.2 * noise
    if name.endswith(".D"):
        return 1 + 0.2 * noise
    if name.endswith(("dt_proj.bias", "dt_bias")):  # time steps of 0.01 to 0.6
        step = np.exp(rng.uniform(math.log(0.01), math.log(0.6), shape))
        twice = case.family == "mamba_in_llama" and name.endswith("dt_proj.bias")
        return (step + np.log(-np.expm1(-step))) / (2 if twice else 1)
    if name.endswith("A_log"):
        return np.log(np.arange(1, shape[-1] + 1)) + 0.2 * noise
    if name.endswith("e_score_correction_bias"):
        return 0.1 * noise
    if name.endswith("bias"):
        return 0.3 * noise
    if name.endswith("conv1d.weight"):
        return 0.6 * noise
    if "embed" in name or "lm_head" in name:
        return 0.3 * noise
    return 1.2 * noise / math.sqrt(shape[-1])


def random_weights(case: HybridCase, shapes: dict, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {name: torch.tensor(value_of(case, name, shape, rng), dtype=torch.float64)
            .to(case.dtype).double() for name, shape in sorted(shapes.items())}


class ClassRunner:
    """A class of transformers in float64."""

    def __init__(self, case: HybridCase):
        self.case = case
        with Float64():
            self.model = build(case, torch.float64)
        tensors = dict(self.model.named_parameters())
        tensors |= {n: b for n, b in self.model.named_buffers() if "correction_bias" in n}
        self.tensors = tensors
        self.shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        self.router_gap = math.inf
        for module in self.model.modules():
            if type(module).__name__.lower().endswith("topkrouter"):
                module.register_forward_hook(self.watch_router)

    def watch_router(self, module, inputs, output):
        logits = output[0]
        config = self.case.config
        scores = logits.reshape(-1, logits.shape[-1])
        if hasattr(module, "e_score_correction_bias"):
            scores = scores.sigmoid() + module.e_score_correction_bias
            groups = config.get("n_group", 1)
            if groups > 1:
                best = scores.reshape(len(scores), groups, -1)
                sums = best.topk(2)[0].sum(-1)
                self.note_gap(sums, config["topk_group"])
                kept = torch.zeros_like(sums).scatter(1, sums.topk(config["topk_group"])[1], 1)
                scores = best.masked_fill(kept[:, :, None] == 0, -1e9).reshape(scores.shape)
        self.note_gap(scores, config["num_experts_per_tok"])

    def note_gap(self, scores, chosen):
        ordered = scores.sort(descending=True)[0]
        gap = torch.min(ordered[:, chosen - 1] - ordered[:, chosen]).item()
        self.router_gap = min(self.router_gap, gap)

    def load(self, weights: dict):
        self.weights = weights
        self.router_gap = math.inf
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(weights[name])

    def logits(self, tokens: list) -> np.ndarray:
        with torch.no_grad(), Float64():
            return self.model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()

    def start(self, prompt: list) -> np.ndarray:
        self.cache, self.position = None, 0
        return self.advance(prompt)

    def advance(self, tokens: list) -> np.ndarray:
        # Bamba's class does not count the positions that the cache holds.
        positions = torch.arange(self.position, self.position + len(tokens))[None]
        self.position += len(tokens)
        with torch.no_grad(), Float64():
            out = self.model(torch.tensor([tokens]), position_ids=positions, use_cache=True,
                             cache=self.cache)
        self.cache = out.cache
        return out.logits[0, -1].numpy()

    def float32_model(self):
        model = build(self.case, torch.float32)
        missing = model.load_state_dict({n: w.float() for n, w in self.weights.items()},
                                        strict=False).missing_keys
        if set(missing) - {"lm_head.weight"} and self.case.family != "zamba2":
            raise RuntimeError(f"{self.case.name}: missing {missing}")
        model.tie_weights()
        return model

    def check(self, folder: Path, prompt: list, logits: np.ndarray) -> float:
        """Compares float32 and the folder; returns the larger difference."""
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager",
            experts_implementation="eager").eval()
        worst = 0.0
        for model in (self.float32_model(), loaded):
            with torch.no_grad():
                run = model(torch.tensor([prompt]), use_cache=False).logits[0].double().numpy()
            worst = max(worst, np.max(np.abs(run - logits)) / np.max(np.abs(logits)))
        return worst

    def write(self, folder: Path):
        self.float32_model().to(self.case.dtype).save_pretrained(folder)


class ReferenceRunner:
    """mamba_in_llama.py, with parts of it compared with classes of transformers."""

    router_gap = math.inf

    def __init__(self, case: HybridCase):
        self.case = case
        self.shapes = mamba_in_llama.tensor_shapes(case)

    def load(self, weights: dict):
        self.weights = weights
        self.reference = mamba_in_llama.Reference(
            self.case, {n: w.numpy() for n, w in weights.items()})

    def logits(self, tokens: list) -> np.ndarray:
        self.reference.reset()
        return np.stack([self.reference.step(t) for t in tokens])

    def start(self, prompt: list) -> np.ndarray:
        return self.logits(prompt)[-1]

    def advance(self, tokens: list) -> np.ndarray:
        return self.reference.step(tokens[0])

    def check(self, folder: Path, prompt: list, logits: np.ndarray) -> float:
        return max(self.check_attention(prompt), self.check_mamba2(prompt))

    def check_attention(self, prompt: list) -> float:
        """A Llama of the attention layers alone."""
        layers = self.case.mamba["attn_layers"]
        config = self.case.config | {"num_hidden_layers": len(layers)}
        if self.case.m1_names:
            config["rope_parameters"] = dict(config["rope_parameters"], rope_type="default")
        names, weights = {}, {}
        for new, old in enumerate(layers):
            names[f"model.layers.{old}."] = f"model.layers.{new}."
        for name, weight in self.weights.items():
            prefix = ".".join(name.split(".")[:3]) + "."
            if prefix in names:
                weights[names[prefix] + name[len(prefix):]] = weight
            elif not name.startswith("model.layers."):
                weights[name] = weight
        alone = HybridCase("alone", "llama", config, mamba=dict(
            self.case.mamba, attn_layers=list(range(len(layers)))), m1_names=self.case.m1_names)
        reference = mamba_in_llama.Reference(alone, {n: w.numpy() for n, w in weights.items()})
        ours = np.stack([reference.step(t) for t in prompt])
        d = reference.d
        rows = [d.heads * d.head_dim, d.kv_heads * d.head_dim, d.kv_heads * d.head_dim]
        for name in [n for n in weights if ".mha." in n]:
            base = name.split("mha.")[0] + "self_attn."
            if "in_proj" in name:
                for part, weight in zip("qkv", weights.pop(name).split(rows)):
                    weights[f"{base}{part}_proj.weight"] = weight
            else:
                weights[base + "o_proj.weight"] = weights.pop(name)
        with torch.no_grad(), Float64():
            model = build(alone, torch.float64)
            model.load_state_dict(weights, strict=False)
            model.tie_weights()
            theirs = model(torch.tensor([prompt])).logits[0].numpy()
        return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))

    def check_mamba2(self, prompt: list) -> float:
        """A Mamba-2 mixer with as many groups as heads, rows of x and B repeated."""
        d = self.reference.d
        if not d.mamba2:
            return 0.0
        i = min(set(range(self.case.config["num_hidden_layers"]))
                - set(self.case.mamba["attn_layers"]))
        p = f"model.layers.{i}.mamba."
        w = {n[len(p):]: t for n, t in self.weights.items() if n.startswith(p)}

        def repeat(part):
            runs = part.reshape(-1, d.state, *part.shape[1:])
            return runs.repeat_interleave(d.repeat, 0).reshape(-1, *part.shape[1:])

        z, x, b, c, dt = w["in_proj.weight"].split([d.inner, d.xb, d.xb, d.inner, d.ssm_heads])
        w["in_proj.weight"] = torch.cat([z, repeat(x), repeat(b), c, dt])
        for name in ("conv1d.weight", "conv1d.bias"):
            x, b, c = w[name].split([d.xb, d.xb, d.inner])
            w[name] = torch.cat([repeat(x), repeat(b), c])
        config = transformers.Mamba2Config(
            hidden_size=d.hidden, num_heads=d.ssm_heads, head_dim=d.state, n_groups=d.ssm_heads,
            state_size=d.state, expand=d.inner // d.hidden, num_hidden_layers=1, chunk_size=16)
        rows = self.weights["model.embed_tokens.weight"][prompt]
        with torch.no_grad(), Float64():
            model = transformers.Mamba2Model(config).double()
            mixer = model.layers[0].mixer
            mixer.load_state_dict(w)
            mixer.norm.group_size = d.state
            theirs = mixer(rows[None])
            theirs = (theirs[0] if isinstance(theirs, tuple) else theirs)[0].numpy()
        self.reference.reset()
        ours = np.stack([self.reference.mamba2(i, p, row) for row in rows.numpy()])
        return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))

    def write(self, folder: Path):
        folder.mkdir(parents=True)
        config = transformers.LlamaConfig(**self.case.config).to_dict()
        config |= {"architectures": ["LlamaForCausalLM"], "_name_or_path": "teacher"}
        config = {k: v for k, v in config.items() if v is not None}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "mamba_config.json").write_text(json.dumps(self.case.mamba, indent=4))
        save_file({n: w.to(self.case.dtype).contiguous() for n, w in self.weights.items()},
                  folder / "model.safetensors", metadata={"format": "pt"})


def prompts_of(case: HybridCase, seed: int) -> list:
    rng = np.random.default_rng(seed + 1)
    return [[int(t) for t in rng.integers(0, case.vocab, n)] for n in PROMPT_LENGTHS]


def greedy_run(case: HybridCase, runner, prompt: list):
    """Returns (tokens, smallest share of a gap of the two largest logits), or None for a dull text
    or one of near ties."""
    logits, tokens, smallest = runner.start(prompt), [], math.inf
    for _ in range(GREEDY_TOKENS):
        order = np.argsort(logits)
        gap = (logits[order[-1]] - logits[order[-2]]) / np.max(np.abs(logits))
        smallest = min(smallest, gap)
        tokens.append(int(order[-1]))
        if gap < MIN_TOP_GAP or tokens[-1] == case.config["eos_token_id"]:
            return None
        logits = runner.advance(tokens[-1:])
    return None if len(set(tokens)) < 6 else (tokens, smallest)


def find_seed(case: HybridCase, runner):
    """The first seed whose greedy texts and choices of experts are stable."""
    first = SEEDS.get(case.name, 100000 + 1000 * HYBRID_CASES.index(case))
    for seed in range(first, first + 1000):
        runner.load(random_weights(case, runner.shapes, seed))
        prompts = prompts_of(case, seed)
        runs = {}
        for index in GREEDY_PROMPTS:
            run = greedy_run(case, runner, prompts[index])
            if run is None:
                break
            runs[index] = run
        else:
            for index, prompt in enumerate(prompts):
                runner.logits(prompt + runs[index][0] if index in runs else prompt)
            if runner.router_gap >= MIN_ROUTER_GAP:
                return seed, prompts, runs
    raise RuntimeError(f"{case.name}: no seed gives stable texts")


def make(case: HybridCase, out: Path) -> dict:
    runner = (ReferenceRunner if case.mamba else ClassRunner)(case)
    seed, prompts, runs = find_seed(case, runner)
    rows, listed, scale = [], [], 0.0
    for index, prompt in enumerate(prompts):
        continuation = runs[index][0] if index in runs else []
        logits = runner.logits(prompt + continuation)
        chosen = np.argmax(logits[len(prompt) - 1:-1], axis=1)
        if continuation and list(chosen) != continuation:
            raise RuntimeError(f"{case.name}: one pass chooses other tokens than one by one")
        logits = logits[:len(prompt)]
        positions = POSITIONS_OF_LONG if len(prompt) > 20 else range(len(prompt))
        listed.append({"tokens": prompt, "positions": list(positions), "first_row": len(rows)})
        rows.extend(logits[p] for p in positions)
        scale = max(scale, np.max(np.abs(logits)))

    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    runner.write(folder)
    for shard in folder.glob("*.safetensors"):
        shard.chmod(0o644)
    worst = runner.check(folder, prompts[-1], runner.logits(prompts[-1]))
    if worst > SHARE_OF_TOLERANCE * case.tolerance:
        raise RuntimeError(f"{case.name}: differs by {worst:.1e} of the largest logit")
    np.save(folder / "golden_logits.npy", np.stack(rows).astype(np.float32))
    if ("lm_head.weight" not in load_file(folder / "model.safetensors")) != case.tied:
        raise RuntimeError(f"{case.name}: the head is tied, or should be")
    gap = min(gap for _, gap in runs.values())
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{case.name}: seed {seed}, largest logit {scale:.2f}, smallest top gap {gap:.4f}, "
          f"smallest router gap {runner.router_gap:.1e}, differs by {worst:.1e}, "
          f"{size / 1024:.0f} KiB", flush=True)
    family = "llama" if case.family == "mistral" else case.family
    return {"name": case.name, "family": family, "vocab_size": case.vocab,
            "vocab_limit": case.vocab, "tied": case.tied, "seed": seed,
            "tolerance": case.tolerance, "max_abs_logit": round(scale, 4),
            "min_top_gap": round(gap, 5), "prompts": listed,
            "greedy": [{"prompt": i, "tokens": tokens} for i, (tokens, _) in runs.items()],
            "texts": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--only", help="write models of this prefix alone and leave the list")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    args.out.mkdir(parents=True, exist_ok=True)
    cases = [make(case, args.out) for case in HYBRID_CASES
             if case.name.startswith(args.only or "")]
    if args.only is None:
        dump_compact(cases, args.out / "hybrid_cases.json")


if __name__ == "__main__":
    main()
