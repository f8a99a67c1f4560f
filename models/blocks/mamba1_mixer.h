// The Mamba-1 mixer (Gu and Dao, arXiv 2312.00752), with the inner norms of Falcon Mamba (without
// weights) and Jamba (with weights) where the configuration has them.
#ifndef SIDEWINDER_MODELS_BLOCKS_MAMBA1_MIXER_H_
#define SIDEWINDER_MODELS_BLOCKS_MAMBA1_MIXER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

struct Mamba1Mixer {
  WeightView in_proj;  // [2 * inner, hidden]: rows u, z
  VectorView in_proj_bias;
  VectorView conv_weight;  // [taps, inner]
  VectorView conv_bias;
  WeightView x_proj;  // [rank + 2 * state, inner]: rows low-rank dt, B, C
  VectorView dt_norm, b_norm, c_norm;
  WeightView dt_proj;  // [inner, rank]
  VectorView dt_bias;
  VectorView a;  // [state, inner], negative
  VectorView d;
  WeightView out_proj;  // [hidden, inner]
  VectorView out_proj_bias;

  // `prefix` as "backbone.layers.0.mixer.".
  static absl::StatusOr<Mamba1Mixer> Load(const ModelConfig& config, WeightLoader& loader,
                                          const std::string& prefix);
  static RecurrentShape Shape(const ModelConfig& config);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);

  // `layer`: which recurrent layer of the store.
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_MAMBA1_MIXER_H_
