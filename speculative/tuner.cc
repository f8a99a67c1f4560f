// Tune(): a list of measurements, what matters most first. Each has a place in the profile; one whose
// place is taken is left out, which is all there is to resuming.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/strings/ascii.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"
#include "sidewinder/tuning.h"
#include "speculative/cost_model.h"
#include "speculative/round_timer.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

// Half-way between what small and good drafts reach: rounds replay as many rows as they usually do.
constexpr double kUsualAcceptance{0.8};
constexpr int32_t kAutoMaxDraft{8};  // as the engine's

// With the draft. 5 and 7 are left out on purpose: the checks predict them.
constexpr int32_t kPairLengths[]{0, 1, 2, 3, 4, 6, 8};
constexpr int32_t kBatchLengths[]{0, 1, 2, 4, 8};
constexpr int32_t kCheckedLength{5};
constexpr int32_t kBatches[]{4, 16, 32};
constexpr int32_t kStrides[]{8, 16, 32};
constexpr int32_t kPolicyLength{4};  // proposals with which policies are compared
constexpr int32_t kReplayLengths[]{2, 4, 8};
constexpr int32_t kCpuChunks[]{16, 32, 64, 128, 256};
constexpr int32_t kGpuChunks[]{64, 128, 256, 512, 1024};
constexpr double kCloseEnough{0.02};  // a smaller chunk within this needs less memory

// "580.65.06" of an NVIDIA driver; empty if there is none.
std::string DriverVersion() {
  std::ifstream file("/proc/driver/nvidia/version");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::string kMark("Kernel Module");
  size_t at = text.find(kMark);
  if (at == std::string::npos) return "";
  at = text.find_first_of("0123456789", at + kMark.size());
  if (at == std::string::npos) return "";
  return text.substr(at, text.find_first_not_of("0123456789.", at) - at);
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  return absl::StrFormat("%04d-%02d-%02d", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

struct Step {
  std::string what;
  std::function<bool(const TuningProfile&)> has;
  std::function<absl::Status(double seconds)> measure;
};

class Tuner {
 public:
  explicit Tuner(const TuneOptions& options)
      : options_(options),
        gpu_(options.model->device().type() == DeviceType::kCuda),
        start_(Clock::now()) {}

  absl::StatusOr<TuningProfile> Run() {
    SW_RETURN_IF_ERROR(Prepare());
    ListSteps();
    int32_t done = 0;
    bool left_out = false;
    for (const Step& step : steps_) {
      ++done;
      if (step.has(profile_)) continue;
      const double left = options_.time_budget - Seconds();
      if (left <= 0) {
        left_out = true;
        break;
      }
      // Later steps are larger; an even share of what is left suits them all.
      const double share = left / static_cast<double>(steps_.size() - done + 2);
      SW_RETURN_IF_ERROR(step.measure(std::min(kLongest, share / 2)));
      profile_.complete = done == static_cast<int32_t>(steps_.size());
      Choose();
      if (options_.on_progress == nullptr) continue;
      SW_RETURN_IF_ERROR(options_.on_progress({.done = done,
                                               .total = static_cast<int32_t>(steps_.size()),
                                               .seconds = Seconds(),
                                               .what = step.what.c_str(),
                                               .profile = profile_}));
    }
    profile_.complete = !left_out;
    Choose();
    return profile_;
  }

 private:
  static constexpr double kLongest{1.5};  // seconds that one measurement may take

  double Seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

  absl::Status Prepare() {
    const ModelInfo& info = options_.model->info();
    const int threads = gpu_                       ? 0
                        : options_.num_threads > 0 ? options_.num_threads
                                                   : AvailableCores();
    profile_.device = info.device_description;
    profile_.threads = threads;
    profile_.driver = gpu_ ? DriverVersion() : "";
    profile_.model = ModelShape::Of(info);
    profile_.model_path = info.path;
    if (options_.draft != nullptr) {
      profile_.draft = ModelShape::Of(options_.draft->info());
      profile_.draft_path = options_.draft->info().path;
    }
    profile_.date = Today();
    profile_.sidewinder_version = options_.program_version;
    if (!options_.resume) return absl::OkStatus();
    const TuningProfile& old = *options_.resume;
    if (old.device != profile_.device || old.threads != threads || old.model != profile_.model ||
        old.draft != profile_.draft) {
      return absl::FailedPreconditionError(
          "the profile to resume is for another device, number of threads, model or draft");
    }
    if (old.driver != profile_.driver) {
      return absl::FailedPreconditionError(
          absl::StrCat("the profile to resume was measured with driver \"", old.driver,
                       "\", now there is \"", profile_.driver, "\""));
    }
    profile_ = old;
    return absl::OkStatus();
  }

  // The timer of the step at hand; consecutive steps share one.
  absl::StatusOr<RoundTimer*> Timer(bool draft, int32_t batch, CheckpointPolicy policy,
                                    int32_t stride, int32_t max_draft) {
    const std::string key = absl::StrCat(draft, " ", batch, " ", static_cast<int>(policy), " ",
                                         stride, " ", max_draft);
    if (timer_ != nullptr && key == timer_key_) return timer_.get();
    timer_.reset();
    RoundTimerOptions options;
    options.model = options_.model;
    if (draft) options.draft = options_.draft;
    options.num_threads = options_.num_threads;
    options.batch = batch;
    options.policy = policy;
    options.stride = stride;
    options.max_draft = max_draft;
    if (!profile_.verify.empty()) {
      options.costs = CostTables(CostModelOf(profile_, policy, stride), batch);
    }
    SW_ASSIGN_OR_RETURN(timer_, RoundTimer::Create(options));
    timer_key_ = key;
    return timer_.get();
  }

  void AddRounds(bool draft, int32_t batch, CheckpointPolicy policy, int32_t stride,
                 int32_t draft_tokens, int32_t max_draft) {
    const auto list = [draft](auto& profile) -> auto& {
      return draft ? profile.rounds : profile.verify;
    };
    RoundMeasurement place = {
        .batch = batch, .policy = policy, .stride = stride, .draft_tokens = draft_tokens};
    steps_.push_back(
        {.what = absl::StrFormat("round of %d with %d proposals%s", batch, draft_tokens,
                                 draft ? " of the draft" : ""),
         .has =
             [=, this](const TuningProfile& profile) {
               const auto& rounds = list(profile);
               return TooLarge(batch) ||
                      std::any_of(rounds.begin(), rounds.end(), [&](const RoundMeasurement& r) {
                        return r.batch == batch && r.policy == policy && r.stride == stride &&
                               r.draft_tokens == draft_tokens;
                      });
             },
         .measure =
             [=, this](double seconds) mutable {
               auto timer = Timer(draft, batch, policy, stride, max_draft);
               if (absl::IsResourceExhausted(timer.status()) && batch > 1) {
                 too_large_ = std::min(too_large_, batch);
                 return absl::OkStatus();
               }
               SW_RETURN_IF_ERROR(timer.status());
               SW_ASSIGN_OR_RETURN(const RoundTimer::Result result,
                                   (*timer)->Rounds(draft_tokens, kUsualAcceptance, seconds));
               place.us = result.round_us;
               list(profile_).push_back(place);
               return absl::OkStatus();
             }});
  }

  bool TooLarge(int32_t batch) const { return batch >= too_large_; }

  void AddBandwidth() {
    steps_.push_back({.what = "bandwidth",
                      .has = [](const TuningProfile& p) { return p.read_bytes_per_second > 0; },
                      .measure =
                          [this](double) {
                            SW_ASSIGN_OR_RETURN(
                                profile_.read_bytes_per_second,
                                MeasureReadBandwidth(*options_.model,
                                                     options_.model->info().weight_bytes,
                                                     options_.num_threads));
                            return absl::OkStatus();
                          }});
    steps_.push_back({.what = "launches",
                      .has = [](const TuningProfile& p) { return p.empty_round_us.median > 0; },
                      .measure =
                          [this](double) {
                            SW_ASSIGN_OR_RETURN(const LaunchCosts costs,
                                                MeasureLaunchCosts(options_.model->device(),
                                                                   options_.num_threads));
                            profile_.launch_us = costs.op_us;
                            profile_.empty_round_us = costs.empty_round_us;
                            return absl::OkStatus();
                          }});
  }

  void AddPolicies(int32_t batch) {
    for (const int32_t stride : kStrides) {
      AddRounds(false, batch, CheckpointPolicy::kWhenLogFull, stride, kPolicyLength, kAutoMaxDraft);
    }
    AddRounds(false, batch, CheckpointPolicy::kSnapshotPerToken, kDefaultStride, kPolicyLength,
              kAutoMaxDraft);
  }

  void AddPrefill(int32_t chunk) {
    steps_.push_back(
        {.what = absl::StrFormat("prefill in chunks of %d", chunk),
         .has =
             [chunk](const TuningProfile& profile) {
               return std::any_of(profile.prefill.begin(), profile.prefill.end(),
                                  [&](const PrefillMeasurement& p) { return p.chunk == chunk; });
             },
         .measure =
             [=, this](double seconds) {
               timer_.reset();
               RoundTimerOptions options;
               options.model = options_.model;
               options.num_threads = options_.num_threads;
               options.max_draft = 0;
               options.prefill_chunk = chunk;
               SW_ASSIGN_OR_RETURN(const auto timer, RoundTimer::Create(options));
               SW_ASSIGN_OR_RETURN(
                   const Spread us,
                   timer->Prefill(gpu_ ? kGpuChunks[std::size(kGpuChunks) - 1]
                                       : kCpuChunks[std::size(kCpuChunks) - 1],
                                  seconds));
               profile_.prefill.push_back({.chunk = chunk, .us_per_token = us});
               return absl::OkStatus();
             }});
  }

  void AddReplay(int32_t draft_tokens, bool all) {
    const ReplayMeasurement place = {.draft_tokens = draft_tokens,
                                     .rows = all ? draft_tokens : 0};
    steps_.push_back(
        {.what = absl::StrFormat("replay of %d rows", place.rows),
         .has =
             [place](const TuningProfile& profile) {
               return std::any_of(profile.replay.begin(), profile.replay.end(),
                                  [&](const ReplayMeasurement& r) {
                                    return r.draft_tokens == place.draft_tokens &&
                                           r.rows == place.rows;
                                  });
             },
         .measure =
             [=, this](double seconds) {
               SW_ASSIGN_OR_RETURN(RoundTimer* const timer,
                                   Timer(false, 1, CheckpointPolicy::kEveryRound, kDefaultStride,
                                         kAutoMaxDraft));
               SW_ASSIGN_OR_RETURN(const RoundTimer::Result result,
                                   timer->Rounds(draft_tokens, all ? 1.0 : 0.0, seconds));
               ReplayMeasurement measured = place;
               measured.us = result.round_us;
               profile_.replay.push_back(measured);
               return absl::OkStatus();
             }});
  }

  void AddCheck(int32_t draft_tokens, bool fitted) {
    steps_.push_back(
        {.what = draft_tokens == kAutoDraftTokens
                     ? std::string("check of auto")
                     : absl::StrFormat("check with %d proposals", draft_tokens),
         .has =
             [draft_tokens](const TuningProfile& profile) {
               return std::any_of(
                   profile.checks.begin(), profile.checks.end(),
                   [&](const PredictionCheck& c) { return c.draft_tokens == draft_tokens; });
             },
         .measure =
             [=, this](double seconds) {
               const bool draft = options_.draft != nullptr;
               SW_ASSIGN_OR_RETURN(RoundTimer* const timer,
                                   Timer(draft, 1, CheckpointPolicy::kEveryRound, kDefaultStride,
                                         kAutoMaxDraft));
               // Lots scatter more than times do.
               SW_ASSIGN_OR_RETURN(
                   const RoundTimer::Result result,
                   timer->Rounds(draft_tokens, kUsualAcceptance, 3 * seconds));
               const RoundCostModel model =
                   CostModelOf(profile_, CheckpointPolicy::kEveryRound, kDefaultStride);
               const std::vector<double> rates = {kUsualAcceptance};
               const int32_t length =
                   draft_tokens == kAutoDraftTokens
                       ? model.BestDraftTokens(1, rates, kAutoMaxDraft)
                       : draft_tokens;
               profile_.checks.push_back(
                   {.batch = 1,
                    .draft_tokens = draft_tokens,
                    .acceptance = kUsualAcceptance,
                    .fitted = fitted,
                    .predicted_us = model.At(1).round_us[length] /
                                    RoundCostModel::ExpectedTokens(rates, length),
                    .measured_us = result.token_us});
               return absl::OkStatus();
             }});
  }

  void ListSteps() {
    const bool draft = options_.draft != nullptr;
    const auto pair = [&](int32_t batch, int32_t k) {
      AddRounds(true, batch, CheckpointPolicy::kEveryRound, kDefaultStride, k, kAutoMaxDraft);
    };
    const auto verify = [&](int32_t batch, int32_t k) {
      // As wide as the passes of an engine that would make so many proposals.
      AddRounds(false, batch, CheckpointPolicy::kEveryRound, kDefaultStride, k,
                k <= kAutoMaxDraft ? kAutoMaxDraft : kMaxDraftTokens);
    };
    AddBandwidth();
    for (int32_t k = 0; k <= kMaxDraftTokens; ++k) verify(1, k);
    if (draft) {
      for (const int32_t k : kPairLengths) pair(1, k);
    }
    for (const int32_t batch : kBatches) {
      for (const int32_t k : {0, 1, 2, 4, 8}) verify(batch, k);
      if (!draft) continue;
      for (const int32_t k : kBatchLengths) pair(batch, k);
    }
    AddPolicies(1);
    for (const int32_t batch : kBatches) AddPolicies(batch);
    for (const int32_t chunk : gpu_ ? kGpuChunks : kCpuChunks) AddPrefill(chunk);
    for (const int32_t k : kReplayLengths) {
      AddReplay(k, false);
      AddReplay(k, true);
    }
    AddCheck(kPolicyLength, /*fitted=*/true);
    AddCheck(kCheckedLength, /*fitted=*/!draft);
    AddCheck(kAutoDraftTokens, /*fitted=*/false);
  }

  // What the measurements so far speak for.
  void Choose() {
    profile_.prefill_chunk = 0;
    double best = 0;
    for (const PrefillMeasurement& p : profile_.prefill) {
      if (best == 0 || p.us_per_token.median < best) best = p.us_per_token.median;
    }
    for (const PrefillMeasurement& p : profile_.prefill) {  // by ascending size
      if (p.us_per_token.median > best * (1 + kCloseEnough)) continue;
      profile_.prefill_chunk = p.chunk;
      break;
    }
    profile_.policies.clear();
    for (const RoundMeasurement& r : profile_.verify) {
      if (r.draft_tokens != kPolicyLength) continue;
      auto place = std::find_if(profile_.policies.begin(), profile_.policies.end(),
                                [&](const PolicyChoice& c) { return c.batch == r.batch; });
      const PolicyChoice choice = {.batch = r.batch, .policy = r.policy, .stride = r.stride};
      if (place == profile_.policies.end()) {
        profile_.policies.push_back(choice);
      } else if (r.us.median < TimeOf(*place)) {
        *place = choice;
      }
    }
  }

  double TimeOf(const PolicyChoice& choice) const {
    for (const RoundMeasurement& r : profile_.verify) {
      if (r.draft_tokens == kPolicyLength && r.batch == choice.batch &&
          r.policy == choice.policy && r.stride == choice.stride) {
        return r.us.median;
      }
    }
    return 0;
  }

  static constexpr int32_t kDefaultStride{16};

  const TuneOptions& options_;
  const bool gpu_;
  const Clock::time_point start_;
  TuningProfile profile_;
  std::vector<Step> steps_;
  std::unique_ptr<RoundTimer> timer_;
  std::string timer_key_;
  int32_t too_large_ = 1 << 30;  // batches from here on do not fit
};

}  // namespace

absl::StatusOr<TuningProfile> Tune(const TuneOptions& options) {
  if (options.model == nullptr) return absl::InvalidArgumentError("no model given");
  return Tuner(options).Run();
}

}  // namespace sidewinder
