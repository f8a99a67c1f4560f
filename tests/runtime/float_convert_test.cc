#include "runtime/float_convert.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace sidewinder {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(FloatConvertTest, KnownValues) {
  EXPECT_EQ(Float16ToFloat(0x3c00), 1.0f);
  EXPECT_EQ(Float16ToFloat(0xc000), -2.0f);
  EXPECT_EQ(Float16ToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(Float16ToFloat(0x0400), 0x1p-14f);
  EXPECT_EQ(Float16ToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(Float16ToFloat(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(Float16ToFloat(0x7c00), kInf);
  EXPECT_EQ(Float16ToFloat(0xfc00), -kInf);
  EXPECT_TRUE(std::signbit(Float16ToFloat(0x8000)));
  EXPECT_EQ(BFloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(0xff80), -kInf);
  EXPECT_EQ(FloatToBFloat16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToFloat16(1.0f), 0x3c00);
}

// Widening and narrowing again gives every 16-bit pattern back, NaNs with the quiet bit set.
TEST(FloatConvertTest, RoundTripsEveryValue) {
  for (uint32_t i = 0; i <= 0xffff; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const bool half_nan = (bits & 0x7fff) > 0x7c00;
    EXPECT_EQ(FloatToFloat16(Float16ToFloat(bits)), half_nan ? bits | 0x200 : bits);
    EXPECT_EQ(std::isnan(Float16ToFloat(bits)), half_nan);
    const bool brain_nan = (bits & 0x7fff) > 0x7f80;
    EXPECT_EQ(FloatToBFloat16(BFloat16ToFloat(bits)), brain_nan ? bits | 0x40 : bits);
  }
}

// Between two neighbours: the nearer one, halfway the even one, infinity counted as the next value.
template <class Widen, class Narrow>
void CheckRounding(Widen widen, Narrow narrow, uint16_t infinity, double beyond) {
  for (uint16_t bits = 0; bits < infinity; ++bits) {
    const double low = widen(bits);
    const double high = bits + 1 == infinity ? beyond : widen(static_cast<uint16_t>(bits + 1));
    const float middle = static_cast<float>(low / 2 + high / 2);
    const uint16_t up = static_cast<uint16_t>(bits + 1);
    const uint16_t even = bits % 2 == 0 ? bits : up;
    for (const int sign : {1, -1}) {
      const uint16_t sign_bit = sign < 0 ? 0x8000 : 0;
      ASSERT_EQ(narrow(sign * middle), sign_bit | even) << bits;
      ASSERT_EQ(narrow(sign * std::nextafter(middle, 0.0f)), sign_bit | bits) << bits;
      ASSERT_EQ(narrow(sign * std::nextafter(middle, kInf)), sign_bit | up) << bits;
    }
  }
}

TEST(FloatConvertTest, RoundsToNearestEven) {
  CheckRounding(Float16ToFloat, FloatToFloat16, 0x7c00, 65536.0);
  CheckRounding(BFloat16ToFloat, FloatToBFloat16, 0x7f80, 0x1p128);
}

TEST(FloatConvertTest, Extremes) {
  EXPECT_EQ(FloatToFloat16(1e10f), 0x7c00);
  EXPECT_EQ(FloatToFloat16(-kInf), 0xfc00);
  EXPECT_EQ(FloatToFloat16(0x1p-26f), 0);
  EXPECT_EQ(FloatToFloat16(-0.0f), 0x8000);
  EXPECT_EQ(FloatToFloat16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(FloatToBFloat16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(FloatToBFloat16(kInf), 0x7f80);
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(kNan))));
  EXPECT_TRUE(std::isnan(Float16ToFloat(FloatToFloat16(-kNan))));
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(Float16ToFloat(FloatToFloat16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace sidewinder
