// The mixers of "The Mamba in the Llama" (Wang et al., arXiv 2408.15237): Mamba-1 and Mamba-2 in
// the shape of the attention they were distilled from. x and B have the width of keys and values
// and are repeated for the heads that share them; every head has a C of its own.
#ifndef SIDEWINDER_MODELS_BLOCKS_REPEATED_MIXER_H_
#define SIDEWINDER_MODELS_BLOCKS_REPEATED_MIXER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

// Heads of state_size channels; only x is convolved, and it is repeated before that. The bias of
// dt_proj enters the time step twice, as the models were trained.
struct RepeatedMamba1Mixer {
  WeightView in_proj;               // rows z, x, B, C, low-rank dt
  const int32_t* repeat = nullptr;  // [2 * inner]: columns of x, then of B
  VectorView conv_weight;           // [taps, inner]
  VectorView conv_bias;
  WeightView dt_proj;  // [inner, rank]
  VectorView dt_bias;  // [inner] twice the bias
  VectorView a;        // [state, inner], negative
  VectorView d;
  WeightView out_proj;

  static absl::StatusOr<RepeatedMamba1Mixer> Load(const ModelConfig& config, WeightLoader& loader,
                                                  const std::string& prefix);
  static RecurrentShape Shape(const ModelConfig& config);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

// As many groups as heads; x, B and C are convolved, then x and B repeated.
struct RepeatedMamba2Mixer {
  WeightView in_proj;               // rows z, x, B, C, dt
  const int32_t* repeat = nullptr;  // [2 * inner]: columns of x, then of B
  VectorView conv_weight;           // [taps, 2 * repeated + inner]
  VectorView conv_bias;
  VectorView a;        // [num_heads], negative
  VectorView d;        // [inner]
  VectorView dt_bias;  // [num_heads]
  VectorView gated_norm;
  WeightView out_proj;

  static absl::StatusOr<RepeatedMamba2Mixer> Load(const ModelConfig& config, WeightLoader& loader,
                                                  const std::string& prefix);
  static RecurrentShape Shape(const ModelConfig& config);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_REPEATED_MIXER_H_
