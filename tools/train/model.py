"""Mamba-2 in PyTorch: chunked for training, one token at a time for generation.

The names of modules and parameters are those of transformers' Mamba2ForCausalLM, so a state dict
is a Hugging Face checkpoint. Embeddings are tied, B and C have one group, projections no bias.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CONV_KERNEL = 4
EXPAND = 2
EPSILON = 1e-5
CHUNK = 64


@dataclass(frozen=True)
class Config:
    hidden: int
    layers: int
    state: int
    head_dim: int = 64
    vocab: int = 8192

    @property
    def inner(self) -> int:
        return EXPAND * self.hidden

    @property
    def heads(self) -> int:
        return self.inner // self.head_dim

    @property
    def conv_channels(self) -> int:
        return self.inner + 2 * self.state

    def __post_init__(self) -> None:
        if self.inner % self.head_dim:
            raise ValueError(f"{EXPAND} * hidden ({self.inner}) is no multiple of {self.head_dim}")


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON))


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t', y_t = S_t C_t, in chunks.

    Within a chunk it is a masked quadratic form, like attention; between chunks only the states
    at the chunk ends matter, and those are few. Everything heavy is a batched matrix product.

    Time is a multiple of CHUNK.
    x [batch, time, head, p], dt [batch, time, head] (float32), A [head], B and C [batch, time, n]
    """
    batch, time, heads, p = x.shape
    chunks, n = time // CHUNK, B.shape[-1]
    x = (x * dt[..., None]).view(batch, chunks, CHUNK, heads, p)
    B, C = B.view(batch, chunks, CHUNK, n), C.view(batch, chunks, CHUNK, n)
    # Logarithm of the decay from the start of the chunk to each step, [batch, chunk, head, step].
    log_decay = (dt * A).view(batch, chunks, CHUNK, heads).transpose(2, 3).cumsum(-1)

    # Inside each chunk. The mask comes before the exponential, which overflows above the diagonal.
    causal = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=x.device).tril()
    difference = log_decay[..., :, None] - log_decay[..., None, :]
    weights = difference.masked_fill(~causal, -torch.inf).exp() * (C @ B.mT)[:, :, None]
    inside = weights @ x.transpose(2, 3)

    # What each chunk adds to the state by its end, [batch, chunk, n, head * p].
    to_end = (log_decay[..., -1:] - log_decay).exp().transpose(2, 3)[..., None]
    added = B.mT @ (x * to_end).flatten(3)

    # The state before each chunk: the sum of what all earlier ones added, decayed.
    total = log_decay[..., -1].transpose(1, 2).cumsum(-1)
    before = F.pad(total[..., :-1], (1, 0))
    earlier = torch.ones(chunks, chunks, dtype=torch.bool, device=x.device).tril(-1)
    carry = (before[..., :, None] - total[..., None, :]).masked_fill(~earlier, -torch.inf).exp()
    added = added.view(batch, chunks, n, heads, p).permute(0, 3, 1, 2, 4).flatten(3)
    state = (carry @ added).view(batch, heads, chunks, n, p)

    # What the state before the chunk contributes to each step of it.
    state = state.permute(0, 2, 3, 1, 4).flatten(3)
    outside = (C @ state).view(batch, chunks, CHUNK, heads, p)
    outside = outside * log_decay.exp().transpose(2, 3)[..., None]
    return (inside.transpose(2, 3) + outside).reshape(batch, time, heads, p)


class Mixer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c = config
        # Rows of in_proj: gate z, x, B, C, dt.
        self.in_proj = nn.Linear(c.hidden, c.inner + c.conv_channels + c.heads, bias=False)
        self.conv1d = nn.Conv1d(c.conv_channels, c.conv_channels, CONV_KERNEL,
                                groups=c.conv_channels)
        self.A_log = nn.Parameter(torch.empty(c.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(c.heads))
        # softplus(dt_bias) is log-uniform between 0.001 and 0.1.
        dt = torch.empty(c.heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.norm = RMSNorm(c.inner)
        self.out_proj = nn.Linear(c.inner, c.hidden, bias=False)
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(c.layers)

    def project(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        # Matrix units want rows that are a multiple of 16 bytes: pad the odd number of dt rows.
        weight = F.pad(self.in_proj.weight, (0, 0, 0, -self.in_proj.out_features % 8))
        sizes = [c.inner, c.conv_channels, c.heads, weight.shape[0] - self.in_proj.out_features]
        z, xbc, dt, _ = F.linear(u, weight).split(sizes, dim=-1)
        return z, xbc, F.softplus(dt.float() + self.dt_bias)

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(self.norm(y * F.silu(z.float())))

    def forward(self, u: Tensor) -> Tensor:
        c, time = self.config, u.shape[1]
        z, xbc, dt = self.project(u)
        # A depthwise convolution of width 4 is four shifted products, which fuse with the rest.
        padded = F.pad(xbc, (0, 0, CONV_KERNEL - 1, 0))
        taps = self.conv1d.weight[:, 0].T
        xbc = sum(padded[:, k:k + time] * taps[k] for k in range(CONV_KERNEL))
        xbc = F.silu(xbc + self.conv1d.bias)
        x, B, C = xbc.split([c.inner, c.state, c.state], dim=-1)
        x = x.unflatten(-1, (c.heads, c.head_dim))
        y = ssd(x, dt, -self.A_log.exp(), B, C) + self.D[:, None] * x
        return self.gate(y.flatten(2), z)

    def step(self, u: Tensor, window: Tensor, state: Tensor) -> Tensor:
        """One token. Updates in place window [batch, 4, channel] and state [batch, head, p, n]."""
        c = self.config
        z, xbc, dt = self.project(u)
        window.copy_(torch.cat([window[:, 1:], xbc[:, None]], dim=1))
        xbc = F.silu((window * self.conv1d.weight[:, 0].T).sum(1) + self.conv1d.bias)
        x, B, C = xbc.float().split([c.inner, c.state, c.state], dim=-1)
        x = x.unflatten(-1, (c.heads, c.head_dim))
        decay = (-self.A_log.exp() * dt).exp()
        added = (dt[..., None] * x)[..., None] * B[:, None, None, :]
        state.copy_(decay[..., None, None] * state + added)
        y = (state * C[:, None, None, :]).sum(-1) + self.D[:, None] * x
        return self.gate(y.flatten(1), z)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden)
        self.mixer = Mixer(config)

    def forward(self, residual: Tensor) -> Tensor:
        return residual + self.mixer(self.norm(residual))

    def step(self, residual: Tensor, window: Tensor, state: Tensor) -> Tensor:
        return residual + self.mixer.step(self.norm(residual), window, state)


class Backbone(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab, config.hidden)
        nn.init.normal_(self.embeddings.weight, std=0.02)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_f = RMSNorm(config.hidden)


class Mamba2(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)

    def hidden(self, tokens: Tensor) -> Tensor:
        """[batch, time] ids -> [batch, time, hidden], normalised, ready for `head`."""
        time = tokens.shape[1]
        residual = self.backbone.embeddings(F.pad(tokens, (0, -time % CHUNK)))
        for layer in self.backbone.layers:
            residual = layer(residual)
        return self.backbone.norm_f(residual)[:, :time]

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.backbone.embeddings.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(tokens))

    def new_state(self, batch: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        c = self.config
        return [(torch.zeros(batch, CONV_KERNEL, c.conv_channels, device=device),
                 torch.zeros(batch, c.heads, c.head_dim, c.state, device=device))
                for _ in range(c.layers)]

    def step(self, tokens: Tensor, state: list[tuple[Tensor, Tensor]]) -> Tensor:
        """[batch] ids -> [batch, vocab] logits; `state` moves on by one token."""
        residual = self.backbone.embeddings(tokens)
        for layer, layer_state in zip(self.backbone.layers, state):
            residual = layer.step(residual, *layer_state)
        return self.head(self.backbone.norm_f(residual))

    def compile(self) -> None:
        """Compiles one block; all blocks of a model share the generated code."""
        for layer in self.backbone.layers:
            layer.compile(dynamic=False)
            layer.step = torch.compile(layer.step, dynamic=False)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def generate(model: Mamba2, tokens: Tensor, lengths: Tensor, temperature: Tensor) -> Tensor:
    """Fills each row of tokens [batch, time] from its prompt's length to the end.

    lengths [batch]; temperature [batch], 0 means greedy. Adding Gumbel noise times the temperature
    to the logits and taking the largest is sampling from softmax(logits / temperature), and greedy
    at temperature 0.
    """
    tokens = tokens.clone()
    state = model.new_state(tokens.shape[0], tokens.device)
    for t in range(tokens.shape[1] - 1):
        with precision(tokens.device):
            logits = model.step(tokens[:, t], state).float()
        gumbel = -torch.empty_like(logits).exponential_().log()
        chosen = (logits + temperature[:, None] * gumbel).argmax(-1)
        tokens[:, t + 1] = torch.where(t + 1 < lengths, tokens[:, t + 1], chosen)
    return tokens


def precision(device: torch.device) -> torch.autocast:
    """bf16 matrix products on a GPU, plain float32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(folder: Path, device: torch.device) -> Mamba2:
    """Reads a Hugging Face folder that `export.py` wrote, in float32."""
    raw = json.loads((Path(folder) / "config.json").read_text())
    config = Config(hidden=raw["hidden_size"], layers=raw["num_hidden_layers"],
                    state=raw["state_size"], head_dim=raw["head_dim"], vocab=raw["vocab_size"])
    model = Mamba2(config)
    weights = load_file(Path(folder) / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model.to(device)
