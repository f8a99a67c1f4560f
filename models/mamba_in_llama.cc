#include "models/mamba_in_llama.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMambaInLlama(const ModelConfig& config,
                                                                        WeightLoader loader) {
  const bool mamba1 = config.time_step_rank > 0;
  if (config.repeat_before_conv != mamba1) {
    return absl::UnimplementedError(
        absl::StrFormat("mamba_config.json: \"repeat_kv_before_conv\" is %s; supported is %s with "
                        "mixers of Mamba-%d",
                        mamba1 ? "false" : "true", mamba1 ? "true" : "false", mamba1 ? 1 : 2));
  }
  // Folders of the fused class were trained with plain rotation, whatever their teacher's has.
  ModelConfig as_trained = config;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (!loader.Has(absl::StrCat("model.layers.", i, ".mha.in_proj.weight"))) continue;
    as_trained.attention.rope.scaling = RopeConfig::Scaling::kNone;
    as_trained.attention.window = 0;
  }
  return HybridDecoder::Create(
      as_trained, std::move(loader),
      mamba1 ? RecurrentMixer::kRepeatedMamba1 : RecurrentMixer::kRepeatedMamba2,
      {.attention = {"self_attn.", "mha."}});
}

}  // namespace sidewinder
