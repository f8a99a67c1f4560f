#include "speculative/decoder.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>

#include "kernels/begin_round.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "kernels/draft_length.h"
#include "kernels/plan_rows.h"
#include "kernels/sampling.h"
#include "runtime/status_macros.h"
#include "speculative/drafters/host_bridge.h"
#include "speculative/round_profiler.h"

namespace sidewinder {
namespace {

// One more verified row in verifier passes, where nothing else is known.
constexpr float kRowCost{0.08f};

// Rounds that a GPU may be ahead of the host: more than a host that streams text falls behind.
constexpr int32_t kLogRounds{64};

// The round log begins with `published` and `limit`.
constexpr size_t kLogHeaderBytes{64};

static_assert(kMaxDraft == kMaxDraftTokens && kAutoDraft == kAutoDraftTokens &&
              kMaxStopTokenCount == kMaxStopTokens);

// Another thread, or a device, writes it.
int64_t LoadAcquire(const int64_t* value) {
  return std::atomic_ref<int64_t>(*const_cast<int64_t*>(value)).load(std::memory_order_acquire);
}

void FillSyntheticAcceptance(absl::Span<const double> rates, SlotControl& control) {
  control.synthetic_acceptance[0] = -1.0f;
  if (rates.empty()) return;
  for (size_t j = 0; j < kMaxDraft; ++j) {
    control.synthetic_acceptance[j] = static_cast<float>(rates[std::min(j, rates.size() - 1)]);
  }
}

void StoreRelease(int64_t* to, int64_t value) {
  std::atomic_ref<int64_t>(*to).store(value, std::memory_order_release);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(DecoderOptions options) {
  ModelRunnerOptions runner;
  runner.state = options.state;
  runner.state.max_rows = options.max_draft + 1;
  runner.rows_per_pass = options.max_draft + 1;
  runner.logits_per_pass = options.max_draft + 1;
  runner.prefill_chunk = options.prefill_chunk;
  auto decoder = std::unique_ptr<Decoder>(new Decoder());
  decoder->model_ = options.model;
  SW_ASSIGN_OR_RETURN(decoder->verifier_, ModelRunner::Create(options.model, runner));
  decoder->drafter_ = std::move(options.drafter);
  if (options.model->device().type() == DeviceType::kCuda && decoder->drafter_->on_host()) {
    decoder->drafter_ = std::make_unique<HostBridge>(std::move(decoder->drafter_));
  }
  const char* record = std::getenv("SIDEWINDER_RECORD_ROUNDS");
  decoder->profiler_ = options.profiler;
  if (options.profiler != nullptr) options.profiler->SetVerifier(decoder->verifier_.get());
  decoder->records_rounds_ =
      options.profiler == nullptr && (record == nullptr || std::string(record) != "0");
  SW_RETURN_IF_ERROR(decoder->Allocate(options));
  SW_RETURN_IF_ERROR(decoder->drafter_->Attach(decoder->control_));
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream,
                      options.model->device().CreateStream(/*num_threads=*/1));
  decoder->WriteCosts(stream->context(), std::move(options.costs));
  SW_RETURN_IF_ERROR(stream->Synchronize());
  return decoder;
}

absl::Status Decoder::Allocate(const DecoderOptions& options) {
  const Device& device = options.model->device();
  const ModelInfo& info = options.model->info();
  const int32_t num_slots = options.state.num_slots;
  slots_.resize(num_slots);
  tokens_.resize(num_slots);
  device_tokens_.resize(num_slots);
  SW_ASSIGN_OR_RETURN(device_slots_,
                      device.Allocate(num_slots * sizeof(SlotControl), "the control block"));
  if (options.sampling) {
    const size_t probs = size_t{1} * num_slots * options.max_draft * info.vocab_size;
    SW_ASSIGN_OR_RETURN(draft_probs_,
                        device.Allocate(probs * sizeof(float), "the distributions of proposals"));
  }
  SW_ASSIGN_OR_RETURN(num_published_, device.Allocate(sizeof(int64_t), "the round log"));
  SW_ASSIGN_OR_RETURN(
      shared_, device.AllocateShared(kLogHeaderBytes + sizeof(SlotRecord) * kLogRounds * num_slots,
                                     "the round log"));
  log_ = {.records = reinterpret_cast<SlotRecord*>(shared_.as<char>() + kLogHeaderBytes),
          .capacity = kLogRounds,
          .published = published_host(),
          .limit = limit_host()};
  SW_ASSIGN_OR_RETURN(drafting_, device.Allocate(sizeof(DraftControl), "the control block"));
  control_ = {.slots = device_slots_.as<SlotControl>(),
              .draft_probs = draft_probs_.as<float>(),
              .drafting = drafting_.as<DraftControl>(),
              .num_slots = num_slots,
              .max_draft = options.max_draft,
              .vocab_size = static_cast<int32_t>(info.vocab_size),
              .vocab_limit = static_cast<int32_t>(info.vocab_limit)};
  return absl::OkStatus();
}

void Decoder::WriteCosts(ExecutionContext& ctx, std::vector<RoundCosts> costs) {
  if (costs.empty()) {
    RoundCosts unknown = {.num_slots = control_.num_slots, .catch_up_us = 0.0f};
    for (int32_t k = 0; k <= kMaxDraft; ++k) {
      const float proposals = static_cast<float>(k);
      unknown.round_us[k] = 1.0f + proposals * (kRowCost + drafter_->CostPerProposal());
      unknown.row_us[k] = kRowCost / static_cast<float>(control_.num_slots);
    }
    costs.push_back(unknown);
  }
  DraftControl drafting = {};
  SW_CHECK(costs.size() <= kMaxCostTables) << "more tables of costs than there is room for";
  std::copy(costs.begin(), costs.end(), drafting.costs);
  drafting.num_costs = static_cast<int32_t>(costs.size());
  CopyIn(ctx, control_.drafting, &drafting, sizeof(drafting));
}

absl::Status Decoder::FillSlot(ExecutionContext& ctx, int32_t slot, const SlotRequest& request) {
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
  FillSyntheticAcceptance(request.synthetic_acceptance, control);
  control.num_tokens = static_cast<int32_t>(request.tokens.size());
  control.probe_interval = kFirstProbeInterval;
  control.probe_allowance = kFirstAllowance;
  control.active = 1;

  DeviceMemory& device_tokens = device_tokens_[slot];
  const size_t bytes = tokens.size() * sizeof(int32_t);
  if (device_tokens.size() < bytes) {
    SW_ASSIGN_OR_RETURN(device_tokens, model_->device().Allocate(bytes, "the tokens of a text"));
  }
  CopyIn(ctx, device_tokens.data(), tokens.data(), request.tokens.size() * sizeof(int32_t));
  WriteSlot(ctx, slot);
  return absl::OkStatus();
}

void Decoder::WriteSlot(ExecutionContext& ctx, int32_t slot) {
  SlotControl on_device = slots_[slot];
  on_device.tokens = device_tokens_[slot].as<int32_t>();
  CopyIn(ctx, control_.slots + slot, &on_device, sizeof(on_device));
}

absl::Status Decoder::Begin(Stream& stream, int32_t slot, const SlotRequest& request) {
  ExecutionContext& ctx = stream.context();
  SW_RETURN_IF_ERROR(FillSlot(ctx, slot, request));
  SW_RETURN_IF_ERROR(verifier_->Reserve(ctx, slot, request.max_tokens));
  verifier_->store().Reset(ctx, slot);
  verifier_->Prefill(ctx, slot, device_tokens_[slot].as<int32_t>(), 0, slots_[slot].num_tokens - 1);
  drafter_->Release(ctx, slot);
  SW_RETURN_IF_ERROR(drafter_->Begin(ctx, slot, slots_[slot], device_tokens_[slot].as<int32_t>()));
  return stream.status();
}

absl::Status Decoder::Resume(Stream& stream, int32_t slot, const SlotRequest& request,
                             absl::string_view state, int32_t consumed) {
  ExecutionContext& ctx = stream.context();
  SW_RETURN_IF_ERROR(verifier_->Reserve(ctx, slot, request.max_tokens));
  SW_RETURN_IF_ERROR(verifier_->store().ImportSlot(ctx, slot, state, consumed));
  SW_RETURN_IF_ERROR(FillSlot(ctx, slot, request));
  verifier_->Prefill(ctx, slot, device_tokens_[slot].as<int32_t>(), consumed,
                     slots_[slot].num_tokens - 1);
  drafter_->Release(ctx, slot);
  SW_RETURN_IF_ERROR(drafter_->Begin(ctx, slot, slots_[slot], device_tokens_[slot].as<int32_t>()));
  return stream.status();
}

absl::Status Decoder::ResumeFork(Stream& stream, int32_t slot, const SlotRequest& request,
                                 int32_t from) {
  ExecutionContext& ctx = stream.context();
  SW_RETURN_IF_ERROR(FillSlot(ctx, slot, request));
  SW_RETURN_IF_ERROR(verifier_->Reserve(ctx, slot, request.max_tokens));
  SW_RETURN_IF_ERROR(verifier_->store().Fork(ctx, from, slot));
  const int32_t consumed = verifier_->store().ReadCursor(ctx, slot).consumed;
  verifier_->Prefill(ctx, slot, device_tokens_[slot].as<int32_t>(), consumed,
                     slots_[slot].num_tokens - 1);
  SW_RETURN_IF_ERROR(drafter_->Fork(ctx, from, slot));
  SW_RETURN_IF_ERROR(drafter_->Begin(ctx, slot, slots_[slot], device_tokens_[slot].as<int32_t>()));
  return stream.status();
}

void Decoder::EndPhase(RoundPhase phase) {
  if (profiler_ != nullptr) profiler_->EndPhase(phase);
}

void Decoder::EnqueueRound(ExecutionContext& ctx, bool sampling, bool in_loop, uint64_t condition) {
  BeginRound(ctx, {.control = control_,
                   .draft_cursors = drafter_->Cursors(),
                   .max_catch_up = drafter_->MaxCatchUp()});
  drafter_->Draft(ctx, sampling);
  EndPhase(RoundPhase::kDraft);
  PlanVerifyRows(ctx, verifier_->PlanParams(control_));
  verifier_->Forward(ctx);
  EndPhase(RoundPhase::kVerify);
  FirstConflict(ctx, {.control = control_,
                      .plan = verifier_->plan(),
                      .logits = verifier_->logits(),
                      .sampling = sampling});
  EndPhase(RoundPhase::kJudge);
  RollBackCursors(ctx, control_, verifier_->store().cursors());
  drafter_->Commit(ctx);
  EndPhase(RoundPhase::kRollBack);
  PublishRound(ctx, {.control = control_,
                     .log = log_,
                     .num_published = num_published_.as<int64_t>(),
                     .condition = condition,
                     .in_loop = in_loop});
  EndPhase(RoundPhase::kPublish);
}

void Decoder::Round(ExecutionContext& ctx) {
  EnqueueRound(ctx, AnySamples(), /*in_loop=*/false, 0);
}

void Decoder::Run(int64_t rounds) {
  target_ = std::max(target_, collected_ + rounds);
  StoreRelease(limit_host(), std::min(target_, collected_ + kLogRounds));
}

bool Decoder::AnyActive() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const SlotControl& slot) { return slot.active != 0; });
}

bool Decoder::AnySamples() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const SlotControl& slot) {
    return slot.active != 0 && slot.temperature > 0.0f;
  });
}

// Enqueues rounds up to the limit: one at once, or a recorded loop of them.
absl::Status Decoder::StartRounds(Stream& stream) {
  ExecutionContext& ctx = stream.context();
  if (ctx.device == DeviceType::kCpu || drafter_->on_host() || !records_rounds_) {
    if (profiler_ != nullptr) profiler_->StartRound();
    Round(ctx);
    return stream.Synchronize();
  }
  const bool sampling = AnySamples();
  const int64_t max_position = verifier_->store().max_position() + drafter_->MaxPosition();
  if (max_position != recorded_max_position_) {  // launches are sized for shorter texts
    for (std::unique_ptr<RecordedLoop>& loop : loops_) loop.reset();
    recorded_max_position_ = max_position;
  }
  std::unique_ptr<RecordedLoop>& loop = loops_[sampling];
  if (loop == nullptr) {
    SW_ASSIGN_OR_RETURN(loop, RecordedLoop::Record(stream, [&](uint64_t condition) {
                          EnqueueRound(ctx, sampling, /*in_loop=*/true, condition);
                        }));
  }
  loop->Launch(ctx);
  loop_running_ = true;
  return stream.status();
}

absl::StatusOr<bool> Decoder::Next(Stream& stream) {
  while (true) {
    if (LoadAcquire(published_host()) > collected_) {
      Deliver();
      return true;
    }
    if (!loop_running_) {
      if (collected_ >= target_ || !AnyActive()) return false;
      SW_RETURN_IF_ERROR(StartRounds(stream));
    } else if (stream.Done()) {
      loop_running_ = false;
      SW_RETURN_IF_ERROR(stream.status());
    } else {
      std::this_thread::yield();
    }
  }
}

// Brings the host's slots up to the next published round.
void Decoder::Deliver() {
  const SlotRecord* records = log_.records + collected_ % kLogRounds * control_.num_slots;
  for (int32_t i = 0; i < control_.num_slots; ++i) {
    SlotControl& slot = slots_[i];
    const SlotRecord& record = records[i];
    slot.round_start = slot.num_tokens;
    slot.num_drafted = 0;
    slot.num_accepted = 0;
    if (!slot.active) continue;
    std::copy_n(record.tokens, record.num_tokens - record.round_start,
                slot.tokens + record.round_start);
    slot.num_tokens = record.num_tokens;
    slot.num_drafted = record.num_drafted;
    slot.num_accepted = record.num_accepted;
    slot.finish = record.finish;
    slot.active = record.finish == SlotFinish::kRunning;
    ++slot.rounds;
    slot.drafted += record.num_drafted;
    slot.accepted += record.num_accepted;
    for (int32_t j = 0; j < record.num_drafted; ++j) {
      ++slot.drafted_at[j];
      slot.accepted_at[j] += j < record.num_accepted;
    }
  }
  ++collected_;
  StoreRelease(limit_host(), std::min(target_, collected_ + kLogRounds));
}

absl::Status Decoder::Pause(Stream& stream) {
  target_ = collected_;
  StoreRelease(limit_host(), 0);
  SW_RETURN_IF_ERROR(stream.Synchronize());
  loop_running_ = false;
  return absl::OkStatus();
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
  WriteSlot(ctx, slot);
  RollBackCursors(ctx, control_, verifier_->store().cursors());
  drafter_->Commit(ctx);
}

void Decoder::SetDraftTokens(ExecutionContext& ctx, int32_t slot, int32_t draft_tokens) {
  slots_[slot].draft_tokens = draft_tokens;
  CopyIn(ctx, &control_.slots[slot].draft_tokens, &draft_tokens, sizeof(draft_tokens));
}

void Decoder::Stop(ExecutionContext& ctx, int32_t slot) {
  if (slots_[slot].active == 0) return;
  slots_[slot].active = 0;
  const int32_t inactive = 0;
  CopyIn(ctx, &control_.slots[slot].active, &inactive, sizeof(inactive));
}

void Decoder::Release(ExecutionContext& ctx, int32_t slot) {
  slots_[slot] = {};
  tokens_[slot] = {};
  FillZero(ctx, control_.slots + slot, sizeof(SlotControl));
  verifier_->store().Release(slot);
  drafter_->Release(ctx, slot);
}

std::string Decoder::ExportState(ExecutionContext& ctx, int32_t slot) {
  verifier_->Settle(ctx, slot);
  return verifier_->store().ExportSlot(ctx, slot);
}

std::vector<int32_t> Decoder::ReadTokens(ExecutionContext& ctx, int32_t slot) {
  SlotControl on_device;
  CopyOut(ctx, &on_device, control_.slots + slot, sizeof(on_device));
  std::vector<int32_t> tokens(on_device.num_tokens);
  CopyOut(ctx, tokens.data(), device_tokens_[slot].data(), tokens.size() * sizeof(int32_t));
  return tokens;
}

}  // namespace sidewinder
