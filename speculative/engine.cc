#include "sidewinder/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "speculative/cost_model.h"
#include "speculative/decoder.h"
#include "speculative/drafter_registry.h"
#include "speculative/round_profiler.h"
#include "speculative/state_file.h"
#include "speculative/text_stream.h"
#include "speculative/tuning_profile.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

// Prompt tokens evaluated at once unless the options say otherwise: what amortises the weights.
constexpr int32_t kCpuPrefillChunk{64};
constexpr int32_t kCudaPrefillChunk{512};

// Rounds that Generate lets a GPU run without asking: more than any text has.
constexpr int64_t kFreeRun{int64_t{1} << 40};

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

absl::Status CheckRange(const char* option, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is %d; legal are %d to %d", option, value, min, max));
}

absl::Status CheckSampling(const SamplingParams& sampling) {
  const auto reject = [](const char* name, float value, const char* legal) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is %g; legal is %s", name, value, legal));
  };
  // Written so that NaN is refused.
  const float t = sampling.temperature;
  if (!(t == 0.0f || (t >= 1e-4f && t <= 1e4f))) {
    return reject("temperature", t, "0 (greedy) or 0.0001 to 10000");
  }
  if (sampling.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("top_k is %d; legal is 0 (off) or more", sampling.top_k));
  }
  if (!(sampling.top_p > 0.0f && sampling.top_p <= 1.0f)) {
    return reject("top_p", sampling.top_p, "more than 0 up to 1");
  }
  if (!(sampling.min_p >= 0.0f && sampling.min_p < 1.0f)) {
    return reject("min_p", sampling.min_p, "0 to less than 1");
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const EngineOptions& options) {
  if (options.model == nullptr) return absl::InvalidArgumentError("no model given");
  if (options.draft_tokens != kAutoDraftTokens) {
    SW_RETURN_IF_ERROR(CheckRange("draft_tokens", options.draft_tokens, 0, kMaxDraftTokens));
  }
  SW_RETURN_IF_ERROR(CheckRange("max_sequences", options.max_sequences, 1, 1024));
  SW_RETURN_IF_ERROR(CheckRange("checkpoint_stride", options.checkpoint_stride, 1, 4096));
  SW_RETURN_IF_ERROR(CheckRange("prefill_chunk", options.prefill_chunk, 0, 4096));
  SW_RETURN_IF_ERROR(CheckRange("rates of synthetic_acceptance",
                                options.synthetic_acceptance.size(), 0, kMaxDraftTokens));
  for (const double rate : options.synthetic_acceptance) {
    if (!(rate >= 0.0 && rate <= 1.0)) {  // written so that NaN is refused
      return absl::InvalidArgumentError(
          absl::StrFormat("synthetic_acceptance is %g; legal are 0 to 1", rate));
    }
  }
  return CheckRange("num_threads", options.num_threads, 0, 4096);
}

}  // namespace

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

double DecodeStats::AcceptanceRate() const {
  return drafted == 0 ? 0.0 : static_cast<double>(accepted) / drafted;
}

double DecodeStats::MeanAcceptanceLength() const {
  return rounds == 0 ? 0.0 : 1.0 + static_cast<double>(accepted) / rounds;
}

double DecodeStats::TokensPerSecond() const {
  return decode_ms <= 0.0 ? 0.0 : 1e3 * (new_tokens - first_round_tokens) / decode_ms;
}

std::vector<double> DecodeStats::AcceptanceByPosition() const {
  std::vector<double> rates;
  for (int k = 0; k < kMaxDraftTokens && drafted_at[k] > 0; ++k) {
    rates.push_back(static_cast<double>(accepted_at[k]) / drafted_at[k]);
  }
  return rates;
}

std::vector<double> DecodeStats::ConditionalAcceptanceByPosition() const {
  std::vector<double> rates;
  for (int k = 0; k < kMaxDraftTokens && reached_at[k] > 0; ++k) {
    rates.push_back(static_cast<double>(accepted_at[k]) / reached_at[k]);
  }
  return rates;
}

void DecodeStats::Add(const DecodeStats& other) {
  rounds += other.rounds;
  drafted += other.drafted;
  accepted += other.accepted;
  for (int k = 0; k < kMaxDraftTokens; ++k) {
    drafted_at[k] += other.drafted_at[k];
    accepted_at[k] += other.accepted_at[k];
    reached_at[k] += other.reached_at[k];
  }
  prompt_tokens += other.prompt_tokens;
  new_tokens += other.new_tokens;
  first_round_tokens += other.first_round_tokens;
  ttft_ms += other.ttft_ms;
  decode_ms += other.decode_ms;
}

DrafterOptions DrafterOptions::FromModel(std::shared_ptr<const Model> draft) {
  DrafterOptions options;
  options.kind = Kind::kModel;
  options.model = std::move(draft);
  return options;
}

DrafterOptions DrafterOptions::Ngram(int32_t min, int32_t max) {
  DrafterOptions options;
  options.kind = Kind::kNgram;
  options.ngram_min = min;
  options.ngram_max = max;
  return options;
}

class Engine::Impl {
 public:
  static absl::StatusOr<std::unique_ptr<Impl>> Create(EngineOptions options);
  ~Impl() {  // a GPU may still be running ahead
    if (decoder_ != nullptr) decoder_->Pause(*stream_).IgnoreError();
  }

  const EngineOptions& options() const { return options_; }
  EngineMemory memory() const;
  const RoundCostModel& cost_model() const { return cost_model_; }
  const RoundProfile& profile() const { return profile_; }
  void ResetProfile() { profile_ = {}; }
  absl::StatusOr<RequestId> Submit(Request request);
  absl::StatusOr<std::vector<RequestUpdate>> Step(int64_t rounds);
  absl::Status Run(const std::function<bool(const RequestUpdate&)>& on_update);
  absl::StatusOr<GenerateResult> Generate(
      Request request, const std::function<bool(const RequestUpdate&)>& on_update);
  bool idle() const { return waiting_.empty() && running_.empty(); }
  absl::Status Cancel(RequestId id);
  absl::StatusOr<GenerateResult> TakeResult(RequestId id);
  absl::StatusOr<DecodeStats> Stats(RequestId id) const;
  absl::Status SaveState(RequestId id, const std::string& path);
  absl::StatusOr<RequestId> RestoreState(const std::string& path, Request request);
  absl::StatusOr<RequestId> Fork(RequestId id, Request request);
  absl::Status Release(RequestId id);

 private:
  struct Job {
    Request request;
    std::vector<int32_t> tokens;      // what comes before the new text
    std::optional<SavedState> saved;  // state to resume from
    int32_t slot = -1;                // -1: none
    bool finished = false;
    TextStream text;
    GenerateResult result;
    Clock::time_point submitted;
    Clock::time_point first_token;
  };

  explicit Impl(EngineOptions options) : options_(std::move(options)) {}

  absl::Status CheckRequest(const Request& request, size_t tokens_before) const;
  RequestId Enlist(Request request, std::vector<int32_t> tokens, std::optional<SavedState> saved);
  SlotRequest ForSlot(const Job& job) const;
  absl::Status Join(Job& job, int32_t slot);
  absl::Status JoinWaiting();
  RequestUpdate Collect(RequestId id, Job& job);
  void CollectRound(std::vector<RequestUpdate>& updates);
  absl::Status PauseAndCollect(std::vector<RequestUpdate>& updates);
  bool NeedsExactState() const;
  void Finish(Job& job, FinishReason reason, RequestUpdate* update);
  void FreeSlot(Job& job);
  int32_t TakeFreeSlot();
  absl::StatusOr<Job*> Find(RequestId id);
  absl::StatusOr<Job*> FindWithState(RequestId id);

  EngineOptions options_;
  std::unique_ptr<Stream> stream_;
  RoundCostModel cost_model_;
  RoundProfile profile_;
  std::unique_ptr<RoundProfiler> profiler_;  // null: not wanted
  std::unique_ptr<Decoder> decoder_;
  std::vector<int32_t> free_slots_;
  std::map<RequestId, Job> jobs_;
  std::deque<RequestId> waiting_;
  std::vector<RequestId> running_;
  RequestId next_id_ = 1;
};

absl::StatusOr<std::unique_ptr<Engine::Impl>> Engine::Impl::Create(EngineOptions options) {
  SW_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::unique_ptr<Impl>(new Impl(std::move(options)));
  EngineOptions& chosen = impl->options_;
  const Device& device = chosen.model->device();
  SW_ASSIGN_OR_RETURN(impl->stream_, device.CreateStream(chosen.num_threads));
  SW_ASSIGN_OR_RETURN(impl->cost_model_, FindCostModel(chosen));
  if (chosen.prefill_chunk == 0) chosen.prefill_chunk = impl->cost_model_.prefill_chunk;
  if (chosen.prefill_chunk == 0) {
    chosen.prefill_chunk = device.type() == DeviceType::kCpu ? kCpuPrefillChunk : kCudaPrefillChunk;
  }
  DecoderOptions decoder;
  decoder.model = chosen.model;
  decoder.state.num_slots = chosen.max_sequences;
  decoder.state.snapshots = chosen.checkpoint_policy == CheckpointPolicy::kSnapshotPerToken;
  decoder.state.every_round = chosen.checkpoint_policy != CheckpointPolicy::kWhenLogFull;
  decoder.state.stride = chosen.checkpoint_stride;
  decoder.max_draft = chosen.drafter.kind == DrafterOptions::Kind::kNone ? 0
                      : chosen.draft_tokens == kAutoDraftTokens          ? kAutoMaxDraft
                                                                         : chosen.draft_tokens;
  decoder.prefill_chunk = chosen.prefill_chunk;
  SW_ASSIGN_OR_RETURN(decoder.drafter, CreateDrafter(chosen, decoder.state, decoder.max_draft));
  if (chosen.drafter.kind == DrafterOptions::Kind::kCustom && !impl->cost_model_.measured) {
    impl->cost_model_ =
        BuiltInCostModel(*chosen.model, nullptr, decoder.drafter->CostPerProposal());
  }
  decoder.costs = CostTables(impl->cost_model_, chosen.max_sequences);
  if (chosen.profile_rounds) {
    impl->profiler_ = std::make_unique<RoundProfiler>(impl->stream_.get(), &impl->profile_);
    decoder.profiler = impl->profiler_.get();
  }
  SW_ASSIGN_OR_RETURN(impl->decoder_, Decoder::Create(std::move(decoder)));
  for (int32_t slot = chosen.max_sequences - 1; slot >= 0; --slot) {
    impl->free_slots_.push_back(slot);
  }
  return impl;
}

EngineMemory Engine::Impl::memory() const {
  const StateStore& store = decoder_->verifier().store();
  const DrafterMemory drafter = decoder_->drafter().Memory();
  return {.state_bytes = store.CheckpointBytes() + drafter.state_bytes,
          .replay_bytes = store.LogBytes() + drafter.replay_bytes};
}

absl::Status Engine::Impl::CheckRequest(const Request& request, size_t tokens_before) const {
  const ModelInfo& info = options_.model->info();
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] < 0 || request.prompt[i] >= info.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("prompt token %d at position %d; legal are 0 to %d", request.prompt[i], i,
                          info.vocab_size - 1));
    }
  }
  if (request.prompt.empty() && tokens_before == 0) {
    return absl::InvalidArgumentError("the prompt has no tokens; at least one is needed");
  }
  SW_RETURN_IF_ERROR(CheckRange("max_new_tokens", request.max_new_tokens, 1, kMaxNewTokens));
  SW_RETURN_IF_ERROR(
      CheckRange("prompt tokens", tokens_before + request.prompt.size(), 1, 1 << 30));
  SW_RETURN_IF_ERROR(CheckSampling(request.sampling));
  const size_t stop_tokens =
      request.stop_tokens.size() + (request.ignore_eos ? 0 : info.eos_tokens.size());
  SW_RETURN_IF_ERROR(CheckRange("stop tokens", stop_tokens, 0, kMaxStopTokens));
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return absl::InvalidArgumentError("a stop text is empty");
  }
  if (!request.stop.empty() && options_.model->tokenizer() == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("stop texts need a tokenizer, and ", info.path, " has no tokenizer.json"));
  }
  return absl::OkStatus();
}

RequestId Engine::Impl::Enlist(Request request, std::vector<int32_t> tokens,
                               std::optional<SavedState> saved) {
  const RequestId id = next_id_++;
  tokens.insert(tokens.end(), request.prompt.begin(), request.prompt.end());
  TextStream text(options_.model->tokenizer(), request.stop);
  Job& job = jobs_
                 .emplace(id, Job{.request = std::move(request),
                                  .tokens = std::move(tokens),
                                  .saved = std::move(saved),
                                  .text = std::move(text)})
                 .first->second;
  job.submitted = Clock::now();
  job.result.stats.prompt_tokens = static_cast<int64_t>(job.tokens.size());
  return id;
}

absl::StatusOr<RequestId> Engine::Impl::Submit(Request request) {
  SW_RETURN_IF_ERROR(CheckRequest(request, 0));
  const RequestId id = Enlist(std::move(request), {}, std::nullopt);
  waiting_.push_back(id);
  return id;
}

SlotRequest Engine::Impl::ForSlot(const Job& job) const {
  SlotRequest slot;
  slot.tokens = job.tokens;
  slot.max_tokens = static_cast<int32_t>(job.tokens.size()) + job.request.max_new_tokens;
  slot.draft_tokens = options_.draft_tokens;
  slot.stop_tokens = job.request.stop_tokens;
  if (!job.request.ignore_eos) {
    const std::vector<int32_t>& eos = options_.model->info().eos_tokens;
    slot.stop_tokens.insert(slot.stop_tokens.end(), eos.begin(), eos.end());
  }
  slot.sampling = job.request.sampling;
  slot.sequence = job.request.sequence;
  slot.coupled = options_.acceptance == AcceptanceMethod::kCoupled;
  slot.synthetic_acceptance = options_.synthetic_acceptance;
  return slot;
}

int32_t Engine::Impl::TakeFreeSlot() {
  const int32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

absl::Status Engine::Impl::Join(Job& job, int32_t slot) {
  job.slot = slot;
  if (!job.saved.has_value()) return decoder_->Begin(*stream_, slot, ForSlot(job));
  const int32_t consumed = static_cast<int32_t>(job.saved->tokens.size()) - 1;
  const absl::Status resumed =
      decoder_->Resume(*stream_, slot, ForSlot(job), job.saved->state, consumed);
  job.saved.reset();
  return resumed;
}

void Engine::Impl::FreeSlot(Job& job) {
  if (job.slot < 0) return;
  decoder_->Release(stream_->context(), job.slot);
  free_slots_.push_back(job.slot);
  job.slot = -1;
}

void Engine::Impl::Finish(Job& job, FinishReason reason, RequestUpdate* update) {
  job.finished = true;
  job.result.finish = reason;
  job.text.Finish();
  job.result.text = job.text.text();
  if (update != nullptr) {
    update->finish = reason;
    update->text += job.text.TakeNew();
  }
  if (job.request.keep_state && job.slot >= 0) {
    decoder_->Stop(stream_->context(), job.slot);
  } else {
    FreeSlot(job);
  }
}

RequestUpdate Engine::Impl::Collect(RequestId id, Job& job) {
  RequestUpdate update{.id = id};
  bool stopped_by_text = false;
  const SlotControl* slot = &decoder_->slot(job.slot);
  for (int32_t i = slot->round_start; i < slot->num_tokens && !stopped_by_text; ++i) {
    update.tokens.push_back({slot->tokens[i], i - slot->round_start < slot->num_accepted});
    stopped_by_text = job.text.Push(slot->tokens[i]);
    if (!stopped_by_text) continue;
    // A failure stays in the stream and surfaces with the next round.
    decoder_->Pause(*stream_).IgnoreError();
    decoder_->Truncate(stream_->context(), job.slot, i + 1);
  }
  update.text = job.text.TakeNew();

  DecodeStats& stats = job.result.stats;
  const Clock::time_point now = Clock::now();
  if (stats.new_tokens == 0) {
    job.first_token = now;
    stats.ttft_ms = Milliseconds(now - job.submitted);
    stats.first_round_tokens = static_cast<int64_t>(update.tokens.size());
  }
  stats.decode_ms = Milliseconds(now - job.first_token);
  stats.new_tokens += static_cast<int64_t>(update.tokens.size());
  stats.rounds = slot->rounds;
  stats.drafted = slot->drafted;
  stats.accepted = slot->accepted;
  std::copy_n(slot->drafted_at, kMaxDraftTokens, stats.drafted_at.begin());
  std::copy_n(slot->accepted_at, kMaxDraftTokens, stats.accepted_at.begin());
  const int32_t reached = std::min(slot->num_drafted, slot->num_accepted + 1);
  for (int32_t j = 0; j < reached; ++j) ++stats.reached_at[j];
  for (const NewToken& token : update.tokens) job.result.tokens.push_back(token.id);

  if (slot->finish == SlotFinish::kStop) {
    Finish(job, FinishReason::kStop, &update);
  } else if (slot->finish == SlotFinish::kLength) {
    Finish(job, FinishReason::kLength, &update);
  }
  return update;
}

absl::Status Engine::Impl::JoinWaiting() {
  while (!waiting_.empty() && !free_slots_.empty()) {
    const RequestId id = waiting_.front();
    waiting_.pop_front();
    Job& job = jobs_.at(id);
    if (const absl::Status joined = Join(job, TakeFreeSlot()); !joined.ok()) {
      FreeSlot(job);
      jobs_.erase(id);
      return absl::Status(joined.code(), absl::StrFormat("request %d: %s", id, joined.message()));
    }
    running_.push_back(id);
  }
  return absl::OkStatus();
}

// Updates of the round that the decoder delivered last.
void Engine::Impl::CollectRound(std::vector<RequestUpdate>& updates) {
  for (const RequestId id : running_) {
    Job& job = jobs_.at(id);
    const SlotControl& slot = decoder_->slot(job.slot);
    if (slot.num_tokens > slot.round_start) updates.push_back(Collect(id, job));
  }
  std::erase_if(running_, [this](RequestId id) { return jobs_.at(id).finished; });
}

// Ends a running loop after the round at hand and collects what nobody has seen.
absl::Status Engine::Impl::PauseAndCollect(std::vector<RequestUpdate>& updates) {
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  while (decoder_->pending() > 0) {
    SW_RETURN_IF_ERROR(decoder_->Next(*stream_).status());
    CollectRound(updates);
  }
  return absl::OkStatus();
}

// A text that may end in the middle of a round, and whose state is wanted at that very token, must
// not run ahead of the host that looks for its end.
bool Engine::Impl::NeedsExactState() const {
  return std::any_of(running_.begin(), running_.end(), [this](RequestId id) {
    const Request& request = jobs_.at(id).request;
    return request.keep_state && !request.stop.empty();
  });
}

absl::StatusOr<std::vector<RequestUpdate>> Engine::Impl::Step(int64_t rounds) {
  std::vector<RequestUpdate> updates;
  if (!waiting_.empty() && !free_slots_.empty()) {
    SW_RETURN_IF_ERROR(PauseAndCollect(updates));
    SW_RETURN_IF_ERROR(JoinWaiting());
  }
  if (running_.empty() || !updates.empty()) return updates;
  decoder_->Run(NeedsExactState() ? 1 : rounds);
  while (updates.empty()) {
    SW_ASSIGN_OR_RETURN(const bool advanced, decoder_->Next(*stream_));
    if (!advanced) break;
    CollectRound(updates);
  }
  return updates;
}

absl::Status Engine::Impl::Run(const std::function<bool(const RequestUpdate&)>& on_update) {
  bool go_on = true;
  while (go_on && !idle()) {
    SW_ASSIGN_OR_RETURN(const std::vector<RequestUpdate> updates, Step(kFreeRun));
    for (const RequestUpdate& update : updates) {
      if (on_update != nullptr && !on_update(update)) go_on = false;
    }
  }
  std::vector<RequestUpdate> rest;
  SW_RETURN_IF_ERROR(PauseAndCollect(rest));
  if (on_update != nullptr) std::for_each(rest.begin(), rest.end(), on_update);
  return absl::OkStatus();
}

absl::StatusOr<Engine::Impl::Job*> Engine::Impl::Find(RequestId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return absl::NotFoundError(absl::StrFormat("no request %d", id));
  return &it->second;
}

absl::StatusOr<Engine::Impl::Job*> Engine::Impl::FindWithState(RequestId id) {
  SW_ASSIGN_OR_RETURN(Job* const job, Find(id));
  if (job->slot < 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("request %d holds no state: it waits, or ended without keep_state", id));
  }
  return job;
}

absl::Status Engine::Impl::Cancel(RequestId id) {
  SW_ASSIGN_OR_RETURN(Job* const job, Find(id));
  if (job->finished) return absl::OkStatus();
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  std::erase(waiting_, id);
  std::erase(running_, id);
  Finish(*job, FinishReason::kCancelled, nullptr);
  return absl::OkStatus();
}

absl::StatusOr<GenerateResult> Engine::Impl::TakeResult(RequestId id) {
  SW_ASSIGN_OR_RETURN(Job* const job, Find(id));
  if (!job->finished) {
    return absl::FailedPreconditionError(absl::StrFormat("request %d is not finished", id));
  }
  if (job->slot >= 0) return job->result;
  GenerateResult result = std::move(job->result);
  jobs_.erase(id);
  return result;
}

absl::StatusOr<DecodeStats> Engine::Impl::Stats(RequestId id) const {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return absl::NotFoundError(absl::StrFormat("no request %d", id));
  return it->second.result.stats;
}

absl::Status Engine::Impl::SaveState(RequestId id, const std::string& path) {
  SW_ASSIGN_OR_RETURN(Job* const job, FindWithState(id));
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  SavedState saved;
  saved.fingerprint = options_.model->info().fingerprint;
  saved.tokens = decoder_->ReadTokens(stream_->context(), job->slot);
  saved.state = decoder_->ExportState(stream_->context(), job->slot);
  SW_RETURN_IF_ERROR(stream_->Synchronize());
  return WriteStateFile(path, saved);
}

absl::StatusOr<RequestId> Engine::Impl::RestoreState(const std::string& path, Request request) {
  SW_ASSIGN_OR_RETURN(
      SavedState saved,
      ReadStateFile(path, options_.model->info().fingerprint, [this](int64_t consumed) {
        return decoder_->verifier().store().ExportBytes(consumed);
      }));
  SW_RETURN_IF_ERROR(CheckRequest(request, saved.tokens.size()));
  std::vector<int32_t> tokens = saved.tokens;
  const int64_t vocab_size = options_.model->info().vocab_size;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: token %d; legal are 0 to %d", path, token, vocab_size - 1));
    }
  }
  const RequestId id = Enlist(std::move(request), std::move(tokens), std::move(saved));
  waiting_.push_back(id);
  return id;
}

absl::StatusOr<RequestId> Engine::Impl::Fork(RequestId id, Request request) {
  SW_ASSIGN_OR_RETURN(const Job* const source, FindWithState(id));
  if (free_slots_.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("no slot is free for a fork; max_sequences is %d", options_.max_sequences));
  }
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  std::vector<int32_t> tokens = decoder_->ReadTokens(stream_->context(), source->slot);
  SW_RETURN_IF_ERROR(CheckRequest(request, tokens.size()));
  const RequestId forked = Enlist(std::move(request), std::move(tokens), std::nullopt);
  Job& job = jobs_.at(forked);
  job.slot = TakeFreeSlot();
  const absl::Status resumed = decoder_->ResumeFork(*stream_, job.slot, ForSlot(job), source->slot);
  if (!resumed.ok()) {
    FreeSlot(job);
    jobs_.erase(forked);
    return resumed;
  }
  running_.push_back(forked);
  return forked;
}

absl::Status Engine::Impl::Release(RequestId id) {
  SW_ASSIGN_OR_RETURN(Job* const job, Find(id));
  if (!job->finished) {
    return absl::FailedPreconditionError(absl::StrFormat("request %d is not finished", id));
  }
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  FreeSlot(*job);
  jobs_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<GenerateResult> Engine::Impl::Generate(
    Request request, const std::function<bool(const RequestUpdate&)>& on_update) {
  SW_ASSIGN_OR_RETURN(const RequestId id, Submit(std::move(request)));
  for (bool done = false; !done;) {
    SW_ASSIGN_OR_RETURN(const std::vector<RequestUpdate> updates, Step(kFreeRun));
    for (const RequestUpdate& update : updates) {
      if (update.id != id || done) continue;
      done = update.finish != FinishReason::kNone;
      if (on_update != nullptr && !on_update(update) && !done) {
        SW_RETURN_IF_ERROR(Cancel(id));
        done = true;
      }
    }
  }
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  return TakeResult(id);
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(EngineOptions options) {
  SW_ASSIGN_OR_RETURN(auto impl, Impl::Create(std::move(options)));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const EngineOptions& Engine::options() const { return impl_->options(); }
EngineMemory Engine::memory() const { return impl_->memory(); }
const RoundCostModel& Engine::cost_model() const { return impl_->cost_model(); }
const RoundProfile& Engine::profile() const { return impl_->profile(); }
void Engine::ResetProfile() { impl_->ResetProfile(); }
absl::StatusOr<RequestId> Engine::Submit(Request request) {
  return impl_->Submit(std::move(request));
}
absl::StatusOr<std::vector<RequestUpdate>> Engine::Step() { return impl_->Step(/*rounds=*/1); }
absl::Status Engine::Run(const std::function<bool(const RequestUpdate&)>& on_update) {
  return impl_->Run(on_update);
}
bool Engine::idle() const { return impl_->idle(); }
absl::Status Engine::Cancel(RequestId id) { return impl_->Cancel(id); }
absl::StatusOr<GenerateResult> Engine::TakeResult(RequestId id) { return impl_->TakeResult(id); }
absl::StatusOr<DecodeStats> Engine::Stats(RequestId id) const { return impl_->Stats(id); }
absl::Status Engine::SaveState(RequestId id, const std::string& path) const {
  return impl_->SaveState(id, path);
}
absl::StatusOr<RequestId> Engine::RestoreState(const std::string& path, Request request) {
  return impl_->RestoreState(path, std::move(request));
}
absl::StatusOr<RequestId> Engine::Fork(RequestId id, Request request) {
  return impl_->Fork(id, std::move(request));
}
absl::Status Engine::Release(RequestId id) { return impl_->Release(id); }

absl::StatusOr<GenerateResult> Engine::Generate(
    Request request, const std::function<bool(const RequestUpdate&)>& on_update) {
  return impl_->Generate(std::move(request), on_update);
}

}  // namespace sidewinder
