// Any bytes as a state file: an error that names the file, or a text and a state of the right size.
#include <cstddef>
#include <cstdint>

#include "runtime/status_macros.h"
#include "speculative/state_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kFingerprint{0x0102030405060708};
  const auto state_bytes = [](int64_t consumed) { return 8 + 4 * (consumed / 2); };
  const auto saved = sidewinder::ParseStateFile({reinterpret_cast<const char*>(data), size}, "fuzz",
                                                kFingerprint, state_bytes);
  if (saved.ok()) {
    SW_CHECK(!saved->tokens.empty() &&
             saved->state.size() == static_cast<size_t>(state_bytes(saved->tokens.size() - 1)));
  } else {
    SW_CHECK(saved.status().message().find("fuzz") != absl::string_view::npos) << saved.status();
  }
  return 0;
}
