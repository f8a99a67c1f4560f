#include "speculative/drafters/retokenizing_drafter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/types/span.h"
#include "kernels/common/copy.h"
#include "kernels/plan_rows.h"
#include "kernels/sampling.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Committed tokens that the first pass of a round evaluates at once, in every slot; a slot with
// more prefills first. Prefill leaves what is unsettled to the first pass.
constexpr int32_t kMaxCatchUp{8};
static_assert(kMaxCatchUp > kUnsettledTokens);

// Rows by which a slot may be rolled back: what was drafted and what was unsettled before it.
constexpr int32_t kMaxRows{kMaxCatchUp + kMaxDraft + static_cast<int32_t>(kUnsettledTokens)};

// Passes after which the cost of a proposal forgets half of what it saw.
constexpr double kMemory{512};

// Length of the common prefix, of which the first `known` are known to be equal.
int32_t CommonPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b, int32_t known) {
  const size_t size = std::min(a.size(), b.size());
  size_t equal = known;
  while (equal < size && a[equal] == b[equal]) ++equal;
  return static_cast<int32_t>(equal);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RetokenizingDrafter>> RetokenizingDrafter::Create(
    const RetokenizingDrafterOptions& options) {
  ModelRunnerOptions runner_options;
  // The checkpoint follows the settled tokens, which no text rolls back; the log holds the rest.
  runner_options.state.num_slots = options.num_slots;
  runner_options.state.max_rows = kMaxRows;
  runner_options.rows_per_pass = kMaxCatchUp;
  runner_options.prefill_chunk = options.prefill_chunk;
  SW_ASSIGN_OR_RETURN(auto runner, ModelRunner::Create(options.model, runner_options));
  auto drafter =
      std::unique_ptr<RetokenizingDrafter>(new RetokenizingDrafter(std::move(runner), options));
  const ModelInfo& info = options.model->info();
  SW_ASSIGN_OR_RETURN(
      drafter->device_drafts_,
      options.model->device().Allocate(options.num_slots * sizeof(SlotControl), "the drafts"));
  drafter->draft_control_ = {.slots = drafter->device_drafts_.as<SlotControl>(),
                             .draft_probs = nullptr,
                             .num_slots = options.num_slots,
                             .max_draft = kMaxDraft,
                             .vocab_size = static_cast<int32_t>(info.vocab_size),
                             .vocab_limit = static_cast<int32_t>(info.vocab_limit)};
  return drafter;
}

RetokenizingDrafter::RetokenizingDrafter(std::unique_ptr<ModelRunner> runner,
                                         const RetokenizingDrafterOptions& options)
    : runner_(std::move(runner)),
      verifier_(Vocabulary::Of(*options.verifier)),
      draft_(Vocabulary::Of(*options.model)),
      cost_per_pass_(options.cost_per_pass),
      passes_(kMemory / 8),
      proposals_(passes_),
      slots_(options.num_slots),
      drafts_(options.num_slots) {}

absl::Status RetokenizingDrafter::Attach(const ControlBlock& control) {
  control_ = control;
  return absl::OkStatus();
}

absl::Status RetokenizingDrafter::Begin(ExecutionContext& ctx, int32_t slot_idx,
                                        const SlotControl& begun, const int32_t*) {
  Slot& slot = slots_[slot_idx];
  slot.text = std::make_unique<Retokenizer>(&verifier_, &draft_);
  slot.text->Commit(absl::MakeConstSpan(begun.tokens, begun.num_tokens));
  slot.num_restarts = -1;
  // An estimate; CatchUp makes more room as it is needed.
  const int64_t positions = static_cast<int64_t>(slot.text->draft().tokens().size()) +
                            slot.text->DraftTokensFor(begun.max_tokens - begun.num_tokens);
  return CatchUp(ctx, slot_idx, positions);
}

// Lets the draft model forget what the text no longer says, and consume all but the last tokens of
// a text that has grown by more than a pass takes. `positions`: room that is wanted.
absl::Status RetokenizingDrafter::CatchUp(ExecutionContext& ctx, int32_t slot_idx,
                                          int64_t positions) {
  Slot& slot = slots_[slot_idx];
  if (positions > slot.reserved) {
    SW_RETURN_IF_ERROR(runner_->Reserve(ctx, slot_idx, positions));
    slot.reserved = positions;
  }
  const GrowingTokens& draft = slot.text->draft();
  const std::vector<int32_t>& tokens = draft.tokens();
  const int32_t size = static_cast<int32_t>(tokens.size());
  // The last token is always evaluated: its logits are the first proposal.
  // The same text has the same tokens before the checkpoint.
  const bool same_text = slot.num_restarts == draft.num_restarts();
  slot.num_restarts = draft.num_restarts();
  const int32_t same = CommonPrefix(slot.consumed, tokens, same_text ? slot.checkpoint : 0);
  int32_t kept = std::min(same, std::max(size - 1, 0));
  if (kept < slot.checkpoint) {  // another text, or one that started over
    runner_->store().Reset(ctx, slot_idx);
    slot.checkpoint = kept = 0;
  }
  slot.consumed.resize(kept);
  if (size - kept <= kMaxCatchUp) return absl::OkStatus();

  const int32_t end = std::min(static_cast<int32_t>(draft.num_settled()), size - 1);
  const StateCursor cursor = {.checkpoint = slot.checkpoint, .consumed = kept};
  CopyIn(ctx, runner_->store().cursors() + slot_idx, &cursor, sizeof(cursor));
  const size_t bytes = end * sizeof(int32_t);
  if (slot.tokens.size() < bytes) {
    SW_ASSIGN_OR_RETURN(
        slot.tokens, runner_->model().device().Allocate(bytes + bytes / 2, "the tokens of a text"));
  }
  CopyIn(ctx, slot.tokens.as<int32_t>() + kept, tokens.data() + kept,
         (end - kept) * sizeof(int32_t));
  runner_->Prefill(ctx, slot_idx, slot.tokens.as<int32_t>(), kept, end);
  slot.consumed.insert(slot.consumed.end(), tokens.begin() + kept, tokens.begin() + end);
  slot.checkpoint = end;
  return absl::OkStatus();
}

void RetokenizingDrafter::Draft(ExecutionContext& ctx, bool /*sampling*/) {
  bool any = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const SlotControl& round = control_.slots[i];
    drafts_[i] = {};
    std::fill(std::begin(drafts_[i].synthetic_acceptance),
              std::end(drafts_[i].synthetic_acceptance), -1.0f);
    if (!round.active || round.draft_limit == 0) continue;
    Retokenizer& text = *slots_[i].text;
    text.Commit(absl::MakeConstSpan(round.tokens, round.num_tokens)
                    .subspan(static_cast<size_t>(text.num_committed())));
    const int64_t size = static_cast<int64_t>(text.draft().tokens().size());
    if (size == 0) continue;
    // Without memory for a longer text the slot goes on undrafted.
    const bool fits = size + kMaxDraft <= slots_[i].reserved;
    const int64_t positions = fits ? slots_[i].reserved : size + size / 4 + kMaxDraft;
    if (!CatchUp(ctx, static_cast<int32_t>(i), positions).ok()) continue;
    drafts_[i].active = 1;
    drafts_[i].draft_limit = std::min(kMaxDraft, text.DraftTokensFor(round.draft_limit));
    any = true;
  }
  if (!any) return;
  RunPasses(ctx);

  for (size_t i = 0; i < slots_.size(); ++i) {
    const SlotControl& draft = drafts_[i];
    if (draft.num_drafted == 0) continue;
    const auto drafted = absl::MakeConstSpan(draft.draft, draft.num_drafted);
    Slot& slot = slots_[i];
    slot.consumed.insert(slot.consumed.end(), drafted.begin(), drafted.end() - 1);
    const std::vector<int32_t> proposals = slot.text->Propose(drafted);
    SlotControl& round = control_.slots[i];
    round.num_drafted = std::min(round.draft_limit, static_cast<int32_t>(proposals.size()));
    std::copy_n(proposals.begin(), round.num_drafted, round.draft);
    passes_ += draft.num_drafted;
    proposals_ += round.num_drafted;
  }
  if (passes_ > kMemory) {
    passes_ /= 2;
    proposals_ /= 2;
  }
}

// Evaluates what is committed and drafts behind it.
void RetokenizingDrafter::RunPasses(ExecutionContext& ctx) {
  const size_t bytes = drafts_.size() * sizeof(SlotControl);
  CopyIn(ctx, device_drafts_.data(), drafts_.data(), bytes);
  int32_t steps = 0;
  for (const SlotControl& draft : drafts_) steps = std::max(steps, draft.draft_limit);
  for (int32_t step = 0; step < steps; ++step) {
    const int32_t rows = step == 0 ? kMaxCatchUp : 1;
    if (step == 0) {
      PlanFirstPass(ctx);
    } else {
      PlanDraftRows(ctx, runner_->PlanParams(draft_control_, rows), step, kMaxCatchUp);
    }
    runner_->Forward(ctx, rows);
    DraftSample(ctx, {.control = draft_control_,
                      .plan = runner_->plan(rows),
                      .logits = runner_->logits(),
                      .logits_stride = draft_control_.vocab_size,
                      .step = step,
                      .sampling = false});
  }
  CopyOut(ctx, drafts_.data(), device_drafts_.data(), bytes);
}

// Rolls back and evaluates in one pass: its sequences say what has been consumed.
void RetokenizingDrafter::PlanFirstPass(ExecutionContext& ctx) {
  std::vector<int32_t> rows, logit_rows;
  std::vector<SequenceRows> sequences;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!drafts_[i].active) continue;
    Slot& slot = slots_[i];
    const std::vector<int32_t>& tokens = slot.text->draft().tokens();
    const int32_t size = static_cast<int32_t>(tokens.size());
    const int32_t kept = static_cast<int32_t>(slot.consumed.size());
    // Not behind the token before the last: the next round may find the same text and evaluate the
    // last one again.
    const int32_t settled =
        std::min(static_cast<int32_t>(slot.text->draft().num_settled()), size - 1);
    const int32_t new_checkpoint = std::max(slot.checkpoint, settled);
    sequences.push_back({.slot = static_cast<int32_t>(i),
                         .first_row = static_cast<int32_t>(rows.size()),
                         .num_rows = size - kept,
                         .checkpoint = slot.checkpoint,
                         .consumed = kept,
                         .new_checkpoint = new_checkpoint});
    rows.insert(rows.end(), tokens.begin() + kept, tokens.end());
    logit_rows.push_back(static_cast<int32_t>(rows.size()) - 1);
    slot.consumed.insert(slot.consumed.end(), tokens.begin() + kept, tokens.end());
    slot.checkpoint = new_checkpoint;
  }
  const RowPlan plan = runner_->plan(kMaxCatchUp);
  const auto write = [&ctx](int32_t* to, size_t count) {
    const int32_t value = static_cast<int32_t>(count);
    CopyIn(ctx, to, &value, sizeof(value));
  };
  write(plan.num_rows, rows.size());
  write(plan.num_sequences, sequences.size());
  write(plan.num_logit_rows, logit_rows.size());
  CopyIn(ctx, plan.tokens, rows.data(), rows.size() * sizeof(int32_t));
  CopyIn(ctx, plan.sequences, sequences.data(), sequences.size() * sizeof(SequenceRows));
  CopyIn(ctx, plan.logit_rows, logit_rows.data(), logit_rows.size() * sizeof(int32_t));
}

absl::Status RetokenizingDrafter::Fork(ExecutionContext& ctx, int32_t from, int32_t to) {
  SW_RETURN_IF_ERROR(runner_->store().Fork(ctx, from, to));
  slots_[to].consumed = slots_[from].consumed;
  slots_[to].checkpoint = slots_[from].checkpoint;
  slots_[to].reserved = 0;
  return absl::OkStatus();  // Begin follows with the text
}

void RetokenizingDrafter::Release(ExecutionContext& ctx, int32_t slot_idx) {
  runner_->store().Reset(ctx, slot_idx);
  runner_->store().Release(slot_idx);
  Slot& slot = slots_[slot_idx];
  slot.text.reset();
  slot.consumed.clear();
  slot.checkpoint = 0;
  slot.reserved = 0;
}

float RetokenizingDrafter::CostPerProposal() const {
  return cost_per_pass_ * static_cast<float>(passes_ / std::max(proposals_, 1.0));
}

DrafterMemory RetokenizingDrafter::Memory() const {
  return {.state_bytes = runner_->store().CheckpointBytes(),
          .replay_bytes = runner_->store().LogBytes()};
}

}  // namespace sidewinder
