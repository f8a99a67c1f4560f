#include "models/model_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(
    std::shared_ptr<const Model> model, const ModelRunnerOptions& options) {
  StateStoreOptions state = options.state;
  state.kv_dtype =
      model->info().kv_dtype == Name(DType::kBFloat16) ? DType::kBFloat16 : DType::kFloat32;
  SW_ASSIGN_OR_RETURN(StateStore store, StateStore::Create(model->shared_device(),
                                                           model->network().state_shape(), state));
  ModelRunnerOptions rounded = options;
  const int32_t multiple = store.prefill_multiple();
  rounded.prefill_chunk = (options.prefill_chunk + multiple - 1) / multiple * multiple;
  auto runner =
      std::unique_ptr<ModelRunner>(new ModelRunner(std::move(model), rounded, std::move(store)));
  SW_RETURN_IF_ERROR(runner->AllocateBuffers(runner->model_->device()));
  return runner;
}

absl::Status ModelRunner::AllocateBuffers(const Device& device) {
  const int64_t slots = options_.state.num_slots;
  const int64_t max_rows =
      std::max<int64_t>(slots * options_.rows_per_pass, options_.prefill_chunk);
  const int64_t logit_rows = std::max<int64_t>(
      slots * options_.logits_per_pass, options_.prefill_logits ? options_.prefill_chunk : 0);
  const LanguageModel& network = model_->network();
  const std::string what =
      absl::StrFormat("the activations of %d sequences of %d rows", slots, options_.rows_per_pass);
  SW_ASSIGN_OR_RETURN(counts_, device.Allocate(3 * sizeof(int32_t), what));
  SW_ASSIGN_OR_RETURN(tokens_, device.Allocate(max_rows * sizeof(int32_t), what));
  SW_ASSIGN_OR_RETURN(logit_rows_, device.Allocate(max_rows * sizeof(int32_t), what));
  SW_ASSIGN_OR_RETURN(sequences_, device.Allocate(slots * sizeof(SequenceRows), what));
  SW_ASSIGN_OR_RETURN(scratch_,
                      device.Allocate(network.ScratchElements(max_rows) * sizeof(float), what));
  SW_ASSIGN_OR_RETURN(
      logits_, device.Allocate(logit_rows * network.config().vocab_size * sizeof(float), what));
  return absl::OkStatus();
}

RowPlan ModelRunner::plan(int32_t rows) const {
  int32_t* const counts = counts_.as<int32_t>();
  const int32_t slots = options_.state.num_slots;
  return {.num_rows = counts,
          .num_sequences = counts + 1,
          .num_logit_rows = counts + 2,
          .tokens = tokens_.as<int32_t>(),
          .sequences = sequences_.as<SequenceRows>(),
          .logit_rows = logit_rows_.as<int32_t>(),
          .max_rows = slots * (rows > 0 ? rows : options_.rows_per_pass),
          .max_sequences = slots};
}

PlanRowsParams ModelRunner::PlanParams(const ControlBlock& control, int32_t rows) const {
  return {
      .control = control, .cursors = store_.cursors(), .rule = store_.rule(), .plan = plan(rows)};
}

absl::Status ModelRunner::Reserve(ExecutionContext& ctx, int32_t slot, int64_t positions) {
  return store_.Reserve(ctx, slot, positions + options_.state.max_rows);
}

void ModelRunner::Forward(ExecutionContext& ctx, int32_t rows) {
  const RowPlan pass = plan(rows);
  // The CPU has executed the plan already: a pass of no rows would only cost its parallel regions.
  if (ctx.device == DeviceType::kCpu && *pass.num_rows == 0) return;
  model_->network().Forward(ctx, pass, store_, scratch_.as<float>(), logits_.as<float>());
  AdvanceCursors(ctx, pass, store_.cursors());
}

void ModelRunner::PrefillChunk(ExecutionContext& ctx, int32_t slot, const int32_t* tokens,
                               int32_t num_rows, bool logits) {
  RowPlan pass = plan();
  pass.max_rows = num_rows;
  pass.max_sequences = 1;
  pass.prefill = !logits;
  PlanPrefillRows(ctx, {.tokens = tokens,
                        .slot = slot,
                        .num_rows = num_rows,
                        .logits = logits,
                        .cursors = store_.cursors(),
                        .rule = store_.rule(),
                        .plan = pass});
  model_->network().Forward(ctx, pass, store_, scratch_.as<float>(),
                            logits ? logits_.as<float>() : nullptr);
  AdvanceCursors(ctx, pass, store_.cursors());
}

void ModelRunner::Prefill(ExecutionContext& ctx, int32_t slot, const int32_t* tokens, int32_t begin,
                          int32_t end) {
  const int32_t multiple = store_.prefill_multiple();
  for (int32_t consumed = begin; consumed < end;) {
    const int32_t cut = (consumed + options_.prefill_chunk) / multiple * multiple;
    const int32_t stop = std::min(cut, end);
    PrefillChunk(ctx, slot, tokens, stop - consumed, /*logits=*/false);
    consumed = stop;
  }
}

void ModelRunner::Settle(ExecutionContext& ctx, int32_t slot) {
  PrefillChunk(ctx, slot, nullptr, 0, /*logits=*/false);
}

}  // namespace sidewinder
