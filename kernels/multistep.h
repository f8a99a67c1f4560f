// MultiStep: the fused recurrent step of a pass, for Mamba-1 (a decay per channel and state
// element), Mamba-2 (a decay per head) and gated DeltaNet (a decay per head, and an update that
// depends on the state). For every sequence of the plan, in one op:
//
//   1. load the checkpoint (state after position `checkpoint`) and replay the log rows of
//      [checkpoint, consumed) on top of it
//   2. on passing position `new_checkpoint` (if it differs from `checkpoint`) store the state there
//   3. decode the new rows from that state, without storing intermediate states; write outputs
//   4. append the new rows at positions >= new_checkpoint to the log
//
// The log is a ring keyed by position: row of position p is p % log_rows. A decoding pass never
// writes an entry that it also replays: for every sequence log_rows >= (consumed - checkpoint) +
// num_rows. A prefill pass, whose rows are committed and move the checkpoint, may wrap around onto
// rows it replays: an implementation replays first and appends last, with blocks that run at their
// own pace too. The arithmetic of a row is the same whether it is decoded, replayed or prefilled,
// so every path gives the same bits, but for whole chunks:
//
// If `plan.prefill` is set, a backend may evaluate new rows at positions [k * kScanChunk,
// (k + 1) * kScanChunk) together, where a sequence has all of them before its new checkpoint. Which
// rows that are depends on the shape and on the sequence's own entry of the plan. Their bits, and
// those of the state behind them, are functions of the state before the chunk, of its rows and of
// nothing else: the same however a prompt is split into passes at multiples of kScanChunk. Of
// snapshots only the last one behind such rows is stored.
//
// Snapshots (a baseline for benchmarks): if `snapshots` is not null, log and checkpoint are not
// used; the start state is the snapshot of position `consumed`, and the state after every new row
// at position p is stored as the snapshot of position p + 1. Entry of position q is q %
// snapshot_rows; all zeros in a fresh slot.
#ifndef SIDEWINDER_KERNELS_MULTISTEP_H_
#define SIDEWINDER_KERNELS_MULTISTEP_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// Recurrent state of one layer for all slots. What a log row holds is that of Mamba; of DeltaNet
// see below.
struct RecurrentState {
  float* checkpoint;  // [slots, state_elements]; state_elements and layout per op below
  float* log_x;       // [slots, log_rows, inner_dim] post-convolution x
  float* log_delta;   // [slots, log_rows, delta_dim] time steps after bias, softplus and limits
  float* log_b;       // [slots, log_rows, b_dim]
  float* snapshots;   // [slots, snapshot_rows, state_elements], null unless snapshots are kept
  int64_t log_rows;
  int64_t snapshot_rows;
};

// Mamba-1 ("S6"), models.md 2.3 of the model specification: per channel c and state element n
//   delta = softplus(dt[c] + dt_bias[c]);  S <- exp(delta * A[c,n]) * S + delta * B[n] * x[c]
//   y[c] = sum_n S * C[n] + D[c] * x[c];   out[c] = y[c] * silu(z[c])
// B and C are those of group g = c / (inner_dim / num_groups); plain Mamba-1 has one group.
// State layout: [state_dim][inner_dim]. delta_dim = inner_dim, b_dim = num_groups * state_dim.
struct MultiStepMamba1Params {
  const float* x;        // [rows, inner_dim] post-convolution
  const float* z;        // [rows, inner_dim] gate
  const float* dt;       // [rows, inner_dim] raw time steps, without bias
  const float* b;        // [rows, num_groups * state_dim]
  const float* c;        // [rows, num_groups * state_dim]
  const float* a;        // [state_dim, inner_dim] = -exp(A_log), transposed
  const float* d;        // [inner_dim]
  const float* dt_bias;  // [inner_dim]
  float* output;         // [rows, inner_dim]
  int64_t inner_dim;
  int64_t state_dim;
  int64_t num_groups = 1;                                                    // divides inner_dim
  int64_t x_stride, z_stride, dt_stride, b_stride, c_stride, output_stride;  // between rows
  RecurrentState state;
  RowPlan plan;
};

void MultiStepMamba1(ExecutionContext& ctx, const MultiStepMamba1Params& params);
void MultiStepMamba1Cpu(ExecutionContext& ctx, const MultiStepMamba1Params& params);
CudaError LaunchMultiStepMamba1(CudaContext& ctx, const MultiStepMamba1Params& params);
void MultiStepMamba1Ref(const MultiStepMamba1Params& params);

// Mamba-2 ("SSD"): per head h, group g = h / (num_heads / num_groups)
//   delta = clamp(softplus(dt[h] + dt_bias[h]), delta_min, delta_max);  decay = exp(a[h] * delta)
//   S[n,p] <- decay * S[n,p] + (delta * x[h,p]) * B[g,n];   y[h,p] = sum_n S[n,p] * C[g,n] + D *
//   x[h,p]
// State layout: [num_heads][state_dim][head_dim]. delta_dim = num_heads, b_dim = num_groups *
// state_dim.
struct MultiStepMamba2Params {
  const float* x;        // [rows, num_heads * head_dim] post-convolution
  const float* b;        // [rows, num_groups * state_dim]
  const float* c;        // [rows, num_groups * state_dim]
  const float* dt;       // [rows, num_heads] raw time steps, without bias
  const float* a;        // [num_heads] = -exp(A_log)
  const float* d;        // [num_heads * head_dim] (a per-head D is expanded at load)
  const float* dt_bias;  // [num_heads]
  float* output;         // [rows, num_heads * head_dim], before the gate
  int64_t num_heads;
  int64_t head_dim;
  int64_t num_groups;  // divides num_heads
  int64_t state_dim;
  float delta_min;
  float delta_max;                                                 // may be infinity
  int64_t x_stride, b_stride, c_stride, dt_stride, output_stride;  // between rows
  RecurrentState state;
  RowPlan plan;
};

// kScanChunk if the CUDA backend has a form for whole chunks, otherwise 1.
int32_t MultiStepMamba2Chunk(int64_t head_dim, int64_t state_dim);

void MultiStepMamba2(ExecutionContext& ctx, const MultiStepMamba2Params& params);
void MultiStepMamba2Cpu(ExecutionContext& ctx, const MultiStepMamba2Params& params);
CudaError LaunchMultiStepMamba2(CudaContext& ctx, const MultiStepMamba2Params& params);
void MultiStepMamba2Ref(const MultiStepMamba2Params& params);

// Gated DeltaNet: per value head h, with key head h / (num_heads / num_key_heads)
//   qh = key_dim^-0.5 q / sqrt(sum q^2 + 1e-6);   kh = k / sqrt(sum k^2 + 1e-6)
//   g = a[h] * softplus(dt[h] + dt_bias[h]);   S <- exp(g) * S
//   m[p] = sigmoid(beta[h]) * (v[h,p] - sum_n S[n,p] * kh[n])
//   S[n,p] <- S[n,p] + kh[n] * m[p];   o[h,p] = sum_n S[n,p] * qh[n]
// State layout: [num_heads][key_dim][head_dim]. A log row keeps what makes the replay linear in the
// state: m as x, g as delta and kh as b. delta_dim = num_heads, b_dim = num_key_heads * key_dim.
// Unlike the rows of Mamba, m is of the rows before it: a log row is valid behind these only.
struct MultiStepDeltaNetParams {
  const float* q;        // [rows, num_key_heads * key_dim] post-convolution
  const float* k;        // [rows, num_key_heads * key_dim] post-convolution
  const float* v;        // [rows, num_heads * head_dim] post-convolution
  const float* beta;     // [rows, num_heads] before the sigmoid
  const float* dt;       // [rows, num_heads] raw time steps, without bias
  const float* a;        // [num_heads] = -exp(A_log)
  const float* dt_bias;  // [num_heads]
  float* output;         // [rows, num_heads * head_dim], before norm and gate
  int64_t num_heads;
  int64_t head_dim;
  int64_t num_key_heads;  // divides num_heads
  int64_t key_dim;
  int64_t q_stride, k_stride, v_stride, beta_stride, dt_stride, output_stride;  // between rows
  RecurrentState state;
  RowPlan plan;
};

inline constexpr float kDeltaNetNormEps{1e-6f};  // of the keys and queries, not of the mean

void MultiStepDeltaNet(ExecutionContext& ctx, const MultiStepDeltaNetParams& params);
void MultiStepDeltaNetCpu(ExecutionContext& ctx, const MultiStepDeltaNetParams& params);
CudaError LaunchMultiStepDeltaNet(CudaContext& ctx, const MultiStepDeltaNetParams& params);
void MultiStepDeltaNetRef(const MultiStepDeltaNetParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_MULTISTEP_H_
