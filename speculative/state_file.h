// The file that Engine::SaveState writes: a text and the verifier's recurrent state after it.
//
//   magic "SWSTATE\0", version (u32), model fingerprint (u64), number of tokens (u64), bytes of
//   state (u64), tokens (i32 each), state (StateStore::ExportSlot), XXH3 of all before (u64).
//   Little-endian.
#ifndef SIDEWINDER_SPECULATIVE_STATE_FILE_H_
#define SIDEWINDER_SPECULATIVE_STATE_FILE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sidewinder {

inline constexpr uint32_t kStateFileVersion{1};

struct SavedState {
  uint64_t fingerprint = 0;
  std::vector<int32_t> tokens;  // the state has consumed all but the last
  std::string state;
};

// Writes beside `path` and renames, so that the file is whole or not there.
absl::Status WriteStateFile(const std::string& path, const SavedState& saved);

// InvalidArgument names the file and what is wrong; `state_bytes(consumed)` is what the model's
// state has after so many positions, `fingerprint` the model's: a file of another model is refused.
absl::StatusOr<SavedState> ReadStateFile(const std::string& path, uint64_t fingerprint,
                                         const std::function<int64_t(int64_t)>& state_bytes);

// The same from the file's bytes; `name` stands for the file in error messages.
absl::StatusOr<SavedState> ParseStateFile(absl::string_view bytes, const std::string& name,
                                          uint64_t fingerprint,
                                          const std::function<int64_t(int64_t)>& state_bytes);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_STATE_FILE_H_
