// JSON with the quirks of model folders: bare NaN, Infinity and -Infinity (Python's json writes
// them) are read as the strings "NaN", "Infinity" and "-Infinity". Depth is limited, so hostile
// files cannot exhaust the stack. Nothing here throws.
#ifndef SIDEWINDER_RUNTIME_JSON_H_
#define SIDEWINDER_RUNTIME_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace sidewinder {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth{64};

// What a key that occurs twice in one object means. Python's json and most others let the last one
// win; where two readers could disagree about a file, it is better refused.
enum class DuplicateKeys : uint8_t { kLastWins, kReject };

// InvalidArgument with `name`, the byte offset and the reason.
absl::StatusOr<Json> ParseJson(absl::string_view text, const std::string& name,
                               DuplicateKeys duplicates = DuplicateKeys::kLastWins);

// `value` as JSON for error messages: one line, cut to a few dozen characters.
std::string ShortDump(const Json& value);

// Reads typed members of one object and names file and field in every error. A member that is
// absent or null counts as missing.
class JsonReader {
 public:
  // `object` must outlive the reader. `name` is the file, perhaps followed by a path into it.
  JsonReader(const Json& object, std::string name) : object_(object), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  bool Has(const char* key) const;
  const Json* Find(const char* key) const;  // null if missing
  bool IsNull(const char* key) const;       // the member is there, and null

  // Required members: InvalidArgument if missing, of the wrong type or out of [min, max].
  absl::StatusOr<int64_t> Int(const char* key, int64_t min, int64_t max) const;
  absl::StatusOr<double> Float(const char* key) const;  // accepts the spellings of infinity
  absl::StatusOr<bool> Bool(const char* key) const;
  absl::StatusOr<std::string> String(const char* key) const;

  // Optional members: the fallback if missing.
  absl::StatusOr<int64_t> Int(const char* key, int64_t min, int64_t max, int64_t fallback) const;
  absl::StatusOr<double> Float(const char* key, double fallback) const;
  absl::StatusOr<bool> Bool(const char* key, bool fallback) const;
  absl::StatusOr<std::string> String(const char* key, const std::string& fallback) const;

 private:
  const Json& object_;
  std::string name_;
};

// A number, or one of the spellings of a non-finite one: "Infinity" or {"__float__": "Infinity"}.
absl::StatusOr<double> JsonToFloat(const Json& value, const std::string& name);

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_JSON_H_
