// Causal attention with grouped keys and values over a paged cache. For every row of the plan, at
// position p of its sequence, and query head h with key/value head g = h / (num_heads /
// num_kv_heads):
//   q and k are normed per head (if the model does) and rotated by p (if the model does);
//   k and v are stored in the cache at p, rounded to its type;
//   out[h] = sum_s softmax_s(scale * q[h] . k[g, s]) * v[g, s],  max(0, p - window + 1) <= s <= p.
//
// An entry of the cache belongs to a position, so a rejected row needs no undoing: the next row at
// its position overwrites it. Rows see the keys of the rows before them in the same pass.
//
// The bits of an output row depend on its sequence alone: softmax and sums are taken over segments
// of kKvSegment positions that begin at multiples of it, segments are joined in ascending order
// within groups of kKvGroupSegments, and the groups in ascending order, whatever the number of
// rows, sequences, heads a block takes or the way (decoding or prefill) that the row was reached.
// (The CPU backend joins all segments in one ascending order.)
//
// Rotation (RoPE, half-split): with f = rotary_dim / 2 and angle_i = p * inv_freq[i], i < f,
//   x'[i] = x[i] cos - x[i + f] sin,  x'[i + f] = x[i + f] cos + x[i] sin;
// elements from rotary_dim on stay as they are.
#ifndef SIDEWINDER_KERNELS_ATTENTION_H_
#define SIDEWINDER_KERNELS_ATTENTION_H_

#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"
#include "kernels/row_plan.h"

namespace sidewinder {

inline constexpr int64_t kKvPagePositions{64};  // positions a page of the cache holds
inline constexpr int64_t kKvSegment{128};       // positions one partial softmax covers
inline constexpr int64_t kKvGroupSegments{32};  // segments that are joined before they join others

// Keys and values of one layer for all slots. A page holds kKvPagePositions consecutive positions
// of one sequence for all layers; a layer's part of it is keys and values, each
// [num_kv_heads, kKvPagePositions, head_dim].
struct KvCache {
  void* const* const* tables;  // [slots] device memory: the slot's pages, in order of positions;
                               // they reach as far as any row of a pass
  int64_t key_offset;          // bytes from a page's beginning; multiples of 128, as pages'
                               // addresses are
  int64_t value_offset;
  DType dtype;  // kFloat32 or kBFloat16
};

struct AttentionParams {
  const float* query;       // [rows, num_heads, head_dim]
  const float* key;         // [rows, num_kv_heads, head_dim]
  const float* value;       // [rows, num_kv_heads, head_dim]
  const float* query_norm;  // [head_dim] weights of an RMS norm of every head; null: none
  const float* key_norm;
  const float* inv_freq;  // [rotary_dim / 2]; null if rotary_dim is 0
  float* output;          // [rows, num_heads, head_dim]; may equal query, overlaps nothing else;
                          // holds intermediate results until the op is done
  int64_t num_heads;
  int64_t num_kv_heads;  // divides num_heads
  int64_t head_dim;      // even, <= 256
  int64_t rotary_dim;    // even, <= head_dim; 0: no rotation
  int64_t window;        // positions a row sees, its own included; 0: all
  float scale;
  float norm_eps;
  int64_t query_stride, key_stride, value_stride, output_stride;  // elements between rows
  KvCache cache;
  int64_t max_position;  // no row of the pass is at a position >= this; known to the host, it
                         // sizes launches and scratch (CUDA)
  RowPlan plan;
};

void Attention(ExecutionContext& ctx, const AttentionParams& params);
void AttentionCpu(ExecutionContext& ctx, const AttentionParams& params);
CudaError LaunchAttention(CudaContext& ctx, const AttentionParams& params);
void AttentionRef(const AttentionParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_ATTENTION_H_
