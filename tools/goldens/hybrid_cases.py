"""The tiny models of make_hybrid_goldens.py: arguments of their configuration classes.

Every shape is odd in some way that a released model is not: widths of heads that do not make up the
width of the model, groups, biases, short convolutions, multipliers that all differ from 1.
"""

from dataclasses import dataclass, field

import torch

TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
# Results do not depend on it; padding every pass to the default of 256 tokens takes long.
CHUNK_KEYS = {"zamba2": "chunk_size", "nemotron_h": "chunk_size", "bamba": "mamba_chunk_size",
              "granitemoehybrid": "mamba_chunk_size", "falcon_h1": "mamba_chunk_size"}
# Where the search for a stable model begins: the seeds that it found.
SEEDS = {
    "falcon_mamba_tied": 100013, "falcon_mamba_wide": 101005, "zamba2_one_block": 102031,
    "zamba2_two_blocks": 103026, "zamba2_bias": 104054, "jamba_experts": 105142,
    "jamba_dense": 106026, "llama_llama3": 107006, "llama_linear_bias": 108367,
    "mistral_window": 109015, "mamba_in_llama": 110034, "mamba2_in_llama": 111010,
    "m1_mamba_in_llama": 112019, "bamba_plain": 113022, "bamba_groups": 114015,
    "granite_experts": 115032, "granite_rope": 116002, "nemotron_mlp": 117010,
    "nemotron_experts": 118021, "nemotron_latent": 119001, "falcon_h1_no_norm": 120001,
    "falcon_h1_norm_last": 121018, "falcon_h1_norm_first": 122006, "qwen3_next_experts": 123127,
    "qwen3_next_mixed": 124048,
}
LLAMA3 = dict(rope_type="llama3", rope_theta=5000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=32)


@dataclass
class HybridCase:
    name: str
    family: str  # model_type
    config: dict
    dtype: torch.dtype = torch.bfloat16  # as stored
    tolerance: float = 2e-4
    mamba: dict = field(default_factory=dict)  # mamba_config.json of "The Mamba in the Llama"
    m1_names: bool = False  # mha.* and one in_proj

    def __post_init__(self):
        self.config = TOKENS | self.config
        if self.family in CHUNK_KEYS:
            self.config[CHUNK_KEYS[self.family]] = 16

    @property
    def vocab(self):
        return self.config["vocab_size"]

    @property
    def tied(self):
        return self.config.get("tie_word_embeddings", self.family in ("falcon_mamba", "zamba2"))


def falcon_mamba(name, **config):
    return HybridCase(name, "falcon_mamba", config, torch.float32)


# The shared block has no residual path and amplifies rounding.
def zamba2(name, layers, **config):
    types = ["hybrid" if c == "g" else "linear_attention" for c in layers]
    # transformers clamps the time step below; the models were trained without.
    return HybridCase(name, "zamba2", dict(layers_block_type=types, num_hidden_layers=len(types),
                                           time_step_min=1e-12, **config),
                      tolerance=1e-3)


def nemotron(name, pattern, **config):
    spelled = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
    return HybridCase(name, "nemotron_h", dict(layers_block_type=[spelled[c] for c in pattern],
                                               time_step_min=1e-12, **config))


def mixers(pattern):
    return ["full_attention" if c == "*" else "linear_attention" for c in pattern]


FALCON_H1 = dict(
    embedding_multiplier=2.7, lm_head_multiplier=0.35, key_multiplier=0.7,
    attention_in_multiplier=1.3, attention_out_multiplier=0.8, ssm_in_multiplier=1.2,
    ssm_out_multiplier=0.9, ssm_multipliers=[0.8, 1.25, 0.9, 1.1, 0.7], mlp_multipliers=[0.85, 1.4])

HYBRID_CASES = [
    falcon_mamba("falcon_mamba_tied", hidden_size=32, num_hidden_layers=2, vocab_size=61,
                 state_size=8, time_step_rank=3, layer_norm_epsilon=1e-4, mixer_rms_eps=1e-3,
                 tie_word_embeddings=True),
    falcon_mamba("falcon_mamba_wide", hidden_size=24, num_hidden_layers=3, vocab_size=56,
                 state_size=5, expand=16, intermediate_size=40, conv_kernel=3, use_bias=True,
                 tie_word_embeddings=False),

    zamba2("zamba2_one_block", "mgmg", hidden_size=24, vocab_size=64, n_mamba_heads=4,
           mamba_d_state=8, num_attention_heads=4, intermediate_size=40, num_mem_blocks=1,
           adapter_rank=5),
    zamba2("zamba2_two_blocks", "mggmg", hidden_size=24, vocab_size=61, n_mamba_heads=4,
           mamba_d_state=6, mamba_ngroups=2, num_attention_heads=4, intermediate_size=36,
           num_mem_blocks=2, adapter_rank=3, use_shared_attention_adapter=True, use_mem_rope=True),
    zamba2("zamba2_bias", "gm", hidden_size=28, vocab_size=53, n_mamba_heads=7, mamba_d_state=5,
           mamba_d_conv=3, num_attention_heads=2, intermediate_size=32, num_mem_blocks=1,
           adapter_rank=4, use_mem_rope=True, add_bias_linear=True, tie_word_embeddings=False,
           rms_norm_eps=1e-4, rope_parameters=dict(rope_type="default", rope_theta=300.0)),

    HybridCase("jamba_experts", "jamba", dict(
        hidden_size=32, num_hidden_layers=4, vocab_size=64, intermediate_size=24,
        num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        attn_layer_period=3, attn_layer_offset=1, mamba_d_state=8, mamba_dt_rank=5)),
    HybridCase("jamba_dense", "jamba", dict(
        hidden_size=24, num_hidden_layers=3, vocab_size=50, intermediate_size=40,
        num_attention_heads=3, num_key_value_heads=1, num_experts=1, num_experts_per_tok=1,
        attn_layer_period=2, attn_layer_offset=1, mamba_d_state=5, mamba_d_conv=3,
        mamba_proj_bias=True, mamba_conv_bias=False, rms_norm_eps=1e-4,
        tie_word_embeddings=True), torch.float32),

    HybridCase("llama_llama3", "llama", dict(
        hidden_size=32, num_hidden_layers=2, vocab_size=64, intermediate_size=48,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, rope_parameters=LLAMA3),
        torch.float32),
    HybridCase("llama_linear_bias", "llama", dict(
        hidden_size=24, num_hidden_layers=3, vocab_size=53, intermediate_size=40,
        num_attention_heads=3, num_key_value_heads=1, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=True, rms_norm_eps=1e-4,
        rope_parameters=dict(rope_type="linear", rope_theta=1000.0, factor=2.5)), torch.float32),
    HybridCase("mistral_window", "mistral", dict(
        hidden_size=32, num_hidden_layers=3, vocab_size=67, intermediate_size=40,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=19)),

    HybridCase("mamba_in_llama", "mamba_in_llama", dict(
        hidden_size=32, num_hidden_layers=3, vocab_size=59, intermediate_size=40,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, rope_parameters=LLAMA3),
        mamba=dict(d_model=32, ssm_cfg=dict(expand=1, d_state=4, dt_rank=3), rms_norm_eps=1e-5,
                   vocab_size=None, d_inner=None, d_xb=16, intermediate_size=40,
                   hidden_act="silu", n_layer=3, attn_layers=[1])),
    HybridCase("mamba2_in_llama", "mamba_in_llama", dict(
        hidden_size=32, num_hidden_layers=4, vocab_size=64, intermediate_size=36,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
        mamba=dict(d_model=32, ssm_cfg=dict(expand=1, ngroups=4, d_state=8), rms_norm_eps=1e-5,
                   vocab_size=None, d_inner=32, d_xb=16, intermediate_size=36, hidden_act="silu",
                   n_layer=4, attn_layers=[1, 3])),
    HybridCase("m1_mamba_in_llama", "mamba_in_llama", dict(
        hidden_size=24, num_hidden_layers=3, vocab_size=56, intermediate_size=32,
        num_attention_heads=3, num_key_value_heads=1, rms_norm_eps=1e-5, rope_parameters=LLAMA3),
        torch.float32, m1_names=True,
        mamba=dict(d_model=24, ssm_cfg=dict(expand=1, d_state=4), rms_norm_eps=1e-5,
                   vocab_size=None, d_inner=None, d_xb=8, intermediate_size=32,
                   hidden_act="silu", n_layer=3, attn_layers=[0, 2])),

    HybridCase("bamba_plain", "bamba", dict(
        hidden_size=32, num_hidden_layers=3, vocab_size=64, intermediate_size=40,
        attn_layer_indices=[1], num_attention_heads=4, num_key_value_heads=2, mamba_n_heads=4,
        mamba_d_state=8)),
    HybridCase("bamba_groups", "bamba", dict(
        hidden_size=24, num_hidden_layers=4, vocab_size=55, intermediate_size=32,
        attn_layer_indices=[0, 3], num_attention_heads=3, num_key_value_heads=3, mamba_n_heads=6,
        mamba_n_groups=2, mamba_d_state=6, mamba_d_conv=3, mamba_proj_bias=True,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-4,
        rope_parameters=dict(rope_type="default", rope_theta=200.0))),

    HybridCase("granite_experts", "granitemoehybrid", dict(
        hidden_size=32, num_hidden_layers=3, vocab_size=64, layer_types=mixers("M*M"),
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2,
        intermediate_size=20, shared_intermediate_size=28, mamba_n_heads=8, mamba_n_groups=2,
        mamba_d_state=8, embedding_multiplier=1.4, residual_multiplier=0.8, logits_scaling=1.7,
        attention_multiplier=0.6, tie_word_embeddings=True)),
    HybridCase("granite_rope", "granitemoehybrid", dict(
        hidden_size=24, num_hidden_layers=4, vocab_size=51, layer_types=mixers("*MM*"),
        num_attention_heads=3, num_key_value_heads=1, num_local_experts=0, num_experts_per_tok=0,
        shared_intermediate_size=40, mamba_n_heads=4, mamba_d_state=6, mamba_d_conv=2,
        mamba_proj_bias=True, attention_bias=True, position_embedding_type="rope",
        embedding_multiplier=2.2, residual_multiplier=0.8, logits_scaling=0.6,
        attention_multiplier=0.25, tie_word_embeddings=False, rms_norm_eps=1e-4)),

    nemotron("nemotron_mlp", "M-*M-", hidden_size=32, vocab_size=64, num_attention_heads=4,
             num_key_value_heads=2, head_dim=12, mamba_num_heads=6, mamba_head_dim=8,
             ssm_state_size=8, n_groups=2, intermediate_size=48, use_bias=True, mlp_bias=True),
    nemotron("nemotron_experts", "ME*E", hidden_size=32, vocab_size=64, num_attention_heads=4,
             num_key_value_heads=1, head_dim=8, mamba_num_heads=4, mamba_head_dim=12,
             ssm_state_size=8, n_groups=1, n_routed_experts=8, n_group=4, topk_group=2,
             num_experts_per_tok=3, moe_intermediate_size=20,
             moe_shared_expert_intermediate_size=28, routed_scaling_factor=2.5),
    nemotron("nemotron_latent", "M*E-", hidden_size=28, vocab_size=57, num_attention_heads=2,
             num_key_value_heads=2, head_dim=14, mamba_num_heads=3, mamba_head_dim=16,
             ssm_state_size=7, n_groups=3, conv_kernel=3, use_conv_bias=False,
             intermediate_size=40, n_routed_experts=5, num_experts_per_tok=2,
             moe_intermediate_size=24, moe_shared_expert_intermediate_size=20, moe_latent_size=12,
             norm_topk_prob=False, layer_norm_epsilon=1e-4),

    HybridCase("falcon_h1_no_norm", "falcon_h1", dict(
        hidden_size=24, num_hidden_layers=2, vocab_size=64, intermediate_size=40,
        num_attention_heads=3, num_key_value_heads=1, mamba_d_ssm=40, mamba_n_heads=5,
        mamba_d_state=6, mamba_rms_norm=False, **FALCON_H1), torch.float32),
    HybridCase("falcon_h1_norm_last", "falcon_h1", dict(
        hidden_size=32, num_hidden_layers=3, vocab_size=60, intermediate_size=36,
        num_attention_heads=4, num_key_value_heads=2, head_dim=10, mamba_d_ssm=48,
        mamba_n_heads=6, mamba_n_groups=2, mamba_d_state=8, mamba_rms_norm=True,
        mamba_norm_before_gate=True, attention_bias=True, mlp_bias=True, mamba_proj_bias=True,
        projectors_bias=True, rope_parameters=dict(rope_type="default", rope_theta=1e11),
        **FALCON_H1)),
    HybridCase("falcon_h1_norm_first", "falcon_h1", dict(
        hidden_size=24, num_hidden_layers=3, vocab_size=55, intermediate_size=40,
        num_attention_heads=2, num_key_value_heads=1, mamba_d_ssm=None, mamba_expand=2,
        mamba_n_heads=6, mamba_n_groups=3, mamba_d_state=5, mamba_d_conv=3,
        mamba_conv_bias=False, mamba_rms_norm=True, mamba_norm_before_gate=False,
        tie_word_embeddings=True, **FALCON_H1)),

    HybridCase("qwen3_next_experts", "qwen3_next", dict(
        hidden_size=32, num_hidden_layers=4, vocab_size=64, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=8, num_experts=6, num_experts_per_tok=3,
        moe_intermediate_size=10, shared_expert_intermediate_size=14)),
    HybridCase("qwen3_next_mixed", "qwen3_next", dict(
        hidden_size=24, num_hidden_layers=3, vocab_size=58, layer_types=mixers("M*M"),
        num_attention_heads=2, num_key_value_heads=1, head_dim=12, linear_num_key_heads=1,
        linear_num_value_heads=3, linear_key_head_dim=6, linear_value_head_dim=10,
        linear_conv_kernel_dim=3, num_experts=5, num_experts_per_tok=2, norm_topk_prob=False,
        moe_intermediate_size=12, shared_expert_intermediate_size=10, mlp_only_layers=[1],
        intermediate_size=36, attention_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-4,
        rope_parameters=dict(rope_type="default", rope_theta=500.0,
                             partial_rotary_factor=0.5))),
]

