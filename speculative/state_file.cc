#include "speculative/state_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "runtime/mapped_file.h"
#include "runtime/status_macros.h"
#include "xxhash.h"

namespace sidewinder {
namespace {

constexpr absl::string_view kMagic("SWSTATE\0", 8);

template <class T>
void AppendRaw(std::string& out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Reads values off the front of a buffer; false when it is too short.
class Cursor {
 public:
  explicit Cursor(absl::string_view data) : data_(data) {}
  template <class T>
  bool Read(T& value) {
    if (data_.size() < sizeof(value)) return false;
    std::memcpy(&value, data_.data(), sizeof(value));
    data_.remove_prefix(sizeof(value));
    return true;
  }
  absl::string_view rest() const { return data_; }

 private:
  absl::string_view data_;
};

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

}  // namespace

absl::Status WriteStateFile(const std::string& path, const SavedState& saved) {
  std::string bytes(kMagic);
  AppendRaw(bytes, kStateFileVersion);
  AppendRaw(bytes, saved.fingerprint);
  AppendRaw(bytes, static_cast<uint64_t>(saved.tokens.size()));
  AppendRaw(bytes, static_cast<uint64_t>(saved.state.size()));
  bytes.append(reinterpret_cast<const char*>(saved.tokens.data()),
               saved.tokens.size() * sizeof(int32_t));
  bytes.append(saved.state);
  AppendRaw(bytes, static_cast<uint64_t>(XXH3_64bits(bytes.data(), bytes.size())));

  const std::string temporary = path + ".partial";
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) {
    return absl::PermissionDeniedError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  const bool closed = std::fclose(file) == 0;
  std::error_code error;
  if (written && closed) std::filesystem::rename(temporary, path, error);
  if (!written || !closed || error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return absl::UnavailableError(
        absl::StrCat(path, ": writing failed: ", error ? error.message() : std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<SavedState> ReadStateFile(const std::string& path, uint64_t fingerprint,
                                         const std::function<int64_t(int64_t)>& state_bytes) {
  SW_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ParseStateFile(file.text(), path, fingerprint, state_bytes);
}

absl::StatusOr<SavedState> ParseStateFile(absl::string_view bytes, const std::string& name,
                                          uint64_t fingerprint,
                                          const std::function<int64_t(int64_t)>& state_bytes) {
  Cursor cursor(bytes);
  char magic[8];
  if (!cursor.Read(magic) || absl::string_view(magic, sizeof(magic)) != kMagic) {
    return Bad(name, "not a state file (it does not begin with SWSTATE)");
  }
  uint32_t version = 0;
  if (!cursor.Read(version) || version != kStateFileVersion) {
    return Bad(name, absl::StrFormat("state file version %d; this build reads version %d", version,
                                     kStateFileVersion));
  }
  SavedState saved;
  uint64_t num_tokens = 0;
  uint64_t num_state = 0;
  if (!cursor.Read(saved.fingerprint) || !cursor.Read(num_tokens) || !cursor.Read(num_state)) {
    return Bad(name, "truncated in its header");
  }
  if (saved.fingerprint != fingerprint) {
    return Bad(name,
               absl::StrFormat("state of another model: fingerprint %016x, this model has %016x",
                               saved.fingerprint, fingerprint));
  }
  const uint64_t rest = cursor.rest().size();
  const uint64_t tokens_bytes = num_tokens * sizeof(int32_t);
  if (num_tokens == 0 || num_tokens > rest / sizeof(int32_t) || num_state > rest ||
      rest != tokens_bytes + num_state + sizeof(uint64_t)) {
    return Bad(name,
               absl::StrFormat("truncated or too long: %d bytes behind the header for %d tokens "
                               "and %d bytes of state",
                               rest, num_tokens, num_state));
  }
  const int64_t expected = state_bytes(static_cast<int64_t>(num_tokens) - 1);
  if (num_state != static_cast<uint64_t>(expected)) {
    return Bad(name, absl::StrFormat("%d bytes of state; this model has %d after %d tokens",
                                     num_state, expected, num_tokens - 1));
  }
  uint64_t stored = 0;
  std::memcpy(&stored, bytes.data() + bytes.size() - sizeof(stored), sizeof(stored));
  const uint64_t actual = XXH3_64bits(bytes.data(), bytes.size() - sizeof(stored));
  if (stored != actual) {
    return Bad(name,
               absl::StrFormat("damaged: checksum %016x, contents have %016x", stored, actual));
  }
  saved.tokens.resize(num_tokens);
  std::memcpy(saved.tokens.data(), cursor.rest().data(), num_tokens * sizeof(int32_t));
  saved.state = std::string(cursor.rest().substr(num_tokens * sizeof(int32_t), num_state));
  return saved;
}

}  // namespace sidewinder
