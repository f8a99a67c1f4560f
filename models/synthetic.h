// Models of real shapes with random weights, for benchmarks without downloads:
// `--model synthetic:mamba-2.8b`. Speed, memory and traffic are those of the real model; the text
// is noise. Presets that end in -tiny (hidden size 64, a few layers) are for tests.
#ifndef SIDEWINDER_MODELS_SYNTHETIC_H_
#define SIDEWINDER_MODELS_SYNTHETIC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/common/dtype.h"
#include "models/config/model_config.h"

namespace sidewinder {

struct SyntheticWeights;

inline constexpr absl::string_view kSyntheticPrefix{"synthetic:"};

// Configuration of a preset, e.g. "mamba2-2.7b", or "mamba2-130m:vocab=65024" with another number
// of tokens, to draft for a verifier of another family. NotFound lists the presets there are.
absl::StatusOr<ModelConfig> SyntheticConfig(absl::string_view preset);
std::vector<std::string> SyntheticPresets();

// Values as an initialisation would give them, by the kind of tensor that the name tells: norms and
// D are 1, time steps lie between 0.001 and 0.1, biases are 0.
std::vector<float> SyntheticVector(absl::string_view name, const std::vector<int64_t>& shape,
                                   uint64_t seed);

// `count` values uniform in [-scale, scale).
void SyntheticMatrix(int64_t count, DType dtype, float scale, uint64_t seed, std::byte* out);

uint64_t SyntheticFingerprint(const SyntheticWeights& weights, uint64_t num_tensors);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_SYNTHETIC_H_
