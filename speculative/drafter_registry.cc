#include "speculative/drafter_registry.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "speculative/drafters/model_drafter.h"
#include "speculative/drafters/ngram_drafter.h"
#include "speculative/drafters/null_drafter.h"

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

absl::Status CheckVocabulary(const Model& verifier, const Model& draft) {
  if (draft.info().vocab_limit != verifier.info().vocab_limit) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "vocabulary mismatch: draft model %s has %d tokens, verifier %s has %d; a draft model must "
        "share the verifier's vocabulary",
        draft.info().path, draft.info().vocab_limit, verifier.info().path,
        verifier.info().vocab_limit));
  }
  if (draft.tokenizer() != nullptr && verifier.tokenizer() != nullptr &&
      !draft.tokenizer()->SameVocabulary(*verifier.tokenizer())) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary mismatch: draft model ", draft.info().path, " and verifier ",
                     verifier.info().path,
                     " have tokenizers that give the same ids to different "
                     "tokens; a draft model must share the verifier's vocabulary"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Drafter>> CreateModelDrafter(const EngineOptions& options,
                                                            const StateStoreOptions& state,
                                                            int32_t max_draft) {
  const std::shared_ptr<const Model>& draft = options.drafter.model;
  if (draft == nullptr) return absl::InvalidArgumentError("no draft model given");
  SW_RETURN_IF_ERROR(CheckDevice(*options.model, *draft));
  SW_RETURN_IF_ERROR(CheckVocabulary(*options.model, *draft));
  ModelDrafterOptions model;
  model.model = draft;
  model.num_slots = options.max_sequences;
  model.max_draft = max_draft;
  model.state = state;
  model.prefill_chunk = options.prefill_chunk;
  model.skips_steps = options.draft_tokens == kAutoDraftTokens;
  model.cost_per_proposal =
      kProposalOverhead + static_cast<float>(draft->info().weight_bytes) /
                              static_cast<float>(options.model->info().weight_bytes);
  return ModelDrafter::Create(model);
}

}  // namespace

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
