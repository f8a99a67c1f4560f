#include "apps/sidewinder/bench/sweep.h"

#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr int32_t kMaxBatch{1024};
constexpr float kMaxTemperature{1e4f};
constexpr float kMinTemperature{1e-4f};

template <class T, class ParseOne>
absl::StatusOr<std::vector<T>> ParseList(const std::string& text, const ParseOne& parse) {
  std::vector<T> list;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    SW_ASSIGN_OR_RETURN(T value, parse(std::string(item)));
    if (!absl::c_linear_search(list, value)) list.push_back(std::move(value));
  }
  return list;
}

absl::Status Illegal(const char* flag, const std::string& item, const std::string& legal) {
  return UsageError(absl::StrCat(flag, ": '", item, "' is not ", legal));
}

auto IntegerBetween(const char* flag, int32_t min, int32_t max) {
  return [=](const std::string& item) -> absl::StatusOr<int32_t> {
    int32_t value = 0;
    if (absl::SimpleAtoi(item, &value) && value >= min && value <= max) return value;
    return Illegal(flag, item, absl::StrCat("an integer from ", min, " to ", max));
  };
}

absl::StatusOr<float> ParseTemperature(const std::string& item) {
  float value = 0;
  if (absl::SimpleAtof(item, &value) &&
      (value == 0 || (value >= kMinTemperature && value <= kMaxTemperature))) {
    return value;
  }
  return Illegal(
      "--temperature", item,
      absl::StrCat("0 (greedy) or a number from ", kMinTemperature, " to ", kMaxTemperature));
}

absl::StatusOr<CheckpointPolicy> ParsePolicy(const std::string& item) {
  std::vector<std::string> names;
  for (const CheckpointPolicy policy :
       {CheckpointPolicy::kEveryRound, CheckpointPolicy::kWhenLogFull,
        CheckpointPolicy::kSnapshotPerToken}) {
    names.push_back(Name(policy));
    if (item == names.back()) return policy;
  }
  return Illegal("--checkpoint-policy", item, absl::StrCat("one of ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<std::string> ParseDraft(const std::string& item) {
  if (item.empty()) return Illegal("--draft", item, "a folder, synthetic:<preset>, ngram or none");
  return item;
}

}  // namespace

absl::StatusOr<Sweep> ParseSweep(const SweepFlags& flags) {
  Sweep sweep;
  SW_ASSIGN_OR_RETURN(sweep.drafts, ParseList<std::string>(flags.draft, ParseDraft));
  std::erase(sweep.drafts, "none");
  SW_ASSIGN_OR_RETURN(sweep.draft_tokens, ParseList<int32_t>(flags.draft_tokens, ParseDraftTokens));
  std::erase(sweep.draft_tokens, 0);
  SW_ASSIGN_OR_RETURN(const auto batches,
                      ParseList<int32_t>(flags.batch, IntegerBetween("--batch", 1, kMaxBatch)));
  SW_ASSIGN_OR_RETURN(const auto temperatures,
                      ParseList<float>(flags.temperature, ParseTemperature));
  SW_ASSIGN_OR_RETURN(
      const auto contexts,
      ParseList<int32_t>(flags.context, IntegerBetween("--context", 0, kMaxMadeUpIds)));
  SW_ASSIGN_OR_RETURN(const auto policies,
                      ParseList<CheckpointPolicy>(flags.checkpoint_policy, ParsePolicy));
  for (const int32_t batch : batches) {
    for (const float temperature : temperatures) {
      for (const int32_t context : contexts) {
        for (const CheckpointPolicy policy : policies) {
          sweep.settings.push_back({batch, temperature, context, policy});
        }
      }
    }
  }
  sweep.varies_batch = batches.size() > 1;
  sweep.varies_temperature = temperatures.size() > 1;
  sweep.varies_context = contexts.size() > 1;
  sweep.varies_checkpoint_policy = policies.size() > 1;
  return sweep;
}

std::string SettingText(const Sweep& sweep, const Setting& setting) {
  std::vector<std::string> parts;
  if (sweep.varies_batch) parts.push_back(absl::StrCat("batch ", setting.batch));
  if (sweep.varies_temperature) {
    parts.push_back(absl::StrFormat("temperature %g", setting.temperature));
  }
  if (sweep.varies_context) {
    parts.push_back(setting.context == 0 ? "context as it is"
                                         : absl::StrCat("context ", setting.context));
  }
  if (sweep.varies_checkpoint_policy) parts.push_back(Name(setting.checkpoint_policy));
  return absl::StrJoin(parts, ", ");
}

}  // namespace sidewinder::cli
