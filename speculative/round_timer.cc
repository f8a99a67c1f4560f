#include "speculative/round_timer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "kernels/begin_round.h"
#include "kernels/plan_rows.h"
#include "runtime/recorded_loop.h"
#include "runtime/status_macros.h"
#include "speculative/drafter_registry.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kPromptTokens{16};
constexpr int32_t kSamples{9};     // of things that are quick
constexpr double kSampleUs{4000};  // long beside the clock and the launch of a loop
constexpr int64_t kMaxSampleRounds{256};

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

double Quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

// On a CPU that others use too, a thread loses it for milliseconds now and then. Rounds that took
// more than twice the median are left out: no work of a round varies so much.
double MeanOfUndisturbed(std::vector<double> us) {
  std::sort(us.begin(), us.end());
  const double limit = 2 * Quantile(us, 0.5);
  double sum = 0;
  int64_t count = 0;
  for (const double one : us) {
    if (one > limit) break;
    sum += one;
    ++count;
  }
  return sum / static_cast<double>(count);
}

// Any tokens will do: the time of a round does not depend on them.
std::vector<int32_t> Prompt(const Model& model, int32_t count) {
  std::vector<int32_t> tokens(count);
  uint64_t state = 1;
  for (int32_t& token : tokens) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(model.info().vocab_limit));
  }
  return tokens;
}

EngineOptions ForDrafter(const RoundTimerOptions& options) {
  EngineOptions engine;
  engine.model = options.model;
  engine.drafter = options.draft != nullptr ? DrafterOptions::FromModel(options.draft)
                                            : DrafterOptions::Ngram(1, 1);
  engine.draft_tokens = kAutoDraftTokens;  // rounds as they are where K is chosen
  engine.max_sequences = options.batch;
  engine.prefill_chunk = options.prefill_chunk;
  return engine;
}

}  // namespace

MeasuredTime MeasuredTimeOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {
      .median = Quantile(values, 0.5), .low = Quantile(values, 0.1), .high = Quantile(values, 0.9)};
}

absl::StatusOr<std::unique_ptr<RoundTimer>> RoundTimer::Create(const RoundTimerOptions& options) {
  auto timer = std::unique_ptr<RoundTimer>(new RoundTimer(options));
  SW_ASSIGN_OR_RETURN(timer->stream_, options.model->device().CreateStream(options.num_threads));
  DecoderOptions decoder;
  decoder.model = options.model;
  decoder.state.num_slots = options.batch;
  decoder.state.snapshots = options.policy == CheckpointPolicy::kSnapshotPerToken;
  decoder.state.every_round = options.policy != CheckpointPolicy::kWhenLogFull;
  decoder.state.stride = options.stride;
  decoder.max_draft = options.max_draft;
  decoder.prefill_chunk = options.prefill_chunk;
  decoder.sampling = false;
  decoder.costs = options.costs;
  SW_ASSIGN_OR_RETURN(decoder.drafter,
                      CreateDrafter(ForDrafter(options), decoder.state, options.max_draft));
  SW_ASSIGN_OR_RETURN(timer->decoder_, Decoder::Create(std::move(decoder)));
  return timer;
}

absl::Status RoundTimer::BeginAll(double acceptance, int64_t tokens) {
  const std::vector<int32_t> prompt = Prompt(*options_.model, kPromptTokens);
  for (int32_t slot = 0; slot < options_.batch; ++slot) {
    SlotRequest request;
    request.tokens = prompt;
    request.max_tokens = static_cast<int32_t>(kPromptTokens + tokens + kMaxDraft + 1);
    request.sequence = next_sequence_++;  // lots of their own
    request.synthetic_acceptance = absl::MakeConstSpan(&acceptance, 1);
    SW_RETURN_IF_ERROR(decoder_->Begin(*stream_, slot, request));
  }
  return stream_->Synchronize();
}

void RoundTimer::SetDraftTokens(int32_t draft_tokens) {
  for (int32_t slot = 0; slot < options_.batch; ++slot) {
    decoder_->SetDraftTokens(stream_->context(), slot, draft_tokens);
  }
}

void RoundTimer::ReleaseAll() {
  for (int32_t slot = 0; slot < options_.batch; ++slot) {
    decoder_->Release(stream_->context(), slot);
  }
}

int64_t RoundTimer::TokensSoFar() const {
  int64_t tokens = 0;
  for (int32_t slot = 0; slot < options_.batch; ++slot) tokens += decoder_->slot(slot).num_tokens;
  return tokens;
}

absl::StatusOr<double> RoundTimer::TimeRounds(int64_t rounds) {
  const Clock::time_point start = Clock::now();
  Clock::time_point last = start;
  std::vector<double> each;
  decoder_->Run(rounds);
  for (int64_t r = 0; r < rounds; ++r) {
    SW_ASSIGN_OR_RETURN(const bool advanced, decoder_->Next(*stream_));
    if (!advanced) return absl::InternalError("a measured text ended too early");
    const Clock::time_point now = Clock::now();
    each.push_back(Microseconds(now - last));
    last = now;
  }
  const double us = Microseconds(last - start);
  // The loop has ended by itself; the next one is launched anew.
  SW_RETURN_IF_ERROR(decoder_->Pause(*stream_));
  if (options_.model->device().type() == DeviceType::kCuda) return us;
  return MeanOfUndisturbed(std::move(each)) * static_cast<double>(rounds);
}

absl::Status RoundTimer::Calibrate(int32_t draft_tokens, double acceptance) {
  const bool gpu = options_.model->device().type() == DeviceType::kCuda;
  // The first rounds warm up and record the loop.
  constexpr int64_t kFirstRounds{4};
  SW_RETURN_IF_ERROR(BeginAll(acceptance, 2 * kFirstRounds * (kMaxDraft + 1)));
  SetDraftTokens(draft_tokens);
  SW_RETURN_IF_ERROR(TimeRounds(kFirstRounds).status());
  SW_ASSIGN_OR_RETURN(const double us, TimeRounds(kFirstRounds));
  ReleaseAll();
  const int64_t least = gpu ? 16 : 5;
  sample_rounds_[draft_tokens] = std::clamp(
      static_cast<int64_t>(std::ceil(kSampleUs * kFirstRounds / us)), least, kMaxSampleRounds);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RoundTimer::Sample>> RoundTimer::InTurn(
    absl::Span<const int32_t> draft_tokens, double acceptance) {
  int64_t tokens = 0;
  for (const int32_t k : draft_tokens) {
    if (sample_rounds_.count(k) == 0) SW_RETURN_IF_ERROR(Calibrate(k, acceptance));
    const int64_t longest = k == kAutoDraft ? options_.max_draft : k;
    tokens += (sample_rounds_[k] + 2) * (longest + 1);
  }
  SW_RETURN_IF_ERROR(BeginAll(acceptance, tokens));
  std::vector<Sample> samples;
  for (const int32_t k : draft_tokens) {
    SetDraftTokens(k);
    SW_RETURN_IF_ERROR(TimeRounds(2).status());  // what the last length left behind
    const int64_t rounds = sample_rounds_[k];
    const int64_t before = TokensSoFar();
    SW_ASSIGN_OR_RETURN(const double us, TimeRounds(rounds));
    const auto made = static_cast<double>(TokensSoFar() - before);
    samples.push_back(
        {.round_us = us / static_cast<double>(rounds), .token_us = us * options_.batch / made});
  }
  ReleaseAll();
  return samples;
}

absl::StatusOr<RoundTimer::Result> RoundTimer::Rounds(int32_t draft_tokens, double acceptance,
                                                      double seconds) {
  const Clock::time_point start = Clock::now();
  std::vector<double> round_us, token_us;
  for (int32_t s = 0; s < kMaxSamples; ++s) {
    if (s >= kMinSamples && Microseconds(Clock::now() - start) > seconds * 1e6) break;
    SW_ASSIGN_OR_RETURN(const std::vector<Sample> samples, InTurn({draft_tokens}, acceptance));
    round_us.push_back(samples.front().round_us);
    token_us.push_back(samples.front().token_us);
  }
  return Result{.round_us = MeasuredTimeOf(round_us), .token_us = MeasuredTimeOf(token_us)};
}

absl::StatusOr<MeasuredTime> RoundTimer::Prefill(int32_t tokens, double seconds) {
  const std::vector<int32_t> prompt = Prompt(*options_.model, tokens + 1);
  SlotRequest request;
  request.tokens = prompt;
  request.max_tokens = tokens + 2;
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  for (int32_t s = 0; s <= kSamples; ++s) {
    const Clock::time_point begin = Clock::now();
    SW_RETURN_IF_ERROR(decoder_->Begin(*stream_, 0, request));
    SW_RETURN_IF_ERROR(stream_->Synchronize());
    const double us = Microseconds(Clock::now() - begin);
    decoder_->Release(stream_->context(), 0);
    if (s > 0) times.push_back(us / tokens);  // the first one warms up
    if (s >= kMinSamples && Microseconds(Clock::now() - start) > seconds * 1e6) break;
  }
  return MeasuredTimeOf(times);
}

namespace {

// A loop of `ops` ops that do nothing, and of what opens and closes a round, for an idle slot.
class EmptyRounds {
 public:
  static absl::StatusOr<EmptyRounds> Create(const Device& device) {
    EmptyRounds rounds;
    SW_ASSIGN_OR_RETURN(rounds.slots_, device.Allocate(sizeof(SlotControl), "an idle slot"));
    SW_ASSIGN_OR_RETURN(rounds.counts_, device.Allocate(3 * sizeof(int32_t), "an empty plan"));
    SW_ASSIGN_OR_RETURN(rounds.published_, device.Allocate(sizeof(int64_t), "an empty round"));
    SW_ASSIGN_OR_RETURN(rounds.shared_,
                        device.AllocateShared(2 * sizeof(int64_t) + sizeof(SlotRecord), "its log"));
    return rounds;
  }

  void Enqueue(ExecutionContext& ctx, int32_t ops, uint64_t condition) const {
    const ControlBlock control = {.slots = slots_.as<SlotControl>(), .num_slots = 1};
    int32_t* const counts = counts_.as<int32_t>();
    const RowPlan plan = {.num_rows = counts,
                          .num_sequences = counts + 1,
                          .num_logit_rows = counts + 2,
                          .max_rows = 1,
                          .max_sequences = 1};
    BeginRound(ctx, {.control = control});
    for (int32_t i = 0; i < ops; ++i) AdvanceCursors(ctx, plan, nullptr);
    int64_t* const words = shared_.as<int64_t>();
    PublishRound(ctx, {.control = control,
                       .log = {.records = reinterpret_cast<SlotRecord*>(words + 2),
                               .capacity = 1,
                               .published = words,
                               .limit = words + 1},
                       .num_published = published_.as<int64_t>(),
                       .condition = condition,
                       .in_loop = condition != 0});
  }

 private:
  DeviceMemory slots_, counts_, published_, shared_;
};

// Microseconds of each of `samples` runs of body().
template <class Body>
std::vector<double> TimeEach(int32_t samples, const Body& body) {
  std::vector<double> times;
  for (int32_t s = 0; s <= samples; ++s) {
    const Clock::time_point start = Clock::now();
    body();
    if (s > 0) times.push_back(Microseconds(Clock::now() - start));
  }
  return times;
}

constexpr int32_t kEmptyRepeats{64};

absl::StatusOr<LaunchCosts> LaunchCostsOfCpu(Stream& stream, const EmptyRounds& rounds) {
  ExecutionContext& ctx = stream.context();
  const auto per_repeat = [](std::vector<double> times) {
    for (double& us : times) us /= kEmptyRepeats;
    return MeasuredTimeOf(std::move(times));
  };
  LaunchCosts costs;
  costs.op_us = per_repeat(TimeEach(kSamples * 5, [&] {
    for (int32_t i = 0; i < kEmptyRepeats; ++i) {
      ctx.pool->ParallelFor(ctx.pool->num_threads(), 1, [](int64_t, int64_t, int) {});
    }
  }));
  costs.empty_round_us = per_repeat(TimeEach(kSamples * 5, [&] {
    for (int32_t i = 0; i < kEmptyRepeats; ++i) rounds.Enqueue(ctx, 0, 0);
  }));
  return costs;
}

// A graph that holds one round with `ops` ops, launched kEmptyRepeats times in a row: the loop ends
// itself after one iteration, because no slot is active.
absl::StatusOr<MeasuredTime> TimeEmptyGraph(Stream& stream, const EmptyRounds& rounds,
                                            int32_t ops) {
  ExecutionContext& ctx = stream.context();
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<RecordedLoop> loop,
                      RecordedLoop::Record(stream, [&](uint64_t condition) {
                        rounds.Enqueue(ctx, ops, condition);
                      }));
  absl::Status status;
  const std::vector<double> times = TimeEach(kSamples, [&] {
    for (int32_t i = 0; i < kEmptyRepeats; ++i) loop->Launch(ctx);
    status.Update(stream.Synchronize());
  });
  SW_RETURN_IF_ERROR(status);
  MeasuredTime spread = MeasuredTimeOf(times);
  for (double* us : {&spread.median, &spread.low, &spread.high}) *us /= kEmptyRepeats;
  return spread;
}

}  // namespace

absl::StatusOr<LaunchCosts> MeasureLaunchCosts(const Device& device, int32_t num_threads) {
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device.CreateStream(num_threads));
  SW_ASSIGN_OR_RETURN(const EmptyRounds rounds, EmptyRounds::Create(device));
  if (device.type() == DeviceType::kCpu) return LaunchCostsOfCpu(*stream, rounds);
  constexpr int32_t kOps{128};
  LaunchCosts costs;
  SW_ASSIGN_OR_RETURN(costs.empty_round_us, TimeEmptyGraph(*stream, rounds, 0));
  SW_ASSIGN_OR_RETURN(const MeasuredTime with_ops, TimeEmptyGraph(*stream, rounds, kOps));
  const double base = costs.empty_round_us.median;
  costs.op_us = {.median = std::max(0.0, with_ops.median - base) / kOps,
                 .low = std::max(0.0, with_ops.low - base) / kOps,
                 .high = std::max(0.0, with_ops.high - base) / kOps};
  return costs;
}

}  // namespace sidewinder
