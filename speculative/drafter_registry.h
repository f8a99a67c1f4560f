// All drafters, by kind.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_
#define SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/state_store.h"
#include "sidewinder/engine.h"
#include "speculative/drafter.h"

namespace sidewinder {

// The drafter that `options` ask for. `state` carries the checkpoint policy. InvalidArgument if a
// draft model's vocabulary differs from the verifier's, or an option is out of range.
absl::StatusOr<std::unique_ptr<Drafter>> CreateDrafter(const EngineOptions& options,
                                                       const StateStoreOptions& state,
                                                       int32_t max_draft);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_
