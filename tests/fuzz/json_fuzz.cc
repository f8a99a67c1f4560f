// Any text: an error, or a value that is written and read back as itself.
#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/json.h"
#include "runtime/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sidewinder::DuplicateKeys;
  using sidewinder::Json;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto lax = sidewinder::ParseJson(text, "fuzz");
  const auto strict = sidewinder::ParseJson(text, "fuzz", DuplicateKeys::kReject);
  if (!lax.ok()) {
    SW_CHECK(!strict.ok()) << "stricter reading accepts more";
    SW_CHECK(lax.status().message().find("fuzz") != absl::string_view::npos);
    return 0;
  }
  SW_CHECK(!strict.ok() || *strict == *lax);
  const std::string dumped = lax->dump();
  const auto again = sidewinder::ParseJson(dumped, "again", DuplicateKeys::kReject);
  SW_CHECK(again.ok() && again->dump() == dumped) << dumped;
  (void)sidewinder::ShortDump(*lax);
  (void)sidewinder::JsonToFloat(*lax, "fuzz");
  const sidewinder::JsonReader reader(*lax, "fuzz");
  if (lax->is_object()) {
    for (const auto& [key, value] : lax->items()) {
      const auto number = reader.Int(key.c_str(), -5, 1000);
      SW_CHECK(!number.ok() || (*number >= -5 && *number <= 1000));
      (void)reader.Float(key.c_str());
      (void)reader.Bool(key.c_str(), true);
      (void)reader.String(key.c_str(), "");
    }
  }
  return 0;
}
