// Safetensors files for tests: correct ones from tensors, wrong ones from any header.
#ifndef SIDEWINDER_TESTS_TESTING_SAFETENSORS_BUILDER_H_
#define SIDEWINDER_TESTS_TESTING_SAFETENSORS_BUILDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sidewinder::testing {

// The file with `header` as it is and `data` behind it.
inline std::string SafetensorsFile(const std::string& header, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file += static_cast<char>((static_cast<uint64_t>(header.size()) >> (8 * i)) & 0xff);
  }
  return file + header + data;
}

template <class T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

class SafetensorsBuilder {
 public:
  SafetensorsBuilder& Add(const std::string& name, const std::string& dtype,
                          const std::vector<int64_t>& shape, const std::string& bytes) {
    entries_.push_back(absl::StrFormat(
        "\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%d,%d]}", name, dtype,
        absl::StrJoin(shape, ","), data_.size(), data_.size() + bytes.size()));
    data_ += bytes;
    return *this;
  }
  SafetensorsBuilder& Add(const std::string& name, const std::vector<int64_t>& shape,
                          const std::vector<float>& values) {
    return Add(name, "F32", shape, BytesOf(values));
  }
  // The data begins at a multiple of 8, as with every usual writer, and `shift` bytes further.
  std::string Build(int shift = 0) const {
    std::string header = absl::StrCat("{", absl::StrJoin(entries_, ","), "}");
    header.append((8 - header.size() % 8) % 8 + shift, ' ');
    return SafetensorsFile(header, data_);
  }

 private:
  std::vector<std::string> entries_;
  std::string data_;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_SAFETENSORS_BUILDER_H_
