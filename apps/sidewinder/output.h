// Where results go. Standard output is buffered, with every failure reported (a full disk, a closed
// pipe).
#ifndef SIDEWINDER_APPS_SIDEWINDER_OUTPUT_H_
#define SIDEWINDER_APPS_SIDEWINDER_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace sidewinder::cli {

using OrderedJson = nlohmann::ordered_json;

class Output {
 public:
  // Unavailable says why the text could not be written.
  absl::Status Write(absl::string_view text);
  absl::Status Flush();

 private:
  std::string buffer_;
};

// Writes all of it at once.
absl::Status PrintText(absl::string_view text);

// One line, or indented if `indent` >= 0. Bytes that are not UTF-8 are replaced.
absl::Status PrintJson(const OrderedJson& json, int indent = -1);
std::string DumpJson(const OrderedJson& json, int indent = -1);

// A result file is renamed into place, which must not happen to a device or a folder:
// InvalidArgument names the flag and the path.
absl::Status CheckReplaceable(const std::string& flag, const std::string& path);

enum class ColorMode { kAuto, kAlways, kNever };

// Whether text on stdout is coloured. kAuto: on a terminal, unless NO_COLOR is set or TERM is
// "dumb".
bool UseColor(ColorMode mode);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_OUTPUT_H_
