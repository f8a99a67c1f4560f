// All drafters, by kind.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_
#define SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/state_store.h"
#include "sidewinder/engine.h"
#include "speculative/drafter.h"

namespace sidewinder {

// The drafter that `options` ask for. `state` carries the checkpoint policy; a draft model with
// another vocabulary than the verifier's keeps checkpoint and log in any case. InvalidArgument if
// such a pair lacks a tokenizer, or an option is out of range.
absl::StatusOr<std::unique_ptr<Drafter>> CreateDrafter(const EngineOptions& options,
                                                       const StateStoreOptions& state,
                                                       int32_t max_draft);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTER_REGISTRY_H_
