#include "kernels/common/reference.h"

#include <cmath>
#include <cstring>
#include <limits>

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

double ReferenceSilu(double x) { return x / (1 + std::exp(-x)); }

double ReferenceSoftplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

}  // namespace sidewinder
