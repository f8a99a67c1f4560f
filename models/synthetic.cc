#include "models/synthetic.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/config/synthetic_presets.h"
#include "models/weight_loader.h"
#include "runtime/float_convert.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

struct OriginalPreset {
  absl::string_view name;
  absl::string_view layer;  // as ssm_cfg.layer of the original configs
  int64_t hidden_size;
  int64_t num_layers;
};

// Hyper-parameters of the released state-spaces models, and two small enough for tests.
constexpr OriginalPreset kOriginalPresets[] = {
    {"mamba-130m", "Mamba1", 768, 24},   {"mamba-370m", "Mamba1", 1024, 48},
    {"mamba-790m", "Mamba1", 1536, 48},  {"mamba-1.4b", "Mamba1", 2048, 48},
    {"mamba-2.8b", "Mamba1", 2560, 64},  {"mamba2-130m", "Mamba2", 768, 24},
    {"mamba2-370m", "Mamba2", 1024, 48}, {"mamba2-780m", "Mamba2", 1536, 48},
    {"mamba2-1.3b", "Mamba2", 2048, 48}, {"mamba2-2.7b", "Mamba2", 2560, 64},
    {"mamba-tiny", "Mamba1", 64, 2},     {"mamba2-tiny", "Mamba2", 64, 2},
};

// SplitMix64 (Steele, Lea, Flood 2014): a stream of well mixed numbers, one a call.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed * 0xbf58476d1ce4e5b9u) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  float Uniform() { return static_cast<float>(Next() >> 40) * 0x1p-24f; }  // [0, 1)

 private:
  uint64_t state_;
};

// The argument at which softplus gives `value`.
float InverseSoftplus(float value) { return value + std::log(-std::expm1(-value)); }

}  // namespace

absl::StatusOr<ModelConfig> SyntheticConfig(absl::string_view name_and_options) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name_and_options, absl::MaxSplits(":vocab=", 1));
  const absl::string_view preset = parts.first;
  const std::string name = absl::StrCat(kSyntheticPrefix, name_and_options);
  int64_t vocab = 0;
  if (preset.size() != name_and_options.size() &&
      !(absl::SimpleAtoi(parts.second, &vocab) && vocab >= 1 && vocab <= kMaxDim)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: vocab is \"%s\"; legal are 1 to %d", name, parts.second, kMaxDim));
  }
  std::string text;
  for (const OriginalPreset& known : kOriginalPresets) {
    if (preset != known.name) continue;
    const int multiple = known.layer == "Mamba1" ? 8 : 16;
    text = absl::StrFormat(
        R"({"d_model": %d, "n_layer": %d, "vocab_size": 50277, "ssm_cfg": {"layer": "%s"},
            "pad_vocab_size_multiple": %d, "tie_embeddings": true})",
        known.hidden_size, known.num_layers, known.layer, multiple);
  }
  for (const SyntheticPreset& known : kSyntheticPresets) {
    if (preset == known.name) text = std::string(known.config);
  }
  if (text.empty()) {
    return absl::NotFoundError(absl::StrCat("no synthetic preset \"", preset, "\"; there are ",
                                            absl::StrJoin(SyntheticPresets(), ", ")));
  }
  SW_ASSIGN_OR_RETURN(Json json, ParseJson(text, name));
  if (vocab > 0) {
    json["vocab_size"] = vocab;
    if (json.contains("pad_vocab_size_multiple")) json["pad_vocab_size_multiple"] = 1;
  }
  return ParseConfig(json, name);
}

std::vector<std::string> SyntheticPresets() {
  std::vector<std::string> names;
  for (const OriginalPreset& preset : kOriginalPresets) names.emplace_back(preset.name);
  for (const SyntheticPreset& preset : kSyntheticPresets) names.emplace_back(preset.name);
  return names;
}

std::vector<float> SyntheticVector(absl::string_view name, const std::vector<int64_t>& shape,
                                   uint64_t seed) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  SplitMix random(seed);
  std::vector<float> values(count, 0.0f);
  if (absl::EndsWith(name, "A_log")) {
    // S4D-real: state element n decays at rate n + 1; a head of Mamba-2 anywhere in [1, 16).
    for (int64_t i = 0; i < count; ++i) {
      const float rate = shape.size() == 2 ? static_cast<float>(i % shape[1] + 1)
                                           : 1.0f + 15.0f * random.Uniform();
      values[i] = std::log(rate);
    }
  } else if (absl::EndsWith(name, "dt_bias") || absl::EndsWith(name, "dt_proj.bias")) {
    for (float& value : values) {
      value = InverseSoftplus(std::exp(std::log(0.001f) + random.Uniform() * std::log(100.0f)));
    }
  } else if (absl::EndsWith(name, "conv1d.weight")) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.back()));
    for (float& value : values) value = scale * (2.0f * random.Uniform() - 1.0f);
  } else if (!absl::EndsWith(name, ".bias")) {
    values.assign(count, 1.0f);
  }
  return values;
}

void SyntheticMatrix(int64_t count, DType dtype, float scale, uint64_t seed, std::byte* out) {
  SplitMix random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const float value = scale * (2.0f * random.Uniform() - 1.0f);
    if (dtype == DType::kFloat32) {
      std::memcpy(out + 4 * i, &value, sizeof(value));
    } else {
      const uint16_t half =
          dtype == DType::kBFloat16 ? FloatToBFloat16(value) : FloatToFloat16(value);
      std::memcpy(out + 2 * i, &half, sizeof(half));
    }
  }
}

uint64_t SyntheticFingerprint(const SyntheticWeights& weights, uint64_t num_tensors) {
  uint64_t hash = SplitMix(weights.seed + num_tensors).Next();
  for (const char c : weights.name) hash = SplitMix(hash ^ static_cast<uint8_t>(c)).Next();
  return hash;
}

}  // namespace sidewinder
