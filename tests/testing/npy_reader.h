// Reads the float32 matrices that tests compare with. For files we wrote ourselves: anything
// unexpected ends the test.
#ifndef SIDEWINDER_TESTS_TESTING_NPY_READER_H_
#define SIDEWINDER_TESTS_TESTING_NPY_READER_H_

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/status_macros.h"

namespace sidewinder::testing {

struct NpyMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;  // [rows, cols]

  const float* row(int64_t i) const { return values.data() + i * cols; }
};

inline NpyMatrix ReadNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  constexpr size_t kPrefixBytes{10};
  SW_CHECK(bytes.size() >= kPrefixBytes && bytes.compare(0, 8, "\x93NUMPY\x01\x00", 8) == 0)
      << path;
  const size_t data_begin = kPrefixBytes + static_cast<uint8_t>(bytes[8]) +
                            256 * static_cast<size_t>(static_cast<uint8_t>(bytes[9]));
  SW_CHECK(bytes.size() >= data_begin) << path;
  const std::string header = bytes.substr(kPrefixBytes, data_begin - kPrefixBytes);
  SW_CHECK(header.find("'descr': '<f4'") != std::string::npos) << path << header;
  SW_CHECK(header.find("'fortran_order': False") != std::string::npos) << path << header;
  const size_t shape = header.find("'shape': (");
  SW_CHECK(shape != std::string::npos) << path << header;
  NpyMatrix matrix;
  long long rows = 0, cols = 0;
  SW_CHECK(std::sscanf(header.c_str() + shape, "'shape': (%lld, %lld)", &rows, &cols) == 2)
      << header;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.values.resize((bytes.size() - data_begin) / sizeof(float));
  SW_CHECK(static_cast<int64_t>(matrix.values.size()) == rows * cols) << path << header;
  std::memcpy(matrix.values.data(), bytes.data() + data_begin, bytes.size() - data_begin);
  return matrix;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_NPY_READER_H_
