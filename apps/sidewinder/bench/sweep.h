// What a benchmark varies: lists of values, and every combination of them.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_SWEEP_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_SWEEP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {

// What plain and speculative decoding have in common. Each setting has a plain run of its own.
struct Setting {
  int32_t batch = 1;
  float temperature = 0;
  int32_t context = 0;  // prompts are padded to this many tokens; 0: as they are
  CheckpointPolicy checkpoint_policy = CheckpointPolicy::kEveryRound;
};

// The flags, as given: values separated by commas.
struct SweepFlags {
  std::string draft = "none";
  std::string draft_tokens = "1,2,3,4";
  std::string batch = "1";
  std::string temperature = "0";
  std::string context = "0";
  std::string checkpoint_policy = "every-round";
};

struct Sweep {
  std::vector<std::string> drafts;    // without "none": plain decoding always runs
  std::vector<int32_t> draft_tokens;  // likewise without 0
  std::vector<Setting> settings;      // every combination, the last flag varying fastest

  bool varies_batch = false;
  bool varies_temperature = false;
  bool varies_context = false;
  bool varies_checkpoint_policy = false;
};

// Values that are given twice count once. A usage error names the flag, the value and what is
// legal.
absl::StatusOr<Sweep> ParseSweep(const SweepFlags& flags);

// "batch 4, temperature 0.7": what tells a setting from the others; "" if nothing does.
std::string SettingText(const Sweep& sweep, const Setting& setting);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_SWEEP_H_
