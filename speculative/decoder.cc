#include "speculative/decoder.h"

#include <algorithm>
#include <new>
#include <utility>

#include "kernels/begin_round.h"
#include "kernels/plan_rows.h"
#include "kernels/sampling.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// One more verified row in verifier passes: weights are streamed once for all rows, arithmetic and
// logits are not free. Measured with `sidewinder bench --draft ngram` on two cores
// (docs/benchmarks.md).
constexpr float kRowCost{0.08f};

// A new request expects its proposals to be about this good.
constexpr float kInitialAcceptance{0.7f};

static_assert(kMaxDraft == kMaxDraftTokens && kAutoDraft == kAutoDraftTokens &&
              kMaxStopTokenCount == kMaxStopTokens);

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(DecoderOptions options) {
  ModelRunnerOptions runner;
  runner.state = options.state;
  runner.state.max_rows = options.max_draft + 1;
  runner.rows_per_pass = options.max_draft + 1;
  runner.logits_per_pass = options.max_draft + 1;
  runner.prefill_chunk = options.prefill_chunk;
  auto decoder = std::unique_ptr<Decoder>(new Decoder());
  SW_ASSIGN_OR_RETURN(decoder->verifier_, ModelRunner::Create(options.model, runner));
  decoder->drafter_ = std::move(options.drafter);

  const ModelInfo& info = options.model->info();
  const int32_t num_slots = options.state.num_slots;
  decoder->slots_.resize(num_slots);
  decoder->tokens_.resize(num_slots);
  try {
    if (options.sampling) {
      decoder->draft_probs_.resize(int64_t{num_slots} * options.max_draft * info.vocab_size);
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the distributions of proposals");
  }
  decoder->control_ = {.slots = decoder->slots_.data(),
                       .draft_probs = decoder->draft_probs_.data(),
                       .num_slots = num_slots,
                       .max_draft = options.max_draft,
                       .vocab_size = static_cast<int32_t>(info.vocab_size),
                       .vocab_limit = static_cast<int32_t>(info.vocab_limit)};
  SW_RETURN_IF_ERROR(decoder->drafter_->Attach(decoder->control_));
  return decoder;
}

void Decoder::FillSlot(int32_t slot, const SlotRequest& request) {
  std::vector<int32_t>& tokens = tokens_[slot];
  tokens.assign(request.tokens.begin(), request.tokens.end());
  tokens.resize(request.max_tokens);
  SlotControl& control = slots_[slot];
  control = {};
  control.tokens = tokens.data();
  control.max_tokens = request.max_tokens;
  control.draft_tokens = request.draft_tokens;
  control.num_stop_tokens = static_cast<int32_t>(request.stop_tokens.size());
  std::copy(request.stop_tokens.begin(), request.stop_tokens.end(), control.stop_tokens);
  control.temperature = request.sampling.temperature;
  control.top_k = request.sampling.top_k;
  control.top_p = request.sampling.top_p;
  control.min_p = request.sampling.min_p;
  control.seed = request.sampling.seed;
  control.sequence = request.sequence;
  control.coupled = request.coupled;
  control.synthetic_acceptance = request.synthetic_acceptance;
  control.num_tokens = static_cast<int32_t>(request.tokens.size());
  control.acceptance = kInitialAcceptance;
  control.active = 1;
}

void Decoder::Begin(ExecutionContext& ctx, int32_t slot, const SlotRequest& request) {
  FillSlot(slot, request);
  verifier_->store().Reset(slot);
  verifier_->Prefill(ctx, slot, slots_[slot].tokens, slots_[slot].num_tokens - 1);
  drafter_->Release(slot);
  drafter_->Begin(ctx, slot);
}

absl::Status Decoder::Resume(ExecutionContext& ctx, int32_t slot, const SlotRequest& request,
                             absl::string_view state, int32_t consumed) {
  SW_RETURN_IF_ERROR(verifier_->store().ImportSlot(slot, state, consumed));
  FillSlot(slot, request);
  verifier_->Prefill(ctx, slot, slots_[slot].tokens, slots_[slot].num_tokens - 1);
  drafter_->Release(slot);
  drafter_->Begin(ctx, slot);
  return absl::OkStatus();
}

void Decoder::ResumeFork(ExecutionContext& ctx, int32_t slot, const SlotRequest& request,
                         int32_t from) {
  FillSlot(slot, request);
  verifier_->store().Fork(from, slot);
  verifier_->Prefill(ctx, slot, slots_[slot].tokens, slots_[slot].num_tokens - 1);
  drafter_->Fork(from, slot);
  drafter_->Begin(ctx, slot);
}

void Decoder::Round(ExecutionContext& ctx) {
  BeginRound(
      ctx, {.control = control_, .row_cost = kRowCost, .draft_cost = drafter_->CostPerProposal()});
  drafter_->Draft(ctx);
  PlanVerifyRows(ctx, verifier_->PlanParams(control_));
  verifier_->Forward(ctx);
  FirstConflict(ctx,
                {.control = control_, .plan = verifier_->plan(), .logits = verifier_->logits()});
  RollBackCursors(ctx, control_, verifier_->store().cursors());
  drafter_->Commit(ctx);
}

void Decoder::Truncate(ExecutionContext& ctx, int32_t slot, int32_t num_tokens) {
  SlotControl& control = slots_[slot];
  SW_CHECK(num_tokens > control.round_start && num_tokens <= control.num_tokens)
      << "only tokens of the last round can be cut";
  const int32_t accepted = std::min(control.num_accepted, num_tokens - control.round_start);
  for (int32_t j = accepted; j < control.num_accepted; ++j) --control.accepted_at[j];
  control.accepted -= control.num_accepted - accepted;
  control.num_accepted = accepted;
  control.num_tokens = num_tokens;
  control.active = 0;
  control.finish = SlotFinish::kStop;
  RollBackCursors(ctx, control_, verifier_->store().cursors());
  drafter_->Commit(ctx);
}

void Decoder::Release(int32_t slot) {
  slots_[slot] = {};
  tokens_[slot] = {};
  drafter_->Release(slot);
}

std::string Decoder::ExportState(ExecutionContext& ctx, int32_t slot) {
  verifier_->Settle(ctx, slot);
  return verifier_->store().ExportSlot(slot);
}

}  // namespace sidewinder
