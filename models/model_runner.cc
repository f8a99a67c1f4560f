#include "models/model_runner.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(
    std::shared_ptr<const Model> model, const ModelRunnerOptions& options) {
  SW_ASSIGN_OR_RETURN(StateStore store,
                      StateStore::Create(model->network().StateShapes(), options.state));
  try {
    return std::unique_ptr<ModelRunner>(
        new ModelRunner(std::move(model), options, std::move(store)));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("no memory for the activations of %d sequences of %d rows",
                        options.state.num_slots, options.rows_per_pass));
  }
}

ModelRunner::ModelRunner(std::shared_ptr<const Model> model, const ModelRunnerOptions& options,
                         StateStore store)
    : model_(std::move(model)), options_(options), store_(std::move(store)) {
  const int64_t slots = options.state.num_slots;
  const int64_t max_rows = std::max<int64_t>(slots * options.rows_per_pass, options.prefill_chunk);
  const int64_t logit_rows = std::max<int64_t>(slots * options.logits_per_pass,
                                               options.prefill_logits ? options.prefill_chunk : 0);
  tokens_.resize(max_rows);
  logit_rows_.resize(max_rows);
  sequences_.resize(slots);
  scratch_.resize(model_->network().ScratchElements(max_rows));
  logits_.resize(logit_rows * model_->network().config().vocab_size);
  plan_ = {.num_rows = &counts_[0],
           .num_sequences = &counts_[1],
           .num_logit_rows = &counts_[2],
           .tokens = tokens_.data(),
           .sequences = sequences_.data(),
           .logit_rows = logit_rows_.data(),
           .max_rows = static_cast<int32_t>(max_rows),
           .max_sequences = static_cast<int32_t>(slots)};
}

PlanRowsParams ModelRunner::PlanParams(const ControlBlock& control) {
  return {.control = control, .cursors = store_.cursors(), .rule = store_.rule(), .plan = plan_};
}

void ModelRunner::Forward(ExecutionContext& ctx) {
  model_->network().Forward(ctx, plan_, store_, scratch_.data(), logits_.data());
  AdvanceCursors(ctx, plan_, store_.cursors());
}

void ModelRunner::PrefillChunk(ExecutionContext& ctx, int32_t slot, const int32_t* tokens,
                               int32_t num_rows, bool logits) {
  PlanPrefillRows(ctx, {.tokens = tokens,
                        .slot = slot,
                        .num_rows = num_rows,
                        .logits = logits,
                        .cursors = store_.cursors(),
                        .rule = store_.rule(),
                        .plan = plan_});
  model_->network().Forward(ctx, plan_, store_, scratch_.data(), logits ? logits_.data() : nullptr);
  AdvanceCursors(ctx, plan_, store_.cursors());
}

void ModelRunner::Prefill(ExecutionContext& ctx, int32_t slot, const int32_t* tokens, int32_t end) {
  while (store_.cursor(slot).consumed < end) {
    const int32_t num_rows = std::min(options_.prefill_chunk, end - store_.cursor(slot).consumed);
    PrefillChunk(ctx, slot, tokens, num_rows, /*logits=*/false);
  }
}

void ModelRunner::Settle(ExecutionContext& ctx, int32_t slot) {
  PrefillChunk(ctx, slot, nullptr, 0, /*logits=*/false);
}

}  // namespace sidewinder
