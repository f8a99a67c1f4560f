#include "apps/sidewinder/tune_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/stats_json.h"

namespace sidewinder::cli {
namespace {

std::string Times(const MeasuredTime& us) {
  return absl::StrFormat("%9.1f us (%.1f to %.1f)", us.median, us.low, us.high);
}

std::string LengthText(int32_t draft_tokens) {
  return draft_tokens == kAutoDraftTokens ? "auto" : absl::StrCat(draft_tokens);
}

}  // namespace

std::string PolicyText(CheckpointPolicy policy, int32_t stride) {
  switch (policy) {
    case CheckpointPolicy::kEveryRound:
      return "every-round";
    case CheckpointPolicy::kWhenLogFull:
      return absl::StrCat("when-full, stride ", stride);
    case CheckpointPolicy::kSnapshotPerToken:
      return "snapshot";
  }
  return "unknown";
}

std::string TuneTable(const TuningProfile& p) {
  std::string text;
  const auto row = [&text](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-14s %s\n", name, value);
  };
  row("device",
      absl::StrCat(p.device, p.threads > 0 ? absl::StrCat(", ", p.threads, " threads") : "",
                   p.driver.empty() ? "" : absl::StrCat(", driver ", p.driver)));
  row("model", absl::StrCat(p.model_path, ": ", p.model.Text()));
  if (p.draft) row("draft", absl::StrCat(p.draft_path, ": ", p.draft->Text()));
  if (!p.complete) row("incomplete", "measuring ended early; --resume goes on");
  row("bandwidth", absl::StrFormat("%.1f GB/s over the weights", p.read_bytes_per_second / 1e9));
  row("launch", Times(p.launch_us));
  if (p.prefill_chunk > 0) row("prefill chunk", absl::StrCat(p.prefill_chunk));
  for (const PolicyChoice& choice : p.policies) {
    row("policy", absl::StrFormat("%s at %d sequences", PolicyText(choice.policy, choice.stride),
                                  choice.batch));
  }
  if (p.verify.empty()) return text;
  const RoundCostModel model = CostModelOf(p, CheckpointPolicy::kEveryRound, 16);
  const RoundTimes& one = model.At(1);
  absl::StrAppendFormat(&text, "\n%5s %12s %12s %11s", "draft", "verify us", "round us",
                        "break-even");
  for (const double rate : kReportedRates) absl::StrAppendFormat(&text, " %7.1f", rate);
  text += "  speed-up if so many are accepted\n";
  for (int32_t k = 0; k <= kReportedLengths; ++k) {
    const std::optional<double> even = model.BreakEven(1, k);
    absl::StrAppendFormat(&text, "%5d %12.1f %12.1f %11s", k, one.verify_us[k], one.round_us[k],
                          k == 0 ? "-"
                          : even ? absl::StrFormat("%.1f %%", 100 * *even)
                                 : "never");
    for (const double rate : kReportedRates) {
      absl::StrAppendFormat(&text, " %7.2f", model.SpeedUp(1, {rate}, k));
    }
    text += "\n";
  }
  for (const PredictionCheck& check : p.checks) {
    absl::StrAppendFormat(
        &text, "%scheck: K = %s at %g%s: predicted %.1f us a token, measured %.1f (%+.1f %%)\n",
        &check == &p.checks.front() ? "\n" : "", LengthText(check.draft_tokens), check.acceptance,
        check.fitted ? "" : ", not fitted", check.predicted_us, check.measured_us.median,
        100 * (check.predicted_us / check.measured_us.median - 1));
  }
  return text;
}

}  // namespace sidewinder::cli
