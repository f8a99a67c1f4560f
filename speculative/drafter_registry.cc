#include "speculative/drafter_registry.h"

#include "absl/strings/str_format.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "speculative/drafters/model_drafter.h"
#include "speculative/drafters/ngram_drafter.h"
#include "speculative/drafters/null_drafter.h"
#include "speculative/drafters/retokenizing_drafter.h"

namespace sidewinder {
namespace {

// What a proposal costs beyond streaming the draft model's weights: launching its ops, in verifier
// passes. An estimate; with it and the cost of a row, rounds of the pair in checkpoints/ come out
// as docs/benchmarks.md measured them, to about a tenth of a pass.
constexpr float kProposalOverhead{0.03f};

constexpr int32_t kMaxNgram{64};

absl::Status CheckDevice(const Model& verifier, const Model& draft) {
  if (draft.device().name() == verifier.device().name()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "draft model %s is on %s, verifier %s on %s; both must be on one device", draft.info().path,
      draft.device().name(), verifier.info().path, verifier.device().name()));
}

// Without a common vocabulary the two meet in text.
absl::Status CheckTokenizers(const Model& verifier, const Model& draft) {
  if (verifier.tokenizer() != nullptr && draft.tokenizer() != nullptr) return absl::OkStatus();
  const Model& without = verifier.tokenizer() == nullptr ? verifier : draft;
  return absl::InvalidArgumentError(absl::StrFormat(
      "vocabulary mismatch: draft model %s has %d tokens, verifier %s has %d; such a draft is "
      "tokenised again for the verifier, which needs both tokenizers, and %s has no tokenizer.json",
      draft.info().path, draft.info().vocab_limit, verifier.info().path,
      verifier.info().vocab_limit, without.info().path));
}

absl::StatusOr<std::unique_ptr<Drafter>> CreateModelDrafter(const EngineOptions& options,
                                                            const StateStoreOptions& state,
                                                            int32_t max_draft) {
  const std::shared_ptr<const Model>& draft = options.drafter.model;
  if (draft == nullptr) return absl::InvalidArgumentError("no draft model given");
  SW_RETURN_IF_ERROR(CheckDevice(*options.model, *draft));
  const float cost = kProposalOverhead + static_cast<float>(draft->info().weight_bytes) /
                                             static_cast<float>(options.model->info().weight_bytes);
  if (!SharesVocabulary(*options.model, *draft)) {
    SW_RETURN_IF_ERROR(CheckTokenizers(*options.model, *draft));
    return RetokenizingDrafter::Create({.verifier = options.model,
                                        .model = draft,
                                        .num_slots = options.max_sequences,
                                        .prefill_chunk = options.prefill_chunk,
                                        .cost_per_pass = cost});
  }
  ModelDrafterOptions model;
  model.model = draft;
  model.num_slots = options.max_sequences;
  model.max_draft = max_draft;
  model.state = state;
  model.prefill_chunk = options.prefill_chunk;
  model.skips_steps = options.draft_tokens == kAutoDraftTokens;
  model.cost_per_proposal = cost;
  return ModelDrafter::Create(model);
}

}  // namespace

bool SharesVocabulary(const Model& verifier, const Model& draft) {
  if (draft.info().vocab_limit != verifier.info().vocab_limit) return false;
  return draft.tokenizer() == nullptr || verifier.tokenizer() == nullptr ||
         draft.tokenizer()->SameVocabulary(*verifier.tokenizer());
}

absl::StatusOr<std::unique_ptr<Drafter>> CreateDrafter(const EngineOptions& options,
                                                       const StateStoreOptions& state,
                                                       int32_t max_draft) {
  const DrafterOptions& drafter = options.drafter;
  switch (drafter.kind) {
    case DrafterOptions::Kind::kNone:
      return std::make_unique<NullDrafter>();
    case DrafterOptions::Kind::kModel:
      return CreateModelDrafter(options, state, max_draft);
    case DrafterOptions::Kind::kNgram:
      if (drafter.ngram_min < 1 || drafter.ngram_max < drafter.ngram_min ||
          drafter.ngram_max > kMaxNgram) {
        return absl::InvalidArgumentError(
            absl::StrFormat("ngram lengths %d to %d; legal are 1 <= min <= max <= %d",
                            drafter.ngram_min, drafter.ngram_max, kMaxNgram));
      }
      return std::make_unique<NgramDrafter>(drafter.ngram_min, drafter.ngram_max);
    case DrafterOptions::Kind::kCustom:
      if (!drafter.factory) return absl::InvalidArgumentError("custom drafter without a factory");
      return drafter.factory();
  }
  return absl::UnimplementedError("unknown kind of drafter");
}

}  // namespace sidewinder
