#include "models/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/bamba.h"
#include "models/falcon_h1.h"
#include "models/granite_hybrid.h"
#include "models/jamba.h"
#include "models/llama.h"
#include "models/mamba1.h"
#include "models/mamba2.h"
#include "models/mamba_in_llama.h"
#include "models/nemotron_h.h"
#include "models/qwen3_next.h"
#include "models/zamba2.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateLanguageModel(const ModelConfig& config,
                                                                         WeightLoader loader) {
  switch (config.family) {
    case ModelFamily::kMamba1:
    case ModelFamily::kFalconMamba:
      return CreateMamba1(config, std::move(loader));
    case ModelFamily::kMamba2:
      return CreateMamba2(config, std::move(loader));
    case ModelFamily::kZamba2:
      return CreateZamba2(config, std::move(loader));
    case ModelFamily::kJamba:
      return CreateJamba(config, std::move(loader));
    case ModelFamily::kMambaInLlama:
      return CreateMambaInLlama(config, std::move(loader));
    case ModelFamily::kLlama:
      return CreateLlama(config, std::move(loader));
    case ModelFamily::kBamba:
      return CreateBamba(config, std::move(loader));
    case ModelFamily::kGraniteHybrid:
      return CreateGraniteHybrid(config, std::move(loader));
    case ModelFamily::kNemotronH:
      return CreateNemotronH(config, std::move(loader));
    case ModelFamily::kFalconH1:
      return CreateFalconH1(config, std::move(loader));
    case ModelFamily::kQwen3Next:
      return CreateQwen3Next(config, std::move(loader));
  }
  return absl::UnimplementedError(absl::StrCat("no network for family ", Name(config.family)));
}

}  // namespace sidewinder
