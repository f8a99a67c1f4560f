#include "apps/sidewinder/synthetic_acceptance.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {
namespace {

constexpr char kLength[]{"length:"};

absl::Status Illegal(absl::string_view text) {
  return UsageError(absl::StrCat("'", text, "' is not a number in [0, 1], up to ", kMaxDraftTokens,
                                 " of them as in 0.9,0.8,0.7, or length:L with L from 1 to ",
                                 kMaxDraftTokens + 1));
}

// Written so that NaN is refused.
bool ParseNumber(absl::string_view text, double min, double max, double* value) {
  return absl::SimpleAtod(text, value) && *value >= min && *value <= max;
}

}  // namespace

absl::StatusOr<SyntheticAcceptance> SyntheticAcceptance::Parse(const std::string& text) {
  SyntheticAcceptance result;
  if (text.empty()) return result;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, kLength)) {
    if (!ParseNumber(rest, 1, kMaxDraftTokens + 1, &result.mean_length_)) return Illegal(text);
    return result;
  }
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    if (!ParseNumber(item, 0, 1, &result.rates_.emplace_back())) return Illegal(item);
  }
  if (result.rates_.size() > kMaxDraftTokens) return Illegal(text);
  return result;
}

absl::StatusOr<std::vector<double>> SyntheticAcceptance::Rates(int32_t draft_tokens) const {
  if (mean_length_ <= 0 || draft_tokens == 0) return rates_;
  if (draft_tokens == kAutoDraftTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--synthetic-acceptance ", ToString(),
                     " needs a fixed number of --draft-tokens; auto has no one mean length"));
  }
  if (mean_length_ > draft_tokens + 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--synthetic-acceptance %s: with %d draft tokens a round commits at most %d tokens",
        ToString(), draft_tokens, draft_tokens + 1));
  }
  return std::vector<double>{AcceptanceForLength(mean_length_, draft_tokens)};
}

OrderedJson SyntheticAcceptance::ToJson() const {
  if (!on()) return nullptr;
  if (mean_length_ > 0) return ToString();
  return rates_.size() == 1 ? OrderedJson(rates_.front()) : OrderedJson(rates_);
}

std::string SyntheticAcceptance::ToString() const {
  if (mean_length_ > 0) return absl::StrFormat("%s%g", kLength, mean_length_);
  return absl::StrJoin(
      rates_, ",", [](std::string* out, double rate) { absl::StrAppendFormat(out, "%g", rate); });
}

std::string SyntheticAcceptance::Warning() const {
  if (!on()) return "";
  const std::string how =
      mean_length_ > 0 ? absl::StrFormat("by lot, %g tokens a round on average", mean_length_)
      : rates_.size() == 1
          ? absl::StrFormat("with probability %g", rates_.front())
          : absl::StrCat("by lot, with probabilities ", ToString(), " by position");
  return absl::StrCat("SYNTHETIC ACCEPTANCE: every proposal is accepted ", how,
                      " whatever the verifier says; this shows speed alone, the text is "
                      "meaningless\n");
}

double MeanAcceptanceLength(double probability, int32_t draft_tokens) {
  double length = 1;
  double power = 1;
  for (int32_t k = 0; k < draft_tokens; ++k) length += power *= probability;
  return length;
}

double AcceptanceForLength(double length, int32_t draft_tokens) {
  constexpr int kHalvings{60};  // beyond the precision of a double
  double low = 0;
  double high = 1;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (MeanAcceptanceLength(middle, draft_tokens) < length ? low : high) = middle;
  }
  return high;
}

}  // namespace sidewinder::cli
