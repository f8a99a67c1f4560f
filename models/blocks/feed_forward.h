// Feed-forward blocks: dense, and mixture of experts (kernels/experts.h) with the expert that every
// row takes.
#ifndef SIDEWINDER_MODELS_BLOCKS_FEED_FORWARD_H_
#define SIDEWINDER_MODELS_BLOCKS_FEED_FORWARD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

// down(act(gate x) * up x), or down(act(up x)) if the family has no gate.
struct FeedForward {
  // Names behind a prefix. `up` is one tensor with the gate's rows first, or gate and up, or up
  // alone.
  struct Names {
    std::vector<std::string> up = {"gate_proj", "up_proj"};
    std::string down = "down_proj";
  };

  WeightView up;        // [inner or 2 * inner, hidden]: gate above up
  VectorView up_bias;   // or empty
  VectorView up_scale;  // or empty
  WeightView down;      // [hidden, inner]
  VectorView down_bias;

  static absl::StatusOr<FeedForward> Load(const ModelConfig& config, WeightLoader& loader,
                                          int64_t inner_size, const std::string& prefix,
                                          const Names& names);
  static int64_t ScratchElements(const ModelConfig& config, int64_t inner_size, int64_t max_rows);
  void Forward(const Pass& pass, const ModelConfig& config, int64_t inner_size,
               const Branch& branch, float* scratch) const;
};

struct ExpertFeedForward {
  // Names behind a prefix, ".weight" included where files have it.
  struct Names {
    std::string router;
    std::string router_correction;         // or empty
    std::string stacked_up, stacked_down;  // [experts, rows, columns]
    std::string expert = "experts.";       // else one matrix an expert, behind
    FeedForward::Names one;                //   "experts.3."
    std::string shared;                    // "shared_experts.", or empty
    FeedForward::Names shared_names;
    std::string shared_gate;             // or empty
    std::string to_latent, from_latent;  // around the routed experts, or empty
  };

  WeightView router;  // [num_experts, hidden]
  VectorView router_correction;
  WeightView to_latent;    // [latent, hidden] or empty: width is hidden_size
  WeightView from_latent;  // [hidden, latent] or empty
  ExpertView up;           // [inner or 2 * inner, width]
  ExpertView down;         // [width, inner]
  FeedForward shared;
  WeightView shared_gate;  // [1, hidden] its sigmoid scales what the shared expert gives; or empty
  VectorView scale;        // [1] of the routed experts' sum, or empty

  static absl::StatusOr<ExpertFeedForward> Load(const ModelConfig& config, WeightLoader& loader,
                                                const std::string& prefix, const Names& names);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);
  void Forward(const Pass& pass, const ModelConfig& config, const Branch& branch,
               float* scratch) const;

 private:
  // The shared expert; its input is normed.
  void ForwardShared(const Pass& pass, const ModelConfig& config, const Branch& branch,
                     float* scratch) const;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_FEED_FORWARD_H_
