// Names of checkpoint policies in profiles, and where a cost model comes from. The rest of profiles
// is in sidewinder/tuning.h.
#ifndef SIDEWINDER_SPECULATIVE_TUNING_PROFILE_H_
#define SIDEWINDER_SPECULATIVE_TUNING_PROFILE_H_

#include <string>

#include "sidewinder/tuning.h"

namespace sidewinder {

// "every-round", "when-full", "snapshot", as on the command line.
const char* Name(CheckpointPolicy policy);

// The same as FindCostModel if no profile was given and none fits.
RoundCostModel BuiltInCostModel(const Model& model, const Model* draft, double cost_per_proposal);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_TUNING_PROFILE_H_
