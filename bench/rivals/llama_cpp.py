#!/usr/bin/env python3
"""Plain decoding with llama.cpp: writes a GGUF file of random weights and has llama-bench run it.

llama-bench feeds random tokens, one a step, and waits for the logits of each; it picks none of
them. Its prompt is a test of its own, so tokens/s is decoding alone here, too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import common

PARSER = common.option_parser(__doc__.partition("\n")[0])
PARSER.add_argument("--llama-bench", metavar="FILE",
                    help="program to run (default: that of --packages, else of the PATH)")
PARSER.add_argument("--gguf-dir", metavar="DIR", default=tempfile.gettempdir(),
                    help="where the weights are written for the run, 2 bytes a parameter "
                    "(default: %(default)s)")
PARSER.add_argument("--keep", action="store_true", help="keep the GGUF files")
ARGS = common.parse_args(PARSER)
try:
    import numpy
    import gguf
except ImportError as error:
    common.missing("gguf", error)

# Matrices of random bits: sign and fraction are random, the exponent is that of 2^-6, which
# makes a standard deviation of about 0.02. Drawing numbers would take minutes for 2.8 billion.
BIT_FORMS = {"float16": (0x83FF, 9 << 10), "bfloat16": (0x807F, 121 << 7)}
RANDOM = numpy.random.default_rng(0)


def random_matrix(rows, columns):
    keep, exponent = BIT_FORMS[ARGS.dtype]
    bits = numpy.frombuffer(RANDOM.bytes(2 * rows * columns), numpy.uint16)
    return (bits & keep | exponent).reshape(rows, columns)


def random_vector(*shape):
    return RANDOM.normal(0, 0.02, shape).astype(numpy.float32)


def ones(*shape):
    return numpy.ones(shape, numpy.float32)


def decays(heads, states):
    """A, which llama.cpp keeps as -exp(A_log)."""
    return numpy.tile(-numpy.arange(1, states + 1, dtype=numpy.float32), (heads, 1))


def tensors(generation, hidden_size, layers):
    """Yields (name, shape, is_matrix, make) as convert_hf_to_gguf.py lays a model out: matrices in
    the file's type, everything else in F32, the output tied to the embedding."""
    inner = 2 * hidden_size
    yield "token_embd.weight", (common.padded_vocab(generation), hidden_size), True, random_matrix
    for i in range(layers):
        yield f"blk.{i}.attn_norm.weight", (hidden_size,), False, ones
        if generation == 1:
            rank = -(-hidden_size // 16)
            conv_size, in_size = inner, 2 * inner
            yield f"blk.{i}.ssm_x.weight", (rank + 2 * 16, inner), True, random_matrix
            yield f"blk.{i}.ssm_dt.weight", (inner, rank), True, random_matrix
            yield f"blk.{i}.ssm_dt.bias", (inner,), False, random_vector
            yield f"blk.{i}.ssm_a", (inner, 16), False, decays
            yield f"blk.{i}.ssm_d", (inner,), False, ones
        else:
            heads = inner // 64
            conv_size = inner + 2 * 128
            in_size = inner + conv_size + heads
            yield f"blk.{i}.ssm_dt.bias", (heads,), False, random_vector
            yield f"blk.{i}.ssm_a", (heads, 1), False, decays
            yield f"blk.{i}.ssm_d", (heads, 1), False, ones
            yield f"blk.{i}.ssm_norm.weight", (1, inner), False, ones
        yield f"blk.{i}.ssm_in.weight", (in_size, hidden_size), True, random_matrix
        yield f"blk.{i}.ssm_conv1d.weight", (conv_size, 4), False, random_vector
        yield f"blk.{i}.ssm_conv1d.bias", (conv_size,), False, random_vector
        yield f"blk.{i}.ssm_out.weight", (hidden_size, inner), True, random_matrix
    yield "output_norm.weight", (hidden_size,), False, ones


def add_metadata(writer, generation, hidden_size, layers):
    inner = 2 * hidden_size
    writer.add_context_length(2**20)
    writer.add_embedding_length(hidden_size)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(layers)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(16 if generation == 1 else 128)
    if generation == 1:
        writer.add_ssm_time_step_rank(-(-hidden_size // 16))
        writer.add_ssm_dt_b_c_rms(False)
    else:
        writer.add_ssm_time_step_rank(inner // 64)
        writer.add_ssm_group_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    types = {"float16": gguf.LlamaFileType.MOSTLY_F16, "bfloat16": gguf.LlamaFileType.MOSTLY_BF16}
    writer.add_file_type(types[ARGS.dtype])
    writer.add_vocab_size(common.padded_vocab(generation))
    writer.add_tokenizer_model("none")  # llama-bench needs token ids only


def write_gguf(path, preset):
    """One tensor is in memory at a time. Returns the bytes of all of them."""
    shape = common.PRESETS[preset]
    types = gguf.GGMLQuantizationType
    matrix_type = types.F16 if ARGS.dtype == "float16" else types.BF16
    writer = gguf.GGUFWriter(path, "mamba" if shape[0] == 1 else "mamba2")
    add_metadata(writer, *shape)
    num_bytes = 0
    for name, dims, is_matrix, _ in tensors(*shape):
        dtype = numpy.dtype(numpy.uint16 if is_matrix else numpy.float32)
        tensor_bytes = int(numpy.prod(dims)) * dtype.itemsize
        writer.add_tensor_info(name, dims, dtype, tensor_bytes,
                               raw_dtype=matrix_type if is_matrix else types.F32)
        num_bytes += tensor_bytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, dims, _, make in tensors(*shape):
        writer.write_tensor_data(make(*dims))
    writer.close()
    return num_bytes


def find_llama_bench():
    path = ARGS.llama_bench
    if not path and ARGS.packages and os.path.exists(os.path.join(ARGS.packages, "llama-bench")):
        path = os.path.join(ARGS.packages, "llama-bench")
    found = shutil.which(path or "llama-bench")
    if not found:
        sys.exit(f"no program {path or 'llama-bench'}, nothing measured; setup.sh --llama makes it")
    return found


def run_llama_bench(program, path):
    """The list that llama-bench prints: an entry for the prompt, one for decoding."""
    command = [program, "-m", path, "-p", str(ARGS.prompt_tokens), "-n", str(ARGS.max_new_tokens),
               "-r", str(ARGS.repeat), "-o", "json"]
    command += ["-ngl", "99"] if ARGS.device == "cuda" else ["-ngl", "0", "-dev", "none"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}:\n"
                           f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
    entries = json.loads(result.stdout)
    if ARGS.device == "cuda" and not entries[0]["gpu_info"]:
        raise RuntimeError(f"{program} ran on the CPU: it is built without CUDA or found no GPU\n"
                           f"{result.stderr[-4000:]}")
    return entries


def measure(preset):
    path = os.path.join(ARGS.gguf_dir, f"{preset}-random-{ARGS.dtype}.gguf")
    try:
        num_bytes = write_gguf(path, preset)
        entries = run_llama_bench(LLAMA_BENCH, path)
    finally:
        if not ARGS.keep and os.path.exists(path):
            os.remove(path)
    decoding = next(entry for entry in entries if entry["n_gen"] > 0)
    per_token = min(decoding["samples_ns"]) * 1e-9 / decoding["n_gen"]
    common.print_line(ARGS, "llama.cpp", decoding["build_commit"], preset, per_token, num_bytes,
                      f"llama-bench on the {ARGS.device}; random tokens, nothing sampled")


LLAMA_BENCH = find_llama_bench()
common.measure_presets(ARGS, measure)
