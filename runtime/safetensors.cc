#include "runtime/safetensors.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr size_t kLengthBytes{8};
constexpr size_t kMaxRank{8};

struct StorageType {
  const char* name;
  size_t element_size;
  std::optional<DType> dtype;
};

constexpr StorageType kStorageTypes[] = {
    {"F32", 4, DType::kFloat32},     {"F16", 2, DType::kFloat16},  {"BF16", 2, DType::kBFloat16},
    {"F64", 8, std::nullopt},        {"I64", 8, std::nullopt},     {"I32", 4, std::nullopt},
    {"I16", 2, std::nullopt},        {"I8", 1, std::nullopt},      {"U64", 8, std::nullopt},
    {"U32", 4, std::nullopt},        {"U16", 2, std::nullopt},     {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},       {"C64", 8, std::nullopt},     {"F8_E4M3", 1, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},    {"F8_E8M0", 1, std::nullopt}, {"F8_E4M3FNUZ", 1, std::nullopt},
    {"F8_E5M2FNUZ", 1, std::nullopt}};

const StorageType* FindStorageType(const std::string& name) {
  for (const StorageType& type : kStorageTypes) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

std::string StorageTypeNames() {
  return absl::StrJoin(kStorageTypes, ", ", [](std::string* out, const StorageType& type) {
    absl::StrAppend(out, type.name);
  });
}

// `a * b`, or nothing if it does not fit in int64. Both are >= 0.
std::optional<int64_t> Product(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// An array of integers in [0, 2^63).
absl::StatusOr<std::vector<int64_t>> Sizes(const JsonReader& reader, const char* key) {
  const Json* value = reader.Find(key);
  if (value == nullptr || !value->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: \"%s\" is %s, not a list of integers", reader.name(), key,
                        value == nullptr ? "missing" : ShortDump(*value)));
  }
  std::vector<int64_t> sizes;
  for (const Json& item : *value) {
    const bool legal =
        item.is_number_unsigned() &&
        item.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (!legal) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: \"%s\" has the entry %s; legal are integers from 0 to %d", reader.name(), key,
          ShortDump(item), std::numeric_limits<int64_t>::max()));
    }
    sizes.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return sizes;
}

// `data_size` and the offsets in the header count from the end of the header, at `data_begin`.
absl::StatusOr<SafetensorsEntry> ParseEntry(const std::string& tensor, const Json& json,
                                            size_t data_begin, size_t data_size,
                                            const std::string& name) {
  const JsonReader reader(
      json, absl::StrFormat("%s: tensor \"%s\"", name, absl::Utf8SafeCEscape(tensor)));
  const auto error = [&reader](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": ", what));
  };
  if (!json.is_object()) return error(absl::StrCat("is ", ShortDump(json), ", not an object"));

  SafetensorsEntry entry;
  entry.name = tensor;
  SW_ASSIGN_OR_RETURN(entry.dtype_name, reader.String("dtype"));
  const StorageType* type = FindStorageType(entry.dtype_name);
  if (type == nullptr) {
    return error(absl::StrFormat("\"dtype\" is \"%s\"; legal are %s",
                                 absl::Utf8SafeCEscape(entry.dtype_name), StorageTypeNames()));
  }
  entry.dtype = type->dtype;

  SW_ASSIGN_OR_RETURN(entry.shape, Sizes(reader, "shape"));
  if (entry.shape.size() > kMaxRank) {
    return error(absl::StrFormat("\"shape\" has %d dimensions; legal are 0 to %d",
                                 entry.shape.size(), kMaxRank));
  }
  std::optional<int64_t> bytes = static_cast<int64_t>(type->element_size);
  for (int64_t dim : entry.shape) {
    // Multiplied in order, so [2^40, 2^40, 0] is refused although it holds nothing.
    bytes = Product(*bytes, dim);
    if (!bytes) {
      return error(absl::StrFormat("\"shape\" [%s] holds more than 2^63 bytes",
                                   absl::StrJoin(entry.shape, ", ")));
    }
  }

  SW_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, Sizes(reader, "data_offsets"));
  if (offsets.size() != 2) {
    return error(absl::StrFormat("\"data_offsets\" has %d entries; legal are 2", offsets.size()));
  }
  const int64_t begin = offsets[0];
  const int64_t end = offsets[1];
  if (begin > end || end > static_cast<int64_t>(data_size)) {
    return error(
        absl::StrFormat("\"data_offsets\" is [%d, %d]; legal are 0 <= begin <= end <= %d, the "
                        "bytes after the header",
                        begin, end, data_size));
  }
  if (end - begin != *bytes) {
    return error(absl::StrFormat("\"data_offsets\" [%d, %d] spans %d bytes, but %s [%s] takes %d",
                                 begin, end, end - begin, entry.dtype_name,
                                 absl::StrJoin(entry.shape, ", "), *bytes));
  }
  entry.offset = data_begin + static_cast<size_t>(begin);
  entry.size = static_cast<size_t>(*bytes);
  return entry;
}

absl::StatusOr<std::map<std::string, std::string>> ParseMetadata(const Json& json,
                                                                 const std::string& name) {
  std::map<std::string, std::string> metadata;
  if (json.is_null()) return metadata;
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: \"__metadata__\" is %s, not an object of strings", name, ShortDump(json)));
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"__metadata__\": \"%s\" is %s, not a string", name,
                          absl::Utf8SafeCEscape(key), ShortDump(value)));
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// The official reader refuses gaps and trailing bytes too: they could hide anything, and a file
// that was cut or padded shows itself here.
absl::Status CheckContiguous(const std::vector<SafetensorsEntry>& entries, size_t data_begin,
                             size_t file_size, const std::string& name) {
  size_t expected = data_begin;
  const std::string* previous = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != expected) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tensor \"%s\" begins at data offset %d, %s %d, where %s ends", name,
          absl::Utf8SafeCEscape(entry.name), entry.offset - data_begin,
          entry.offset < expected ? "overlapping what precedes" : "leaving a gap after",
          expected - data_begin,
          previous == nullptr ? "the header"
                              : absl::StrCat("tensor \"", absl::Utf8SafeCEscape(*previous), "\"")));
    }
    expected = entry.offset + entry.size;
    previous = &entry.name;
  }
  if (expected != file_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes follow the last tensor; the file must end there", name,
                        file_size - expected));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensors(absl::Span<const std::byte> file,
                                                   const std::string& name) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: not a safetensors file: %d bytes, the header length alone takes %d",
                        name, file.size(), kLengthBytes));
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= static_cast<uint64_t>(file[i]) << (8 * i);
  const uint64_t limit = std::min<uint64_t>(file.size() - kLengthBytes, kMaxSafetensorsHeaderBytes);
  if (length < 2 || length > limit) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: the header length is %d; legal are 2 to %d (file of %d bytes, header cap %d)", name,
        length, limit, file.size(), kMaxSafetensorsHeaderBytes));
  }
  const size_t data_begin = kLengthBytes + static_cast<size_t>(length);
  const absl::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                               static_cast<size_t>(length));
  SW_ASSIGN_OR_RETURN(const Json json,
                      ParseJson(text, absl::StrCat(name, ": header"), DuplicateKeys::kReject));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the header is %s, not a JSON object", name, ShortDump(json)));
  }

  SafetensorsHeader header;
  header.entries.reserve(json.size());
  for (const auto& [tensor, value] : json.items()) {
    if (tensor == "__metadata__") {
      SW_ASSIGN_OR_RETURN(header.metadata, ParseMetadata(value, name));
      continue;
    }
    SW_ASSIGN_OR_RETURN(SafetensorsEntry entry,
                        ParseEntry(tensor, value, data_begin, file.size() - data_begin, name));
    header.entries.push_back(std::move(entry));
  }
  // Empty tensors share their offset with the tensor that follows; they come first.
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              if (a.offset != b.offset) return a.offset < b.offset;
              if (a.size != b.size) return a.size < b.size;
              return a.name < b.name;
            });
  SW_RETURN_IF_ERROR(CheckContiguous(header.entries, data_begin, file.size(), name));
  return header;
}

}  // namespace sidewinder
