#include "models/mamba_in_llama.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMambaInLlama(const ModelConfig& config,
                                                                        WeightLoader loader) {
  const RecurrentMixer mixer =
      config.time_step_rank > 0 ? RecurrentMixer::kRepeatedMamba1 : RecurrentMixer::kRepeatedMamba2;
  return HybridDecoder::Create(config, std::move(loader), mixer,
                               {.attention = {"self_attn.", "mha."}});
}

}  // namespace sidewinder
