#include "kernels/common/reference.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/common/check.h"

namespace sidewinder {
namespace {

double FromFloat16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) ? -1.0 : 1.0;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  if (exponent < 31) return sign * std::ldexp(1024 + mantissa, exponent - 25);
  return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                       : sign * std::numeric_limits<double>::infinity();
}

}  // namespace

double ReferenceLoad(const void* data, DType dtype, int64_t idx) {
  const char* element = static_cast<const char*>(data) + idx * SizeOf(dtype);
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, element, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, element, sizeof(bits));
  if (dtype == DType::kFloat16) return FromFloat16(bits);
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

void ReferenceStore(void* data, DType dtype, int64_t idx, float value) {
  char* element = static_cast<char*>(data) + idx * SizeOf(dtype);
  if (dtype == DType::kFloat32) {
    std::memcpy(element, &value, sizeof(value));
    return;
  }
  SW_CHECK(dtype == DType::kBFloat16) << Name(dtype);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) {
    bits |= 0x400000u;
  } else {
    bits += 0x7fffu + (bits >> 16 & 1u);
  }
  const uint16_t narrow = static_cast<uint16_t>(bits >> 16);
  std::memcpy(element, &narrow, sizeof(narrow));
}

double ReferenceSilu(double x) { return x / (1 + std::exp(-x)); }

double ReferenceSoftplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

}  // namespace sidewinder
