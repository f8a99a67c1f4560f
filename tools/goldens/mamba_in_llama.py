"""Weights and a plain float64 reference of "The Mamba in the Llama" and M1, which no class of
transformers covers: Llama layers, some with a Mamba mixer in place of attention."""

import math

import numpy as np


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, weight, eps, group=None):
    grouped = x.reshape(-1, group or x.size)
    scale = 1 / np.sqrt(np.mean(grouped * grouped, axis=1, keepdims=True) + eps)
    return weight * (grouped * scale).reshape(-1)


def inverse_frequencies(rope: dict, dim: int):
    frequencies = rope["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    if rope["rope_type"] == "default":
        return frequencies
    assert rope["rope_type"] == "llama3"
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    out = []
    for f in frequencies:
        turns = rope["original_max_position_embeddings"] * f / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0), 1)  # of the frequency as it was
        out.append(share * f + (1 - share) * f / rope["factor"])
    return np.array(out)


class Dims:
    """Numbers of a case: di, d_xb, N, R, heads as in the papers' code."""

    def __init__(self, case):
        config, mamba = case.config, case.mamba
        ssm = mamba["ssm_cfg"]
        self.hidden = config["hidden_size"]
        self.mlp = config["intermediate_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_dim = config.get("head_dim", self.hidden // self.heads)
        self.mamba2 = "ngroups" in ssm
        self.inner = mamba["d_inner"] or ssm["expand"] * self.hidden
        self.xb = mamba["d_xb"]
        self.state = ssm.get("d_state", 128 if self.mamba2 else 16)
        self.conv = ssm.get("d_conv", 4)
        self.rank = ssm.get("dt_rank", math.ceil(self.hidden / 16))
        self.repeat = self.inner // self.xb
        self.ssm_heads = self.inner // self.state
        self.conv_dim = self.inner + (2 * self.xb if self.mamba2 else 0)


def tensor_shapes(case) -> dict:
    d = Dims(case)
    q, kv = d.heads * d.head_dim, d.kv_heads * d.head_dim
    shapes = {"model.embed_tokens.weight": (case.vocab, d.hidden), "model.norm.weight": (d.hidden,)}
    if not case.tied:
        shapes["lm_head.weight"] = (case.vocab, d.hidden)
    for i in range(case.config["num_hidden_layers"]):
        layer = {"input_layernorm.weight": (d.hidden,),
                 "post_attention_layernorm.weight": (d.hidden,),
                 "mlp.gate_proj.weight": (d.mlp, d.hidden), "mlp.up_proj.weight": (d.mlp, d.hidden),
                 "mlp.down_proj.weight": (d.hidden, d.mlp)}
        if i in case.mamba["attn_layers"]:
            if case.m1_names:
                layer |= {"mha.in_proj.weight": (q + 2 * kv, d.hidden),
                          "mha.out_proj.weight": (d.hidden, q)}
            else:
                layer |= {"self_attn.q_proj.weight": (q, d.hidden),
                          "self_attn.k_proj.weight": (kv, d.hidden),
                          "self_attn.v_proj.weight": (kv, d.hidden),
                          "self_attn.o_proj.weight": (d.hidden, q)}
        else:
            mixer = {"conv1d.weight": (d.conv_dim, 1, d.conv), "conv1d.bias": (d.conv_dim,),
                     "out_proj.weight": (d.hidden, d.inner)}
            if d.mamba2:
                mixer |= {"in_proj.weight": (2 * d.inner + 2 * d.xb + d.ssm_heads, d.hidden),
                          "dt_bias": (d.ssm_heads,), "A_log": (d.ssm_heads,), "D": (d.ssm_heads,),
                          "norm.weight": (d.inner,)}
            else:
                mixer |= {"dt_proj.weight": (d.inner, d.rank), "dt_proj.bias": (d.inner,),
                          "A_log": (d.inner, d.state), "D": (d.inner,)}
                if case.m1_names:
                    mixer["in_proj.weight"] = (2 * d.inner + 2 * d.xb + d.rank, d.hidden)
                else:
                    mixer |= {"in_proj_x.weight": (d.xb, d.hidden),
                              "in_proj_z.weight": (d.inner, d.hidden),
                              "B_proj.weight": (d.xb, d.hidden),
                              "C_proj.weight": (d.inner, d.hidden),
                              "dt_proj_down.weight": (d.rank, d.hidden)}
            layer |= {f"mamba.{name}": shape for name, shape in mixer.items()}
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


class Reference:
    """One sequence, one token at a time."""

    def __init__(self, case, weights: dict):
        self.case, self.d = case, Dims(case)
        self.weights = weights
        self.embedding = weights["model.embed_tokens.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        rope = case.config["rope_parameters"]
        # The code that writes mha.* knows the base and no scaling.
        if case.m1_names:
            rope = dict(rope, rope_type="default")
        self.frequencies = inverse_frequencies(rope, self.d.head_dim)
        self.reset()

    def reset(self):
        d, layers = self.d, self.case.config["num_hidden_layers"]
        self.position = 0
        self.windows = np.zeros((layers, d.conv_dim, d.conv))
        self.states = [np.zeros((d.inner, d.state)) for _ in range(layers)]
        self.cache = [([], []) for _ in range(layers)]

    def convolve(self, i, p, x):
        self.windows[i] = np.concatenate([self.windows[i][:, 1:], x[:, None]], axis=1)
        taps = self.weights[p + "conv1d.weight"][:, 0, :]
        return silu(np.sum(taps * self.windows[i], axis=1) + self.weights[p + "conv1d.bias"])

    def repeated(self, x):
        """[xb] -> [inner]: every run of `state` channels `repeat` times."""
        return np.repeat(x.reshape(-1, self.d.state), self.d.repeat, axis=0).reshape(-1)

    def mamba(self, i, p, h):
        d, w = self.d, self.weights
        if self.case.m1_names:
            z, x, b, c, low = np.split(w[p + "in_proj.weight"] @ h, np.cumsum(
                [d.inner, d.xb, d.xb, d.inner]))
        else:
            x, z, b, c, low = (w[p + name + ".weight"] @ h for name in (
                "in_proj_x", "in_proj_z", "B_proj", "C_proj", "dt_proj_down"))
        v = self.convolve(i, p, self.repeated(x))
        # The projection adds its bias and the scan adds it once more.
        delta = np.logaddexp(0, w[p + "dt_proj.weight"] @ low + 2 * w[p + "dt_proj.bias"])
        b, c = self.repeated(b), c
        state = self.states[i]
        y = np.empty(d.inner)
        for channel in range(d.inner):
            head = slice(channel // d.state * d.state, (channel // d.state + 1) * d.state)
            decay = np.exp(delta[channel] * -np.exp(w[p + "A_log"][channel]))
            state[channel] = decay * state[channel] + delta[channel] * b[head] * v[channel]
            y[channel] = state[channel] @ c[head] + w[p + "D"][channel] * v[channel]
        return w[p + "out_proj.weight"] @ (y * silu(z))

    def mamba2(self, i, p, h):
        d, w = self.d, self.weights
        z, xbc, dt = np.split(w[p + "in_proj.weight"] @ h, [d.inner, d.inner + d.conv_dim])
        x, b, c = np.split(self.convolve(i, p, xbc), [d.xb, 2 * d.xb])
        x, b = self.repeated(x), self.repeated(b)
        delta = np.logaddexp(0, dt + w[p + "dt_bias"])
        y = np.empty(d.inner)
        for head in range(d.ssm_heads):
            s = slice(head * d.state, (head + 1) * d.state)
            decay = np.exp(-np.exp(w[p + "A_log"][head]) * delta[head])
            self.states[i][s] = decay * self.states[i][s] + delta[head] * np.outer(x[s], b[s])
            y[s] = self.states[i][s] @ c[s] + w[p + "D"][head] * x[s]
        r = rms_norm(y * silu(z), w[p + "norm.weight"], 1e-5, d.state)
        return w[p + "out_proj.weight"] @ r

    def rotated(self, x):
        half = self.d.head_dim // 2
        angle = self.position * self.frequencies
        x = x.reshape(-1, self.d.head_dim)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                               b * np.cos(angle) + a * np.sin(angle)], axis=1)

    def attention(self, i, p, h):
        d, w = self.d, self.weights
        if self.case.m1_names:
            q, k, v = np.split(w[p + "mha.in_proj.weight"] @ h, np.cumsum(
                [d.heads * d.head_dim, d.kv_heads * d.head_dim]))
            out = w[p + "mha.out_proj.weight"]
        else:
            q, k, v = (w[p + f"self_attn.{n}_proj.weight"] @ h for n in "qkv")
            out = w[p + "self_attn.o_proj.weight"]
        keys, values = self.cache[i]
        keys.append(self.rotated(k))
        values.append(v.reshape(-1, d.head_dim))
        result = []
        for head, query in enumerate(self.rotated(q)):
            g = head // (d.heads // d.kv_heads)
            score = np.array([query @ key[g] for key in keys]) / math.sqrt(d.head_dim)
            prob = np.exp(score - score.max())
            result.append(prob / prob.sum() @ np.array([value[g] for value in values]))
        return out @ np.concatenate(result)

    def step(self, token):
        w, eps = self.weights, self.case.config["rms_norm_eps"]
        h = self.embedding[token].copy()
        for i in range(self.case.config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            n = rms_norm(h, w[p + "input_layernorm.weight"], eps)
            if i in self.case.mamba["attn_layers"]:
                h += self.attention(i, p, n)
            else:
                h += (self.mamba2 if self.d.mamba2 else self.mamba)(i, p + "mamba.", n)
            n = rms_norm(h, w[p + "post_attention_layernorm.weight"], eps)
            h += w[p + "mlp.down_proj.weight"] @ (
                silu(w[p + "mlp.gate_proj.weight"] @ n) * (w[p + "mlp.up_proj.weight"] @ n))
        self.position += 1
        return self.head @ rms_norm(h, w["model.norm.weight"], eps)
