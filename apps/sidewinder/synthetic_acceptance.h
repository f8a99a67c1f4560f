// --synthetic-acceptance: proposals accepted by lot, to measure speed where no trained pair is at
// hand. Whatever is measured with it says so.
#ifndef SIDEWINDER_APPS_SIDEWINDER_SYNTHETIC_ACCEPTANCE_H_
#define SIDEWINDER_APPS_SIDEWINDER_SYNTHETIC_ACCEPTANCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/sidewinder/output.h"

namespace sidewinder::cli {

class SyntheticAcceptance {
 public:
  SyntheticAcceptance() = default;  // off

  // "0.8": every proposal with this probability; "0.9,0.8,0.7": by position, the last one for those
  // behind, too; "length:3.2": so that a round commits this many tokens on average. A usage error
  // says what is legal; "" is off.
  static absl::StatusOr<SyntheticAcceptance> Parse(const std::string& text);

  bool on() const { return mean_length_ > 0 || !rates_.empty(); }

  // As EngineOptions takes them, for an engine with so many draft tokens. InvalidArgument: that
  // number cannot reach the mean length asked for, or is auto.
  absl::StatusOr<std::vector<double>> Rates(int32_t draft_tokens) const;

  // A number, a list, "length:3.2" or null.
  OrderedJson ToJson() const;
  // The same for a cell of a table; "" if off.
  std::string ToString() const;
  // The line that must stand beside figures, with its line break; "" if off.
  std::string Warning() const;

 private:
  std::vector<double> rates_;
  double mean_length_ = 0;
};

// Tokens a round commits on average: 1 + p + ... + p^K, K = draft_tokens, if every proposal is
// accepted with probability p once those ahead of it are.
double MeanAcceptanceLength(double probability, int32_t draft_tokens);

// The reverse; `length` is clamped to what is possible, 1 to K + 1.
double AcceptanceForLength(double length, int32_t draft_tokens);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_SYNTHETIC_ACCEPTANCE_H_
