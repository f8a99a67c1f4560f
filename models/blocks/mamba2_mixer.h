// The Mamba-2 mixer (Dao and Gu, arXiv 2405.21060) as Mamba-2, Codestral Mamba, Zamba2, Bamba,
// Granite, Nemotron-H and Falcon-H1 use it.
#ifndef SIDEWINDER_MODELS_BLOCKS_MAMBA2_MIXER_H_
#define SIDEWINDER_MODELS_BLOCKS_MAMBA2_MIXER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

struct Mamba2Mixer {
  WeightView in_proj;        // [in_proj_dim, hidden]: rows z, x, B, C, dt
  VectorView in_proj_bias;   // [in_proj_dim] or empty
  VectorView in_proj_scale;  // [in_proj_dim] or empty
  VectorView conv_weight;    // [taps, conv_dim]: channels x, B, C
  VectorView conv_bias;      // [conv_dim] or empty
  VectorView a;              // [num_heads], negative
  VectorView d;              // [inner]
  VectorView dt_bias;        // [num_heads]
  VectorView gated_norm;     // [inner]; empty: the gate alone
  WeightView out_proj;       // [hidden, inner]
  VectorView out_proj_bias;

  // `prefix` as "backbone.layers.0.mixer.".
  static absl::StatusOr<Mamba2Mixer> Load(const ModelConfig& config, WeightLoader& loader,
                                          const std::string& prefix);
  static RecurrentShape Shape(const ModelConfig& config);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);

  // `layer`: which recurrent layer of the store.
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_MAMBA2_MIXER_H_
