// The product of linear_cpu.cc, expert by expert with the rows that chose it. Threads share the
// outputs of all experts: tiles of 16 of them, each as much work as its expert has rows, but no
// less than the time that its weights take to arrive.
#include <algorithm>
#include <vector>

#include "kernels/common/check.h"
#include "kernels/experts.h"
#include "kernels/linear_cpu.h"

namespace sidewinder {
namespace {

constexpr int64_t kTile{16};
constexpr int64_t kStreamRows{4};  // about as many rows' products hide behind the weights

// Outputs [begin, end) of the rows that chose an expert.
void ExpertOutputs(const ExpertLinearParams& p, int64_t expert, int64_t begin, int64_t end) {
  static thread_local std::vector<int32_t> from;
  static thread_local std::vector<float> sums;
  const int32_t* choices = p.choices.order + p.choices.offsets[expert];
  const int64_t rows = p.choices.offsets[expert + 1] - p.choices.offsets[expert];
  from.assign(choices, choices + rows);
  if (!p.input_per_choice) {
    for (int32_t& row : from) row /= static_cast<int32_t>(p.choices.num_chosen);
  }
  LinearParams linear = {.weight = p.weights[expert],
                         .weight_dtype = p.weight_dtype,
                         .bias = nullptr,
                         .input = p.input,
                         .row_index = from.data(),
                         .output = p.output + choices[0] * p.out_dim,
                         .in_dim = p.in_dim,
                         .out_dim = p.out_dim,
                         .input_stride = p.input_stride,
                         .output_stride = p.out_dim,
                         .accumulate = false,
                         .num_rows = p.num_rows,
                         .max_rows = p.max_rows};
  if (rows == 1) return LinearOutputsCpu(linear, rows, begin, end);
  // The product writes rows one behind the other: here `end - begin` apart, so that the outputs
  // asked for lie dense behind the first `begin` elements.
  const int64_t width = end - begin;
  if (static_cast<int64_t>(sums.size()) < begin + rows * width) sums.resize(begin + rows * width);
  linear.output = sums.data();
  linear.output_stride = width;
  LinearOutputsCpu(linear, rows, begin, end);
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(sums.data() + begin + i * width, width, p.output + choices[i] * p.out_dim + begin);
  }
}

// An expert that some row chose.
struct Hit {
  int64_t expert;
  int64_t begin;      // work of those before it
  int64_t tile_work;  // of a tile of its outputs
};

}  // namespace

void ExpertLinearCpu(ExecutionContext& ctx, const ExpertLinearParams& params) {
  SW_CHECK(params.in_dim >= 1 && params.out_dim >= 1 && params.choices.num_experts <= kMaxExperts)
      << "in_dim=" << params.in_dim << " out_dim=" << params.out_dim
      << " num_experts=" << params.choices.num_experts;
  if (*params.num_rows <= 0) return;
  const int64_t tiles = (params.out_dim + kTile - 1) / kTile;
  Hit hits[kMaxExperts];
  int64_t num_hits = 0, work = 0;
  for (int64_t e = 0; e < params.choices.num_experts; ++e) {
    const int64_t rows = params.choices.offsets[e + 1] - params.choices.offsets[e];
    if (rows == 0) continue;
    hits[num_hits++] = {e, work, std::max(rows, kStreamRows)};
    work += tiles * hits[num_hits - 1].tile_work;
  }
  // A tile belongs to the thread whose share its work begins in.
  ctx.pool->ParallelFor(work, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < num_hits; ++i) {
      const Hit& hit = hits[i];
      const auto first_tile_from = [&](int64_t at) {
        const int64_t tile = (at - hit.begin + hit.tile_work - 1) / hit.tile_work;
        return at <= hit.begin ? 0 : std::min(tile, tiles);
      };
      const int64_t from = first_tile_from(begin), to = first_tile_from(end);
      if (from == to) continue;
      ExpertOutputs(params, hit.expert, from * kTile, std::min(to * kTile, params.out_dim));
    }
  });
}

}  // namespace sidewinder
