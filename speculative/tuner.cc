// Tune(): a list of measurements, what matters most first. Each has a place in the profile; one
// whose place is taken is left out, which is all there is to resuming.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"
#include "sidewinder/tuning.h"
#include "speculative/cost_model.h"
#include "speculative/round_timer.h"
#include "speculative/tuning_profile.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

// Half-way between what small and good drafts reach: rounds replay as many rows as they usually do.
constexpr double kUsualAcceptance{0.8};

constexpr int32_t kCheckedLength{5};
constexpr int32_t kBatches[]{4, 16, 32};
constexpr int32_t kStrides[]{8, 16, 32};
constexpr int32_t kPolicyLength{4};  // proposals with which policies are compared
constexpr int32_t kReplayLengths[]{2, 4, 7};
constexpr int32_t kCpuChunks[]{16, 32, 64, 128, 256};
constexpr int32_t kGpuChunks[]{64, 128, 256, 512, 1024};
constexpr double kCloseEnough{0.02};  // a smaller chunk within this needs less memory
constexpr double kWorthwhile{0.03};   // what another policy than replaying every round must gain

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

// Rounds that are measured in turn, so that what moves the machine moves all of them.
struct Series {
  bool draft;
  int32_t max_draft;
  std::vector<int32_t> lengths;
  std::vector<int32_t> held_out;  // predicted from the others and only checked

  std::vector<int32_t> All() const {
    std::vector<int32_t> all = lengths;
    all.insert(all.end(), held_out.begin(), held_out.end());
    return all;
  }
};

struct Step {
  std::string what;
  double weight = 1;  // share of the time
  std::function<bool(TuningProfile&)> has;
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
      double weights = 0;
      for (size_t i = done - 1; i < steps_.size(); ++i) weights += steps_[i].weight;
      // Half of it for what is not measuring: memory, recording, prompts.
      SW_RETURN_IF_ERROR(step.measure(0.5 * left * step.weight / weights));
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
  struct Times {
    std::vector<double> round_us, token_us;
  };

  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

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

  absl::StatusOr<std::unique_ptr<RoundTimer>> Timer(bool draft, int32_t batch,
                                                    CheckpointPolicy policy, int32_t stride,
                                                    int32_t max_draft) const {
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
    return RoundTimer::Create(options);
  }

  static RoundMeasurement* Find(std::vector<RoundMeasurement>& list, const RoundMeasurement& like) {
    const auto it = std::find_if(list.begin(), list.end(), [&](const RoundMeasurement& r) {
      return r.batch == like.batch && r.policy == like.policy && r.stride == like.stride &&
             r.draft_tokens == like.draft_tokens;
    });
    return it == list.end() ? nullptr : &*it;
  }

  // Rounds of a batch and policy; all of the series or none.
  void AddRounds(int32_t batch, CheckpointPolicy policy, int32_t stride,
                 const std::vector<Series>& series) {
    const auto place = [=](int32_t length) {
      return RoundMeasurement{
          .batch = batch, .policy = policy, .stride = stride, .draft_tokens = length};
    };
    double weight = 0;
    for (const Series& one : series) weight += static_cast<double>(one.lengths.size());
    steps_.push_back({.what = absl::StrFormat("rounds of %d, %s", batch, Name(policy)),
                      .weight = weight,
                      .has =
                          [=, this](TuningProfile& profile) {
                            for (const Series& one : series) {
                              auto& list = one.draft ? profile.rounds : profile.verify;
                              for (const int32_t k : one.lengths) {
                                if (Find(list, place(k)) == nullptr) return batch >= too_large_;
                              }
                            }
                            return true;
                          },
                      .measure =
                          [=, this](double seconds) {
                            const absl::Status measured = MeasureRounds(place(0), series, seconds);
                            if (!absl::IsResourceExhausted(measured) || batch == 1) return measured;
                            // Snapshots take more than the others: they do not speak for a batch.
                            if (policy == CheckpointPolicy::kEveryRound)
                              too_large_ = std::min(too_large_, batch);
                            return absl::OkStatus();
                          }});
  }

  absl::Status MeasureRounds(const RoundMeasurement& like, const std::vector<Series>& series,
                             double seconds) {
    std::vector<std::unique_ptr<RoundTimer>> timers;
    for (const Series& one : series) {
      SW_ASSIGN_OR_RETURN(timers.emplace_back(),
                          Timer(one.draft, like.batch, like.policy, like.stride, one.max_draft));
    }
    std::vector<std::map<int32_t, Times>> times(series.size());
    const double start = Seconds();
    for (int32_t turn = 0; turn < kMaxSamples; ++turn) {
      if (turn >= kMinSamples && Seconds() - start > seconds) break;
      for (size_t i = 0; i < series.size(); ++i) {
        const std::vector<int32_t> lengths = series[i].All();
        SW_ASSIGN_OR_RETURN(const std::vector<RoundTimer::Sample> one_each,
                            timers[i]->InTurn(lengths, kUsualAcceptance));
        for (size_t k = 0; k < lengths.size(); ++k) {
          times[i][lengths[k]].round_us.push_back(one_each[k].round_us);
          times[i][lengths[k]].token_us.push_back(one_each[k].token_us);
        }
      }
    }
    for (size_t i = 0; i < series.size(); ++i) {
      for (const int32_t k : series[i].lengths) {
        RoundMeasurement measured = like;
        measured.draft_tokens = k;
        measured.us = MeasuredTimeOf(times[i][k].round_us);
        Store(series[i].draft ? profile_.rounds : profile_.verify, measured);
      }
    }
    for (size_t i = 0; i < series.size(); ++i) {
      if (series[i].held_out.empty()) continue;
      Check(kPolicyLength, /*fitted=*/true, times[i][kPolicyLength]);
      for (const int32_t k : series[i].held_out) Check(k, /*fitted=*/false, times[i][k]);
    }
    return absl::OkStatus();
  }

  static void Store(std::vector<RoundMeasurement>& list, const RoundMeasurement& measured) {
    RoundMeasurement* const old = Find(list, measured);
    if (old == nullptr) {
      list.push_back(measured);
    } else {
      *old = measured;
    }
  }

  // A fixed length is predicted at the tokens a round that its lots gave: some dozen rounds are far
  // from their expectation, and luck is not what the model is checked for. Auto, whose lengths
  // follow the lots, is compared with what the best length would be expected to take.
  void Check(int32_t draft_tokens, bool fitted, const Times& times) {
    const RoundCostModel model =
        CostModelOf(profile_, CheckpointPolicy::kEveryRound, kDefaultStride);
    const std::vector<double> rates = {kUsualAcceptance};
    int32_t length = draft_tokens;
    double tokens_a_round = 0;
    if (draft_tokens == kAutoDraftTokens) {
      length = model.BestDraftTokens(1, rates, kAutoMaxDraft);
      tokens_a_round = RoundCostModel::ExpectedTokens(rates, length);
    } else {
      std::vector<double> tokens;
      for (size_t i = 0; i < times.round_us.size(); ++i) {
        tokens.push_back(times.round_us[i] / times.token_us[i]);
      }
      tokens_a_round = MeasuredTimeOf(tokens).median;
    }
    profile_.checks.push_back({.batch = 1,
                               .draft_tokens = draft_tokens,
                               .acceptance = kUsualAcceptance,
                               .fitted = fitted,
                               .predicted_us = model.At(1).round_us[length] / tokens_a_round,
                               .measured_us = MeasuredTimeOf(times.token_us)});
  }

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
                            SW_ASSIGN_OR_RETURN(
                                const LaunchCosts costs,
                                MeasureLaunchCosts(options_.model->device(), options_.num_threads));
                            profile_.launch_us = costs.op_us;
                            profile_.empty_round_us = costs.empty_round_us;
                            return absl::OkStatus();
                          }});
  }

  void AddPolicies(int32_t batch) {
    const std::vector<Series> series = {
        {.draft = false, .max_draft = kAutoMaxDraft, .lengths = {kPolicyLength}}};
    for (const int32_t stride : kStrides) {
      AddRounds(batch, CheckpointPolicy::kWhenLogFull, stride, series);
    }
    AddRounds(batch, CheckpointPolicy::kSnapshotPerToken, kDefaultStride, series);
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
               RoundTimerOptions options;
               options.model = options_.model;
               options.num_threads = options_.num_threads;
               options.max_draft = 0;
               options.prefill_chunk = chunk;
               SW_ASSIGN_OR_RETURN(const auto timer, RoundTimer::Create(options));
               SW_ASSIGN_OR_RETURN(const MeasuredTime us,
                                   timer->Prefill(gpu_ ? kGpuChunks[std::size(kGpuChunks) - 1]
                                                       : kCpuChunks[std::size(kCpuChunks) - 1],
                                                  seconds));
               profile_.prefill.push_back({.chunk = chunk, .us_per_token = us});
               return absl::OkStatus();
             }});
  }

  void AddReplay(int32_t draft_tokens, bool all) {
    const ReplayMeasurement place = {.draft_tokens = draft_tokens, .rows = all ? draft_tokens : 0};
    steps_.push_back(
        {.what = absl::StrFormat("replay of %d rows", place.rows),
         .has =
             [place](const TuningProfile& profile) {
               return std::any_of(
                   profile.replay.begin(), profile.replay.end(), [&](const ReplayMeasurement& r) {
                     return r.draft_tokens == place.draft_tokens && r.rows == place.rows;
                   });
             },
         .measure =
             [=, this](double seconds) {
               SW_ASSIGN_OR_RETURN(
                   const std::unique_ptr<RoundTimer> timer,
                   Timer(false, 1, CheckpointPolicy::kEveryRound, kDefaultStride, kAutoMaxDraft));
               SW_ASSIGN_OR_RETURN(const RoundTimer::Result result,
                                   timer->Rounds(draft_tokens, all ? 1.0 : 0.0, seconds));
               ReplayMeasurement measured = place;
               measured.us = result.round_us;
               profile_.replay.push_back(measured);
               return absl::OkStatus();
             }});
  }

  void AddCheckOfAuto() {
    steps_.push_back({.what = "check of auto",
                      .weight = 3,  // lots scatter more than times do
                      .has =
                          [](const TuningProfile& profile) {
                            return std::any_of(profile.checks.begin(), profile.checks.end(),
                                               [&](const PredictionCheck& check) {
                                                 return check.draft_tokens == kAutoDraftTokens;
                                               });
                          },
                      .measure =
                          [this](double seconds) {
                            SW_ASSIGN_OR_RETURN(
                                const std::unique_ptr<RoundTimer> timer,
                                Timer(options_.draft != nullptr, 1, CheckpointPolicy::kEveryRound,
                                      kDefaultStride, kAutoMaxDraft));
                            Times times;
                            const double start = Seconds();
                            for (int32_t turn = 0; turn < kMaxSamples; ++turn) {
                              if (turn >= kMinSamples && Seconds() - start > seconds) break;
                              SW_ASSIGN_OR_RETURN(const std::vector<RoundTimer::Sample> samples,
                                                  timer->InTurn({kAutoDraft}, kUsualAcceptance));
                              times.round_us.push_back(samples.front().round_us);
                              times.token_us.push_back(samples.front().token_us);
                            }
                            Check(kAutoDraftTokens, /*fitted=*/false, times);
                            return absl::OkStatus();
                          }});
  }

  void ListSteps() {
    const bool draft = options_.draft != nullptr;
    // As wide as the passes of an engine that chooses by itself.
    std::vector<Series> alone = {
        {.draft = false, .max_draft = kAutoMaxDraft, .lengths = {0, 1, 2, 3, 4, 5, 6, 7}}};
    std::vector<Series> batch = {
        {.draft = false, .max_draft = kAutoMaxDraft, .lengths = {0, 1, 2, 4, 7}}};
    if (draft) {
      alone.push_back({.draft = true,
                       .max_draft = kAutoMaxDraft,
                       .lengths = {0, 1, 2, 3, 4, 6, 7},
                       .held_out = {kCheckedLength}});
      batch.push_back({.draft = true, .max_draft = kAutoMaxDraft, .lengths = {0, 1, 2, 4, 7}});
    } else {
      alone.front().lengths = {0, 1, 2, 3, 4, 6, 7};
      alone.front().held_out = {kCheckedLength};
    }
    AddBandwidth();
    AddRounds(1, CheckpointPolicy::kEveryRound, kDefaultStride, alone);
    for (const int32_t b : kBatches) {
      AddRounds(b, CheckpointPolicy::kEveryRound, kDefaultStride, batch);
    }
    AddRounds(1, CheckpointPolicy::kEveryRound, kDefaultStride,
              {{.draft = false,
                .max_draft = kMaxDraftTokens,
                .lengths = {8, 9, 10, 11, 12, 13, 14, 15}}});
    AddPolicies(1);
    for (const int32_t b : kBatches) AddPolicies(b);
    for (const int32_t chunk : gpu_ ? kGpuChunks : kCpuChunks) AddPrefill(chunk);
    for (const int32_t k : kReplayLengths) {
      AddReplay(k, false);
      AddReplay(k, true);
    }
    AddCheckOfAuto();
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
      } else if (r.us.median < (1 - kWorthwhile) * TimeOf(*place)) {
        *place = choice;
      }
    }
  }

  double TimeOf(const PolicyChoice& choice) const {
    for (const RoundMeasurement& r : profile_.verify) {
      if (r.draft_tokens == kPolicyLength && r.batch == choice.batch && r.policy == choice.policy &&
          r.stride == choice.stride) {
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
  int32_t too_large_ = 1 << 30;  // batches from here on do not fit
};

}  // namespace

absl::StatusOr<TuningProfile> Tune(const TuneOptions& options) {
  if (options.model == nullptr) return absl::InvalidArgumentError("no model given");
  return Tuner(options).Run();
}

}  // namespace sidewinder
