// The reader and the writer of each family's config.json; model_config.cc chooses among them.
#ifndef SIDEWINDER_MODELS_CONFIG_FAMILIES_H_
#define SIDEWINDER_MODELS_CONFIG_FAMILIES_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/config/model_config.h"
#include "runtime/json.h"

namespace sidewinder {

// mamba.cc. ParseMamba reads the naming of transformers for Mamba-1, Mamba-2 and
// FalconMamba, ParseOriginalMamba that of state-spaces.
absl::StatusOr<ModelConfig> ParseMamba(const JsonReader& reader, ModelFamily family);
absl::StatusOr<ModelConfig> ParseOriginalMamba(const JsonReader& reader);
Json MambaJson(const ModelConfig& config);

// llama.cc. `type` is "llama" or "mistral". A hybrid of "The Mamba in the Llama" is such a
// config and a second object, in a released folder the file mamba_config.json, in ToJson's spelling
// the member "mamba_config".
absl::StatusOr<ModelConfig> ParseLlama(const JsonReader& reader, absl::string_view type);
absl::StatusOr<ModelConfig> ParseMambaInLlama(const JsonReader& reader, absl::string_view type,
                                              const JsonReader& mamba);
Json LlamaJson(const ModelConfig& config);
Json MambaInLlamaJson(const ModelConfig& config);

// bamba.cc: families that share Bamba's names of the mixer's fields.
absl::StatusOr<ModelConfig> ParseBamba(const JsonReader& reader);
absl::StatusOr<ModelConfig> ParseGraniteHybrid(const JsonReader& reader);
absl::StatusOr<ModelConfig> ParseFalconH1(const JsonReader& reader);
Json BambaJson(const ModelConfig& config);
Json GraniteHybridJson(const ModelConfig& config);
Json FalconH1Json(const ModelConfig& config);

// zamba2.cc, jamba.cc, nemotron_h.cc, qwen3_next.cc
absl::StatusOr<ModelConfig> ParseZamba2(const JsonReader& reader);
absl::StatusOr<ModelConfig> ParseJamba(const JsonReader& reader);
absl::StatusOr<ModelConfig> ParseNemotronH(const JsonReader& reader);
absl::StatusOr<ModelConfig> ParseQwen3Next(const JsonReader& reader);
Json Zamba2Json(const ModelConfig& config);
Json JambaJson(const ModelConfig& config);
Json NemotronHJson(const ModelConfig& config);
Json Qwen3NextJson(const ModelConfig& config);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_FAMILIES_H_
