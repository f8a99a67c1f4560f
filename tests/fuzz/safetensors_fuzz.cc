// Any bytes as a safetensors file: an error that names the file, or entries that lie inside of it,
// one after the other, and cover it.
#include <cstddef>
#include <cstdint>

#include "runtime/safetensors.h"
#include "runtime/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto header =
      sidewinder::ParseSafetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!header.ok()) {
    SW_CHECK(header.status().message().find("fuzz") != absl::string_view::npos) << header.status();
    return 0;
  }
  size_t end = header->entries.empty() ? size : header->entries.front().offset;
  for (const sidewinder::SafetensorsEntry& entry : header->entries) {
    SW_CHECK(entry.offset == end && entry.size <= size - end) << entry.name;
    end += entry.size;
    SW_CHECK(!entry.dtype || entry.size % SizeOf(*entry.dtype) == 0) << entry.name;
    unsigned sum = 0;  // touches every byte under the sanitizer
    for (size_t i = 0; i < entry.size; ++i) sum += data[entry.offset + i];
    volatile unsigned sink = sum;
    (void)sink;
  }
  SW_CHECK(end == size);
  return 0;
}
