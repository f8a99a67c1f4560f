// What a tuning profile says, for people.
#ifndef SIDEWINDER_APPS_SIDEWINDER_TUNE_TEXT_H_
#define SIDEWINDER_APPS_SIDEWINDER_TUNE_TEXT_H_

#include <string>

#include "sidewinder/tuning.h"

namespace sidewinder::cli {

// "every-round", "when-full, stride 16", "snapshot".
std::string PolicyText(CheckpointPolicy policy, int32_t stride);

// Largest acceptance rates of the tables, and the draft lengths of --draft-tokens auto.
inline constexpr double kReportedRates[]{0.5, 0.6, 0.7, 0.8, 0.9};
inline constexpr int32_t kReportedLengths{8};

// A page of tables.
std::string TuneTable(const TuningProfile& profile);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_TUNE_TEXT_H_
