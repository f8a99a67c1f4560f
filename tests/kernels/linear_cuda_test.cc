// Products on CUDA, alone and behind a norm. Small integers make sums exact in any order, so most
// tests compare with the plain reference by ==.
#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/fused.h"
#include "kernels/linear_policy.h"
#include "kernels/pack_weights.h"
#include "kernels/rms_norm.h"
#include "runtime/float_convert.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::ExpectWithin;
using testing::kPoison;
using testing::RandomValues;
using testing::RandomWeights;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
constexpr int64_t kInputGap{4}, kOutputGap{3};

struct Shape {
  int64_t out_dim, in_dim;
  std::string Name() const { return std::to_string(out_dim) + "x" + std::to_string(in_dim); }
};
// One and several parts, fewer k-steps than slices, edges within tiles and slices.
constexpr Shape kHostileShapes[] = {{1, 1},     {2, 15},    {15, 16},  {16, 17},    {17, 31},
                                    {31, 33},   {33, 127},  {64, 128}, {67, 257},   {127, 509},
                                    {16, 2048}, {36, 5120}, {192, 5},  {251, 1021}, {2128, 68}};
constexpr Shape kRealShapes[] = {{10240, 2560}, {192, 5120},  {2560, 5120}, {10576, 2560},
                                 {3072, 768},   {80, 1536},   {768, 1536},  {3352, 768},
                                 {50280, 2560}, {50280, 768}, {1024, 13000}};

uint16_t Narrow(float value, DType dtype) {
  return dtype == DType::kBFloat16 ? FloatToBFloat16(value) : FloatToFloat16(value);
}

// What an input becomes in front of weights of `dtype`.
float Rounded(float value, DType dtype) {
  if (dtype == DType::kFloat32) return value;
  const uint16_t bits = Narrow(value, dtype);
  return dtype == DType::kBFloat16 ? BFloat16ToFloat(bits) : Float16ToFloat(bits);
}

std::vector<float> Rounded(std::vector<float> values, DType dtype) {
  for (float& value : values) value = Rounded(value, dtype);
  return values;
}

std::vector<float> Abs(std::vector<float> values) {
  for (float& value : values) value = std::abs(value);
  return values;
}

std::vector<char> AbsWeights(std::vector<char> bytes, DType dtype) {
  for (size_t i = SizeOf(dtype) - 1; i < bytes.size(); i += SizeOf(dtype)) bytes[i] &= 0x7f;
  return bytes;
}

// A small integer for an index.
int32_t Dice(uint64_t index, uint32_t seed, int32_t sides) {
  uint64_t z = (index + 1) * 0x9E3779B97F4A7C15u + seed * 0xD1342543DE82EF95u;
  z = (z ^ (z >> 31)) * 0xBF58476D1CE4E5B9u;
  return static_cast<int32_t>((z >> 33) % sides);
}

// Integers in [-most, most].
std::vector<float> Integers(int64_t size, uint32_t seed, int32_t most = 4) {
  std::vector<float> values(size);
  for (int64_t i = 0; i < size; ++i) {
    values[i] = static_cast<float>(Dice(i, seed, 2 * most + 1) - most);
  }
  return values;
}

std::vector<char> IntegerWeights(int64_t size, DType dtype, uint32_t seed) {
  std::vector<char> bytes(size * SizeOf(dtype));
  for (int64_t i = 0; i < size; ++i) {
    const float value = static_cast<float>(Dice(i, seed, 17) - 8);
    if (dtype == DType::kFloat32) {
      std::memcpy(bytes.data() + i * 4, &value, 4);
    } else {
      const uint16_t bits = Narrow(value, dtype);
      std::memcpy(bytes.data() + i * 2, &bits, 2);
    }
  }
  return bytes;
}

// Rows of `dim` values with poison between them.
std::vector<float> WithGaps(const std::vector<float>& values, int64_t dim, int64_t gap) {
  const int64_t rows = static_cast<int64_t>(values.size()) / dim;
  std::vector<float> result(rows * (dim + gap), kPoison);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(values.begin() + r * dim, dim, result.begin() + r * (dim + gap));
  }
  return result;
}

class LinearCudaTest : public testing::CudaTest {
 protected:
  // Row-major weights as CUDA kernels take them.
  DeviceArray<char> Weights(const std::vector<char>& row_major, DType dtype, Shape shape) {
    DeviceArray<char> from = Upload(row_major, /*misalign=*/false);
    if (dtype == DType::kFloat32) return from;
    DeviceArray<char> packed = Poisoned<char>(PackedBytes(shape.out_dim, shape.in_dim));
    Pack({.row_major = from.data(),
          .packed = packed.data(),
          .out_dim = shape.out_dim,
          .in_dim = shape.in_dim});
    EXPECT_TRUE(stream().Synchronize().ok());  // `from` goes
    return packed;
  }

  void Pack(const PackWeightsParams& params) {
    if constexpr (kHasCuda) {
      EXPECT_EQ(LaunchPackWeights(*ctx().cuda, params), 0);
    }
  }
  void Randomize(const RandomWeightsParams& params) {
    if constexpr (kHasCuda) {
      EXPECT_EQ(LaunchRandomWeights(*ctx().cuda, params), 0);
    }
  }
};

// The host's and the device's side of one product with everything that params can ask for.
struct Product {
  Shape shape;
  DType dtype;
  int32_t rows;      // of input and output
  int32_t max_rows;  // >= rows
  std::vector<char> weight;
  std::vector<float> input;  // [rows, in_dim]
  std::vector<float> bias;   // empty: none
  std::vector<float> old;    // [max_rows, out_dim], empty: not accumulated
  std::vector<int32_t> row_index;
  std::vector<float> scale = {};  // empty: none

  LinearParams Params() const {
    return {.weight = weight.data(),
            .weight_dtype = dtype,
            .bias = bias.empty() ? nullptr : bias.data(),
            .scale = scale.empty() ? nullptr : scale.data(),
            .input = input.data(),
            .row_index = row_index.empty() ? nullptr : row_index.data(),
            .output = nullptr,
            .in_dim = shape.in_dim,
            .out_dim = shape.out_dim,
            .input_stride = shape.in_dim,
            .output_stride = shape.out_dim,
            .accumulate = !old.empty(),
            .num_rows = &rows,
            .max_rows = max_rows};
  }

  // [rows, out_dim], inputs rounded as kernels round them.
  std::vector<float> Reference() const {
    const std::vector<float> rounded = Rounded(input, dtype);
    std::vector<float> output(int64_t{rows} * shape.out_dim);
    if (!old.empty()) std::copy_n(old.begin(), output.size(), output.begin());
    LinearParams params = Params();
    params.input = rounded.data();
    params.output = output.data();
    LinearRef(params);
    return output;
  }

  Product Magnitude() const {
    Product result = *this;
    result.weight = AbsWeights(weight, dtype);
    result.input = Abs(input);
    result.bias = Abs(bias);
    result.scale = Abs(scale);
    result.old = Abs(old);
    return result;
  }
};

class LinearProductTest : public LinearCudaTest {
 protected:
  // [max_rows, out_dim]; checks that nothing else was written. `weight` is product.weight there.
  std::vector<float> Run(const Product& p, const DeviceArray<char>& weight) {
    const int64_t in_dim = p.shape.in_dim, out_dim = p.shape.out_dim;
    const std::vector<float> before =
        WithGaps(p.old.empty() ? std::vector<float>(p.max_rows * out_dim, kPoison) : p.old, out_dim,
                 kOutputGap);
    std::vector<float> inputs = p.input;  // rows up to max_rows may be read, whatever is in them
    inputs.resize(std::max<size_t>(inputs.size(), p.max_rows * in_dim), kPoison);
    const DeviceArray<float> input = Upload(WithGaps(inputs, in_dim, kInputGap));
    const DeviceArray<float> output = Upload(before);
    const DeviceArray<float> bias = Upload(p.bias), scale = Upload(p.scale);
    const DeviceArray<int32_t> row_index = Upload(p.row_index);
    const DeviceArray<int32_t> rows = Upload(std::vector<int32_t>{p.rows});
    LinearParams params = p.Params();
    params.weight = weight.data();
    params.bias = p.bias.empty() ? nullptr : bias.data();
    params.scale = p.scale.empty() ? nullptr : scale.data();
    params.input = input.data();
    params.row_index = p.row_index.empty() ? nullptr : row_index.data();
    params.output = output.data();
    params.input_stride = in_dim + kInputGap;
    params.output_stride = out_dim + kOutputGap;
    params.num_rows = rows.data();
    Linear(ctx(), params);
    const std::vector<float> after = output.Download();
    std::vector<float> result(p.max_rows * out_dim);
    if (ctx().cuda->failure != 0) return result;  // Download has said so; nothing was written
    EXPECT_TRUE(output.Intact());
    for (int64_t r = 0; r < p.max_rows; ++r) {
      const float* row = after.data() + r * (out_dim + kOutputGap);
      std::copy_n(row, out_dim, result.begin() + r * out_dim);
      const int64_t untouched = r < p.rows ? out_dim : 0;
      EXPECT_EQ(std::memcmp(row + untouched, before.data() + r * (out_dim + kOutputGap) + untouched,
                            (out_dim + kOutputGap - untouched) * sizeof(float)),
                0)
          << "row " << r;
    }
    return result;
  }

  void ExpectExact(const Product& product, const DeviceArray<char>& weight) {
    const std::vector<float> actual = Run(product, weight);
    const std::vector<float> expected = product.Reference();
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(actual[i], expected[i])
          << "row " << i / product.shape.out_dim << ", output " << i % product.shape.out_dim;
    }
  }

  static Product IntegerProduct(Shape shape, DType dtype, int32_t rows) {
    return {.shape = shape,
            .dtype = dtype,
            .rows = rows,
            .max_rows = rows,
            .weight = IntegerWeights(shape.out_dim * shape.in_dim, dtype, 1),
            .input = Integers(rows * shape.in_dim, 2),
            .bias = {},
            .old = {},
            .row_index = {}};
  }
};

std::string Describe(DType dtype, Shape shape, int32_t rows) {
  return std::string(Name(dtype)) + " " + shape.Name() + " rows " + std::to_string(rows);
}

TEST_F(LinearCudaTest, PackedOrder) {
  for (const Shape shape : kHostileShapes) {
    SCOPED_TRACE(shape.Name());
    std::vector<uint16_t> row_major(shape.out_dim * shape.in_dim);
    for (size_t i = 0; i < row_major.size(); ++i)
      row_major[i] = static_cast<uint16_t>(i % 65521 + 1);
    const DeviceArray<uint16_t> from = Upload(row_major, /*misalign=*/true);
    const size_t size = PackedBytes(shape.out_dim, shape.in_dim) / 2;
    const DeviceArray<uint16_t> packed = Poisoned<uint16_t>(size);
    Pack({.row_major = from.data(),
          .packed = packed.data(),
          .out_dim = shape.out_dim,
          .in_dim = shape.in_dim});
    std::vector<uint16_t> expected(size, 0);
    for (int64_t o = 0; o < shape.out_dim; ++o) {
      for (int64_t k = 0; k < shape.in_dim; ++k) {
        expected[PackedIndex(o, k, shape.in_dim)] = row_major[o * shape.in_dim + k];
      }
    }
    EXPECT_EQ(packed.Download(), expected);
    EXPECT_TRUE(packed.Intact());
  }
}

TEST_F(LinearCudaTest, RandomWeightsAreAFunctionOfSeedAndIndex) {
  constexpr Shape kShape{37, 53};
  constexpr float kScale{0.25f};
  const size_t packed_size = PackedBytes(kShape.out_dim, kShape.in_dim) / 2;
  const DeviceArray<float> values = Poisoned<float>(kShape.out_dim * kShape.in_dim);
  const DeviceArray<uint16_t> packed = Poisoned<uint16_t>(packed_size);
  RandomWeightsParams params = {.weights = values.data(),
                                .dtype = DType::kFloat32,
                                .out_dim = kShape.out_dim,
                                .in_dim = kShape.in_dim,
                                .scale = kScale,
                                .seed = 7};
  Randomize(params);
  params.weights = packed.data();
  params.dtype = DType::kBFloat16;
  Randomize(params);
  const std::vector<float> floats = values.Download();
  const std::vector<uint16_t> bits = packed.Download();
  double sum = 0, squares = 0;
  std::vector<uint16_t> expected(packed_size, 0);
  for (int64_t i = 0; i < static_cast<int64_t>(floats.size()); ++i) {
    ASSERT_GE(floats[i], -kScale);
    ASSERT_LT(floats[i], kScale);
    sum += floats[i];
    squares += floats[i] * floats[i];
    uint32_t word;
    std::memcpy(&word, &floats[i], 4);
    expected[PackedIndex(i / kShape.in_dim, i % kShape.in_dim, kShape.in_dim)] =
        static_cast<uint16_t>(word >> 16);
  }
  EXPECT_EQ(bits, expected);
  EXPECT_TRUE(values.Intact() && packed.Intact());
  // Five standard deviations of the mean, and the variance of a uniform distribution.
  const double n = static_cast<double>(floats.size());
  EXPECT_LT(std::abs(sum / n), 5 * kScale / std::sqrt(3 * n));
  EXPECT_NEAR(squares / n, kScale * kScale / 3, kScale * kScale / 20);
  params.seed = 8;
  Randomize(params);
  EXPECT_NE(packed.Download(), bits);
}

TEST_F(LinearProductTest, ExactOnIntegers) {
  for (const DType dtype : kDTypes) {
    for (const Shape shape : kHostileShapes) {
      const Product largest = IntegerProduct(shape, dtype, 1);
      const DeviceArray<char> weight = Weights(largest.weight, dtype, shape);
      for (const int32_t rows : {1, 2, 5, 8, 9, 13, 16, 17, 33, 64, 100}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        ExpectExact(IntegerProduct(shape, dtype, rows), weight);
      }
    }
  }
}

TEST_F(LinearProductTest, BiasAccumulateAndRowIndex) {
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{67, 257}, Shape{36, 5120}, Shape{130, 16}}) {
      for (const int32_t rows : {1, 3, 11, 40}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        Product product = IntegerProduct(shape, dtype, rows);
        const DeviceArray<char> weight = Weights(product.weight, dtype, shape);
        product.bias = Integers(shape.out_dim, 3, 1000);
        ExpectExact(product, weight);
        product.old = Integers(rows * shape.out_dim, 4, 1000);
        ExpectExact(product, weight);
        for (int32_t r = 0; r < rows; ++r) product.row_index.push_back(Dice(r, 5, rows));
        ExpectExact(product, weight);
        product.scale = Integers(shape.out_dim, 6, 3);
        ExpectExact(product, weight);
        product.bias.clear();
        ExpectExact(product, weight);
        product.scale.clear();
        ExpectExact(product, weight);
      }
    }
  }
}

// Product and bias, then the scale, then the old output, each rounded.
TEST_F(LinearProductTest, ScalesBeforeItAdds) {
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{67, 257}, Shape{1040, 768}}) {
      for (const int32_t rows : {1, 5, 16, 40}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        Product product = {.shape = shape,
                           .dtype = dtype,
                           .rows = rows,
                           .max_rows = rows,
                           .weight = RandomWeights(shape.out_dim * shape.in_dim, dtype, 1),
                           .input = RandomValues(rows * shape.in_dim, 2),
                           .bias = RandomValues(shape.out_dim, 3),
                           .old = {},
                           .row_index = {}};
        const DeviceArray<char> weight = Weights(product.weight, dtype, shape);
        const std::vector<float> plain = Run(product, weight);
        product.scale = RandomValues(shape.out_dim, 4, -3, 3);
        const std::vector<float> scaled = Run(product, weight);
        product.old = RandomValues(rows * shape.out_dim, 5);
        const std::vector<float> added = Run(product, weight);
        for (size_t i = 0; i < plain.size(); ++i) {
          ASSERT_EQ(scaled[i], plain[i] * product.scale[i % shape.out_dim]) << i;
          ASSERT_EQ(added[i], scaled[i] + product.old[i]) << i;
        }
      }
    }
  }
}

// On Hopper: the kernels for every architecture and its own give the same bits. Some shapes have so
// many tiles a block that rings of weights are filled anew.
TEST_F(LinearProductTest, GenericKernelsHaveTheSameBits) {
  const int32_t compute_capability = ctx().cuda->compute_capability;
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    for (const Shape shape :
         {Shape{40000, 64}, Shape{40000, 66}, Shape{67, 257}, Shape{530, 2560}}) {
      const DeviceArray<char> weight =
          Weights(RandomWeights(shape.out_dim * shape.in_dim, dtype, 1), dtype, shape);
      for (const int32_t rows : {1, 5, 16, 40, 200}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        const Product product = {.shape = shape,
                                 .dtype = dtype,
                                 .rows = rows,
                                 .max_rows = rows,
                                 .weight = {},
                                 .input = RandomValues(rows * shape.in_dim, 2),
                                 .bias = RandomValues(shape.out_dim, 3),
                                 .old = {},
                                 .row_index = {}};
        const std::vector<float> own = Run(product, weight);
        ctx().cuda->compute_capability = 80;
        const std::vector<float> generic = Run(product, weight);
        ctx().cuda->compute_capability = compute_capability;
        ASSERT_EQ(std::memcmp(own.data(), generic.data(), own.size() * sizeof(float)), 0);
      }
    }
  }
}

TEST_F(LinearProductTest, FewerRowsThanAtMost) {
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{67, 257}, Shape{36, 5120}}) {
      const Product whole = IntegerProduct(shape, dtype, 1);
      const DeviceArray<char> weight = Weights(whole.weight, dtype, shape);
      for (const auto& [rows, max_rows] : std::vector<std::pair<int32_t, int32_t>>{{0, 1},
                                                                                   {0, 16},
                                                                                   {0, 200},
                                                                                   {3, 8},
                                                                                   {3, 16},
                                                                                   {9, 16},
                                                                                   {1, 100},
                                                                                   {65, 200},
                                                                                   {64, 129}}) {
        SCOPED_TRACE(Describe(dtype, shape, rows) + " of " + std::to_string(max_rows));
        Product product = IntegerProduct(shape, dtype, rows);
        product.max_rows = max_rows;
        ExpectExact(product, weight);
      }
    }
  }
}

TEST_F(LinearProductTest, RealShapes) {
  for (const Shape shape : kRealShapes) {
    const Product one = IntegerProduct(shape, DType::kBFloat16, 1);
    const DeviceArray<char> weight = Weights(one.weight, DType::kBFloat16, shape);
    for (const int32_t rows : {1, 5, 32, 64, 160, 512}) {
      SCOPED_TRACE(Describe(DType::kBFloat16, shape, rows));
      const Product product = {.shape = shape,
                               .dtype = DType::kBFloat16,
                               .rows = rows,
                               .max_rows = rows,
                               .weight = {},
                               .input = Integers(rows * shape.in_dim, 2),
                               .bias = {},
                               .old = {},
                               .row_index = {}};
      const std::vector<float> actual = Run(product, weight);
      // The reference of every output would take minutes.
      for (int i = 0; i < 200; ++i) {
        const int64_t o = i < 100 ? Dice(i, 6, static_cast<int32_t>(shape.out_dim))
                                  : shape.out_dim - std::min<int64_t>(i - 99, shape.out_dim);
        const int64_t r = Dice(i, 7, rows);
        Product single = {.shape = {1, shape.in_dim},
                          .dtype = product.dtype,
                          .rows = 1,
                          .max_rows = 1,
                          .weight = {one.weight.begin() + o * shape.in_dim * 2,
                                     one.weight.begin() + (o + 1) * shape.in_dim * 2},
                          .input = {product.input.begin() + r * shape.in_dim,
                                    product.input.begin() + (r + 1) * shape.in_dim},
                          .bias = {},
                          .old = {},
                          .row_index = {}};
        ASSERT_EQ(actual[r * shape.out_dim + o], single.Reference()[0])
            << "row " << r << ", output " << o;
      }
    }
  }
}

TEST_F(LinearProductTest, MatchesReference) {
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{31, 33}, Shape{67, 257}, Shape{251, 1021}, Shape{36, 5120}}) {
      for (const int32_t rows : {1, 13, 50}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        const Product product = {
            .shape = shape,
            .dtype = dtype,
            .rows = rows,
            .max_rows = rows,
            .weight = RandomWeights(shape.out_dim * shape.in_dim, dtype, 1),
            .input = RandomValues(rows * shape.in_dim, 2),
            .bias = RandomValues(shape.out_dim, 3),
            .old = RandomValues(rows * shape.out_dim, 4),
            .row_index = {},
            .scale = rows == 13 ? RandomValues(shape.out_dim, 5, -3, 3) : std::vector<float>()};
        const std::vector<float> actual = Run(product, Weights(product.weight, dtype, shape));
        const std::vector<float> expected = product.Reference();
        const std::vector<float> magnitude = product.Magnitude().Reference();
        const double roundings = dtype == DType::kFloat32
                                     ? testing::LinearRoundings(shape.in_dim)
                                     : testing::TensorCoreRoundings(shape.in_dim);
        ExpectWithin(actual.data(), expected.data(), magnitude.data(),
                     static_cast<int64_t>(expected.size()), roundings, "output");
      }
    }
  }
}

// The promise that speculation rests on.
TEST_F(LinearProductTest, BitsOfARowDependOnNothingElse) {
  constexpr int32_t kMostRows{200};
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{67, 257}, Shape{251, 1021}, Shape{192, 5120}, Shape{2560, 5120},
                              Shape{768, 1536}, Shape{1040, 768}}) {
      Product product = {.shape = shape,
                         .dtype = dtype,
                         .rows = kMostRows,
                         .max_rows = kMostRows,
                         .weight = RandomWeights(shape.out_dim * shape.in_dim, dtype, 1),
                         .input = RandomValues(kMostRows * shape.in_dim, 2),
                         .bias = RandomValues(shape.out_dim, 3),
                         .old = RandomValues(kMostRows * shape.out_dim, 4),
                         .row_index = {}};
      const DeviceArray<char> weight = Weights(product.weight, dtype, shape);
      const std::vector<float> all = Run(product, weight);
      ASSERT_EQ(std::memcmp(Run(product, weight).data(), all.data(), all.size() * sizeof(float)), 0)
          << "two runs differ";
      for (const int32_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 33, 64, 65, 100}) {
        SCOPED_TRACE(Describe(dtype, shape, rows));
        // Row r of this run is row `from + r` of all.
        const int32_t from = Dice(rows, 8, kMostRows - rows);
        Product some = product;
        some.rows = some.max_rows = rows;
        some.old.assign(product.old.begin() + from * shape.out_dim,
                        product.old.begin() + (from + rows) * shape.out_dim);
        for (int32_t r = 0; r < rows; ++r) some.row_index.push_back(from + r);
        const std::vector<float> actual = Run(some, weight);
        ASSERT_EQ(std::memcmp(actual.data(), all.data() + from * shape.out_dim,
                              actual.size() * sizeof(float)),
                  0);
      }
    }
  }
}

// How a launch cuts the product into tiles depends on rows and multiprocessors; bits do not.
TEST_F(LinearProductTest, TilesHaveTheSameBits) {
  constexpr int32_t kMostRows{330};
  for (const Shape shape : {Shape{67, 257}, Shape{80, 1536}, Shape{1040, 768}, Shape{530, 2560}}) {
    Product product = {.shape = shape,
                       .dtype = DType::kBFloat16,
                       .rows = kMostRows,
                       .max_rows = kMostRows,
                       .weight = RandomWeights(shape.out_dim * shape.in_dim, DType::kBFloat16, 1),
                       .input = RandomValues(kMostRows * shape.in_dim, 2),
                       .bias = RandomValues(shape.out_dim, 3),
                       .old = RandomValues(kMostRows * shape.out_dim, 4),
                       .row_index = {}};
    const DeviceArray<char> weight = Weights(product.weight, product.dtype, shape);
    Product few = product;
    few.rows = few.max_rows = 16;
    const std::vector<float> first = Run(few, weight);
    const int32_t multiprocessors = ctx().cuda->num_multiprocessors;
    std::vector<float> all;
    for (const int32_t count : {2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 132, 200, 300, 1000}) {
      ctx().cuda->num_multiprocessors = count;
      for (const int32_t rows : {kMostRows, 17, 40, 100, 128, 160}) {
        SCOPED_TRACE(Describe(product.dtype, shape, rows) + " on " + std::to_string(count));
        Product some = product;
        some.rows = some.max_rows = rows;
        const std::vector<float> actual = Run(some, weight);
        if (all.empty()) all = actual;
        EXPECT_EQ(std::memcmp(actual.data(), all.data(), actual.size() * sizeof(float)), 0);
      }
    }
    ctx().cuda->num_multiprocessors = multiprocessors;
    EXPECT_EQ(std::memcmp(first.data(), all.data(), first.size() * sizeof(float)), 0);
  }
}

// Little workspace makes chunks of outputs and rows; they change nothing.
TEST_F(LinearProductTest, ChunksHaveTheSameBits) {
  constexpr Shape kShape{530, 5120};
  for (const int32_t rows : {3, 16, 300, 700}) {
    SCOPED_TRACE(rows);
    Product product = {.shape = kShape,
                       .dtype = DType::kBFloat16,
                       .rows = rows,
                       .max_rows = rows,
                       .weight = RandomWeights(kShape.out_dim * kShape.in_dim, DType::kBFloat16, 1),
                       .input = RandomValues(rows * kShape.in_dim, 2),
                       .bias = RandomValues(kShape.out_dim, 3),
                       .old = RandomValues(rows * kShape.out_dim, 4),
                       .row_index = {}};
    const DeviceArray<char> weight = Weights(product.weight, product.dtype, kShape);
    const std::vector<float> expected = Run(product, weight);
    const size_t bytes = ctx().cuda->workspace_bytes;
    // Before Hopper 16 rows of so many inputs exceed shared memory and take the kernel for many.
    const size_t few_bytes = ctx().cuda->compute_capability == 90 ? 20000 : 700000;
    ctx().cuda->workspace_bytes = kWorkspaceCounterBytes + (rows <= 16    ? few_bytes
                                                            : rows <= 300 ? 1500000
                                                                          : 7000000);
    const std::vector<float> actual = Run(product, weight);
    ctx().cuda->workspace_bytes = bytes;
    EXPECT_EQ(std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)), 0);
  }
}

// Ops one behind the other share the workspace and overlap; each reads what the last one wrote.
TEST_F(LinearProductTest, ChainWithoutWaiting) {
  constexpr Shape kUp{1280, 320}, kDown{320, 1280};
  constexpr int kTimes{40};
  for (const int32_t max_rows : {5, 16, 48}) {
    SCOPED_TRACE(max_rows);
    const std::vector<char> up = RandomWeights(kUp.out_dim * kUp.in_dim, DType::kBFloat16, 1);
    const std::vector<char> down = RandomWeights(kUp.out_dim * kUp.in_dim, DType::kBFloat16, 2);
    const DeviceArray<char> packed_up = Weights(up, DType::kBFloat16, kUp);
    const DeviceArray<char> packed_down = Weights(down, DType::kBFloat16, kDown);
    const DeviceArray<int32_t> rows = Upload(std::vector<int32_t>{max_rows});
    const std::vector<float> start = RandomValues(max_rows * kUp.in_dim, 3);
    std::vector<std::vector<float>> results;
    for (const bool wait : {true, false}) {
      const DeviceArray<float> narrow = Upload(start);
      const DeviceArray<float> wide = Poisoned<float>(max_rows * kUp.out_dim);
      for (int i = 0; i < kTimes; ++i) {
        RmsNormParams norm = {.input = narrow.data(),
                              .gate = nullptr,
                              .weight = nullptr,
                              .output = wide.data(),  // not touched
                              .dim = kUp.in_dim,
                              .group_dim = kUp.in_dim,
                              .input_stride = kUp.in_dim,
                              .gate_stride = 0,
                              .output_stride = kUp.in_dim,
                              .eps = 1e-5f,
                              .num_rows = rows.data(),
                              .max_rows = max_rows};
        LinearParams linear = {.weight = packed_up.data(),
                               .weight_dtype = DType::kBFloat16,
                               .bias = nullptr,
                               .input = nullptr,
                               .row_index = nullptr,
                               .output = wide.data(),
                               .in_dim = kUp.in_dim,
                               .out_dim = kUp.out_dim,
                               .input_stride = kUp.in_dim,
                               .output_stride = kUp.out_dim,
                               .accumulate = false,
                               .num_rows = rows.data(),
                               .max_rows = max_rows};
        NormLinear(ctx(), norm, linear);
        if (wait) {
          EXPECT_TRUE(stream().Synchronize().ok());
        }
        linear = {.weight = packed_down.data(),
                  .weight_dtype = DType::kBFloat16,
                  .bias = nullptr,
                  .input = wide.data(),
                  .row_index = nullptr,
                  .output = narrow.data(),
                  .in_dim = kDown.in_dim,
                  .out_dim = kDown.out_dim,
                  .input_stride = kDown.in_dim,
                  .output_stride = kDown.out_dim,
                  .accumulate = true,
                  .num_rows = rows.data(),
                  .max_rows = max_rows};
        Linear(ctx(), linear);
        if (wait) {
          EXPECT_TRUE(stream().Synchronize().ok());
        }
      }
      results.push_back(narrow.Download());
    }
    for (const float value : results[0]) ASSERT_TRUE(std::isfinite(value));
    EXPECT_EQ(results[0], results[1]);
  }
}

struct NormCase {
  bool gated, weighted;
  int64_t groups;
  bool gate_last = false;
  bool of_sum = false;  // the gate is an addend

  bool RunsAlone() const { return groups > 1 || gate_last || of_sum; }
};

class NormLinearCudaTest : public LinearCudaTest {
 protected:
  // y[rows, out_dim] = W norm(input), rows picked by row_index unless empty.
  std::vector<float> Run(const NormCase& c, DType dtype, Shape shape,
                         const DeviceArray<char>& weight, const std::vector<float>& input,
                         const std::vector<float>& gate, const std::vector<float>& norm_weight,
                         const std::vector<int32_t>& row_index, int32_t rows,
                         const std::vector<float>& scale = {}) {
    const int64_t dim = shape.in_dim, stride = dim + kInputGap;
    const int32_t input_rows = static_cast<int32_t>(input.size() / dim);
    const DeviceArray<float> x = Upload(WithGaps(input, dim, kInputGap));
    const DeviceArray<float> z = Upload(WithGaps(gate, dim, kInputGap));
    const DeviceArray<float> w = Upload(norm_weight), s = Upload(scale);
    const DeviceArray<float> normed = Poisoned<float>(input_rows * dim);
    const DeviceArray<float> output = Poisoned<float>(rows * shape.out_dim);
    const DeviceArray<int32_t> index = Upload(row_index);
    const DeviceArray<int32_t> counts = Upload(std::vector<int32_t>{input_rows, rows});
    NormLinear(ctx(),
               {.input = x.data(),
                .addend = c.of_sum ? z.data() : nullptr,
                .gate = c.gated ? z.data() : nullptr,
                .gate_last = c.gate_last,
                .weight = c.weighted ? w.data() : nullptr,
                .output = normed.data(),
                .dim = dim,
                .group_dim = dim / c.groups,
                .input_stride = stride,
                .addend_stride = stride,
                .gate_stride = stride,
                .output_stride = dim,
                .eps = kEps,
                .num_rows = counts.data(),
                .max_rows = input_rows},
               {.weight = weight.data(),
                .weight_dtype = dtype,
                .bias = nullptr,
                .scale = scale.empty() ? nullptr : s.data(),
                .input = normed.data(),
                .row_index = row_index.empty() ? nullptr : index.data(),
                .output = output.data(),
                .in_dim = dim,
                .out_dim = shape.out_dim,
                .input_stride = dim,
                .output_stride = shape.out_dim,
                .accumulate = false,
                .num_rows = counts.data() + 1,
                .max_rows = rows});
    EXPECT_TRUE(output.Intact());
    return output.Download();
  }

  // `rounding`: relative error of an input as the product sees it.
  void ExpectNear(const NormCase& c, DType dtype, Shape shape, const std::vector<char>& weight,
                  const std::vector<float>& input, const std::vector<float>& gate,
                  const std::vector<float>& norm_weight, int32_t rows, double rounding) {
    const DeviceArray<char> stored = Weights(weight, dtype, shape);
    const std::vector<float> actual =
        Run(c, dtype, shape, stored, input, gate, norm_weight, {}, rows);
    std::vector<float> normed(rows * shape.in_dim);
    RmsNormRef({.input = input.data(),
                .addend = c.of_sum ? gate.data() : nullptr,
                .gate = c.gated ? gate.data() : nullptr,
                .gate_last = c.gate_last,
                .weight = c.weighted ? norm_weight.data() : nullptr,
                .output = normed.data(),
                .dim = shape.in_dim,
                .group_dim = shape.in_dim / c.groups,
                .input_stride = shape.in_dim,
                .addend_stride = shape.in_dim,
                .gate_stride = shape.in_dim,
                .output_stride = shape.in_dim,
                .eps = kEps,
                .num_rows = &rows});
    std::vector<float> expected(rows * shape.out_dim), magnitude(rows * shape.out_dim);
    LinearParams params = {.weight = weight.data(),
                           .weight_dtype = dtype,
                           .bias = nullptr,
                           .input = normed.data(),
                           .row_index = nullptr,
                           .output = expected.data(),
                           .in_dim = shape.in_dim,
                           .out_dim = shape.out_dim,
                           .input_stride = shape.in_dim,
                           .output_stride = shape.out_dim,
                           .accumulate = false,
                           .num_rows = &rows};
    LinearRef(params);
    const std::vector<char> abs_weight = AbsWeights(weight, dtype);
    const std::vector<float> abs_normed = Abs(normed);
    params.weight = abs_weight.data();
    params.input = abs_normed.data();
    params.output = magnitude.data();
    LinearRef(params);
    const double roundings = testing::TensorCoreRoundings(shape.in_dim) +
                             testing::RmsNormRoundings(shape.in_dim) +
                             rounding / testing::kUnitRoundoff;
    ExpectWithin(actual.data(), expected.data(), magnitude.data(),
                 static_cast<int64_t>(expected.size()), roundings, "output");
  }

  static constexpr float kEps{1e-5f};
};

constexpr NormCase kNormCases[] = {
    {false, true, 1},      {false, false, 1},     {true, true, 1},
    {true, false, 1},      {false, true, 2},      {true, true, 2},
    {true, true, 1, true}, {true, true, 2, true}, {false, true, 1, false, true}};

std::string Describe(const NormCase& c) {
  return std::string(c.gate_last ? "gated late"
                     : c.gated   ? "gated"
                     : c.of_sum  ? "of a sum"
                                 : "plain") +
         (c.weighted ? ", weighted" : "") + ", groups " + std::to_string(c.groups);
}

// Gates whose silu is 0 or 24, inputs and weights that bfloat16 holds: only the row's factor and
// the order of additions can differ from the reference.
TEST_F(NormLinearCudaTest, NearlyExactWhereNothingIsRounded) {
  for (const NormCase& c : kNormCases) {
    if (c.RunsAlone()) continue;  // its output is rounded
    for (const Shape shape : {Shape{16, 16}, Shape{33, 68}, Shape{67, 257}, Shape{48, 5120}}) {
      for (const int32_t rows : {1, 5, 16, 70}) {
        SCOPED_TRACE(Describe(c) + " " + Describe(DType::kBFloat16, shape, rows));
        std::vector<float> gate(rows * shape.in_dim), norm_weight(shape.in_dim);
        for (size_t i = 0; i < gate.size(); ++i) gate[i] = Dice(i, 11, 3) == 0 ? 0 : 24;
        for (size_t i = 0; i < norm_weight.size(); ++i) {
          norm_weight[i] = std::ldexp(1.0f, Dice(i, 12, 3) - 1);
        }
        ExpectNear(c, DType::kBFloat16, shape,
                   IntegerWeights(shape.out_dim * shape.in_dim, DType::kBFloat16, 1),
                   Integers(rows * shape.in_dim, 13, 1), gate, norm_weight, rows, 0);
      }
    }
  }
}

TEST_F(NormLinearCudaTest, MatchesReference) {
  for (const DType dtype : kDTypes) {
    const double rounding = dtype == DType::kFloat32    ? 0
                            : dtype == DType::kBFloat16 ? 0x1p-8
                                                        : 0x1p-11;
    for (const NormCase& c : kNormCases) {
      for (const Shape shape : {Shape{33, 68}, Shape{48, 1280}, Shape{67, 514}}) {
        for (const int32_t rows : {1, 5, 16, 70}) {
          SCOPED_TRACE(Describe(c) + " " + Describe(dtype, shape, rows));
          ExpectNear(c, dtype, shape, RandomWeights(shape.out_dim * shape.in_dim, dtype, 1),
                     RandomValues(rows * shape.in_dim, 2, -3, 3),
                     RandomValues(rows * shape.in_dim, 3, -4, 4), RandomValues(shape.in_dim, 4),
                     rows, rounding);
        }
      }
    }
  }
}

TEST_F(NormLinearCudaTest, BitsOfARowDependOnNothingElse) {
  constexpr int32_t kMostRows{150};
  for (const DType dtype : kDTypes) {
    for (const NormCase& c : kNormCases) {
      for (const Shape shape : {Shape{67, 514}, Shape{200, 2560}, Shape{768, 1536}}) {
        const DeviceArray<char> weight =
            Weights(RandomWeights(shape.out_dim * shape.in_dim, dtype, 1), dtype, shape);
        const std::vector<float> input = RandomValues(kMostRows * shape.in_dim, 2, -3, 3);
        const std::vector<float> gate = RandomValues(kMostRows * shape.in_dim, 3, -4, 4);
        const std::vector<float> norm_weight = RandomValues(shape.in_dim, 4);
        const std::vector<float> all =
            Run(c, dtype, shape, weight, input, gate, norm_weight, {}, kMostRows);
        for (const int32_t rows : {1, 2, 5, 8, 9, 16, 17, 64, 65}) {
          SCOPED_TRACE(Describe(c) + " " + Describe(dtype, shape, rows));
          std::vector<int32_t> index(rows);
          for (int32_t r = 0; r < rows; ++r) index[r] = Dice(r, rows, kMostRows);
          const std::vector<float> some =
              Run(c, dtype, shape, weight, input, gate, norm_weight, index, rows);
          for (int32_t r = 0; r < rows; ++r) {
            ASSERT_EQ(
                std::memcmp(some.data() + r * shape.out_dim, all.data() + index[r] * shape.out_dim,
                            shape.out_dim * sizeof(float)),
                0)
                << "row " << r;
          }
        }
      }
    }
  }
}

TEST_F(NormLinearCudaTest, ScaleIsRoundedOnItsOwn) {
  constexpr Shape kShape{200, 512};
  const DeviceArray<char> weight = Weights(
      RandomWeights(kShape.out_dim * kShape.in_dim, DType::kBFloat16, 1), DType::kBFloat16, kShape);
  const std::vector<float> norm_weight = RandomValues(kShape.in_dim, 4);
  const std::vector<float> scale = RandomValues(kShape.out_dim, 5, -3, 3);
  for (const NormCase& c : kNormCases) {
    for (const int32_t rows : {1, 5, 16, 70}) {
      SCOPED_TRACE(Describe(c) + " " + Describe(DType::kBFloat16, kShape, rows));
      const std::vector<float> input = RandomValues(rows * kShape.in_dim, 2, -3, 3);
      const std::vector<float> gate = RandomValues(rows * kShape.in_dim, 3, -4, 4);
      const auto run = [&](const std::vector<float>& factors) {
        return Run(c, DType::kBFloat16, kShape, weight, input, gate, norm_weight, {}, rows,
                   factors);
      };
      const std::vector<float> plain = run({}), scaled = run(scale);
      for (size_t i = 0; i < plain.size(); ++i) {
        ASSERT_EQ(scaled[i], plain[i] * scale[i % kShape.out_dim]) << i;
      }
    }
  }
}

// As for plain products.
TEST_F(NormLinearCudaTest, GenericKernelsHaveTheSameBits) {
  const int32_t compute_capability = ctx().cuda->compute_capability;
  for (const Shape shape : {Shape{40000, 64}, Shape{40000, 66}, Shape{67, 514}, Shape{768, 1536}}) {
    const DeviceArray<char> weight = Weights(
        RandomWeights(shape.out_dim * shape.in_dim, DType::kBFloat16, 1), DType::kBFloat16, shape);
    const std::vector<float> norm_weight = RandomValues(shape.in_dim, 4);
    for (const NormCase& c : kNormCases) {
      if (c.RunsAlone() || !c.weighted) continue;
      for (const int32_t rows : {1, 5, 16, 40}) {
        SCOPED_TRACE(Describe(c) + " " + Describe(DType::kBFloat16, shape, rows));
        const std::vector<float> input = RandomValues(rows * shape.in_dim, 2, -3, 3);
        const std::vector<float> gate = RandomValues(rows * shape.in_dim, 3, -4, 4);
        const auto run = [&] {
          return Run(c, DType::kBFloat16, shape, weight, input, gate, norm_weight, {}, rows);
        };
        const std::vector<float> own = run();
        ctx().cuda->compute_capability = 80;
        const std::vector<float> generic = run();
        ctx().cuda->compute_capability = compute_capability;
        ASSERT_EQ(std::memcmp(own.data(), generic.data(), own.size() * sizeof(float)), 0);
      }
    }
  }
}

// in_proj of a Mamba-1 mixer, the convolution of its first outputs, and x_proj.
struct MixerCase {
  Shape in_proj;
  int64_t conv_dim, x_proj_dim;

  std::string Name() const {
    return in_proj.Name() + ", " + std::to_string(conv_dim) + " convolved, x_proj of " +
           std::to_string(x_proj_dim);
  }
};

class NormLinearConvCudaTest : public LinearCudaTest {
 protected:
  // What ops(norm, in_proj, conv, x_proj) writes for sequences of `lengths` rows: both products,
  // the convolved rows and the ring.
  template <class Ops>
  std::vector<std::vector<float>> Run(const MixerCase& c, const std::vector<int32_t>& lengths,
                                      bool scaled, const Ops& ops) {
    const int64_t in_dim = c.in_proj.in_dim, out_dim = c.in_proj.out_dim;
    std::vector<SequenceRows> sequences;
    for (const int32_t length : lengths) {
      const auto slot = static_cast<int32_t>(sequences.size());
      sequences.push_back({.slot = slot, .num_rows = length, .consumed = kConsumed});
    }
    testing::HostRowPlan host_plan(sequences);
    const testing::DeviceRowPlan plan(host_plan.plan(), [&](const auto& v) { return Upload(v); });
    const int32_t rows = host_plan.num_rows();

    const DeviceArray<char> in_weight = RandomPacked(c.in_proj, 1);
    const DeviceArray<char> x_weight = RandomPacked({c.x_proj_dim, c.conv_dim}, 7);
    const DeviceArray<float> bias = Upload(RandomValues(out_dim, 2));
    const DeviceArray<float> scale = Upload(RandomValues(out_dim, 3, -3, 3));
    const DeviceArray<float> taps = Upload(RandomValues(kWidth * c.conv_dim, 4));
    const DeviceArray<float> conv_bias = Upload(RandomValues(c.conv_dim, 5));
    const DeviceArray<float> input = Upload(RandomValues(rows * in_dim, 6, -3, 3));
    const DeviceArray<float> ring = Upload(
        RandomValues(static_cast<int64_t>(lengths.size()) * kRingRows * c.conv_dim, 8, -3, 3));
    const DeviceArray<float> normed = Poisoned<float>(rows * in_dim);
    const DeviceArray<float> projected = Poisoned<float>(rows * out_dim);
    const DeviceArray<float> convolved = Poisoned<float>(rows * c.conv_dim);
    const DeviceArray<float> selected = Poisoned<float>(rows * c.x_proj_dim);

    const RmsNormParams norm = {.input = input.data(),
                                .gate = nullptr,
                                .weight = nullptr,
                                .output = normed.data(),
                                .dim = in_dim,
                                .group_dim = in_dim,
                                .input_stride = in_dim,
                                .gate_stride = 0,
                                .output_stride = in_dim,
                                .eps = 1e-5f,
                                .num_rows = plan.plan().num_rows,
                                .max_rows = rows};
    const LinearParams in_proj = {.weight = in_weight.data(),
                                  .weight_dtype = DType::kBFloat16,
                                  .bias = bias.data(),
                                  .scale = scaled ? scale.data() : nullptr,
                                  .input = normed.data(),
                                  .row_index = nullptr,
                                  .output = projected.data(),
                                  .in_dim = in_dim,
                                  .out_dim = out_dim,
                                  .input_stride = in_dim,
                                  .output_stride = out_dim,
                                  .accumulate = false,
                                  .num_rows = plan.plan().num_rows,
                                  .max_rows = rows};
    const CausalConvParams conv = {.input = projected.data(),
                                   .weight = taps.data(),
                                   .bias = conv_bias.data(),
                                   .output = convolved.data(),
                                   .ring = ring.data(),
                                   .dim = c.conv_dim,
                                   .width = kWidth,
                                   .input_stride = out_dim,
                                   .output_stride = c.conv_dim,
                                   .ring_rows = kRingRows,
                                   .plan = plan.plan()};
    LinearParams x_proj = in_proj;
    x_proj.weight = x_weight.data();
    x_proj.bias = x_proj.scale = nullptr;
    x_proj.input = convolved.data();
    x_proj.output = selected.data();
    x_proj.in_dim = x_proj.input_stride = c.conv_dim;
    x_proj.out_dim = x_proj.output_stride = c.x_proj_dim;
    ops(norm, in_proj, conv, x_proj);
    EXPECT_TRUE(projected.Intact() && convolved.Intact() && ring.Intact() && selected.Intact());
    return {projected.Download(), convolved.Download(), ring.Download(), selected.Download()};
  }

  // Fused or not, everything that is written has the same bits.
  void ExpectSameBits(const MixerCase& c, const std::vector<int32_t>& lengths, bool scaled) {
    const auto apart = Run(c, lengths, scaled, [&](auto& norm, auto& in_proj, auto& conv, auto& x) {
      NormLinear(ctx(), norm, in_proj);
      CausalConv(ctx(), conv);
      Linear(ctx(), x);
    });
    const auto three = Run(c, lengths, scaled, [&](auto& norm, auto& in_proj, auto& conv, auto& x) {
      NormLinearConv(ctx(), norm, in_proj, conv);
      Linear(ctx(), x);
    });
    const auto four = Run(c, lengths, scaled, [&](auto& norm, auto& in_proj, auto& conv, auto& x) {
      NormLinearConvLinear(ctx(), norm, in_proj, conv, x);
    });
    EXPECT_EQ(three, apart);
    EXPECT_EQ(four, apart);
  }

 private:
  static constexpr int64_t kWidth{4}, kRingRows{24};
  static constexpr int32_t kConsumed{17};  // a few rows more and the ring begins anew

  DeviceArray<char> RandomPacked(Shape shape, uint32_t seed) {
    return Weights(RandomWeights(shape.out_dim * shape.in_dim, DType::kBFloat16, seed),
                   DType::kBFloat16, shape);
  }
};

TEST_F(NormLinearConvCudaTest, FusedOrNotGivesTheSameBits) {
  for (const int32_t rows : {1, 5, 8, 9, 16, 17}) {
    for (const bool scaled : {false, true}) {
      SCOPED_TRACE(std::to_string(rows) + " rows" + (scaled ? ", scaled" : ""));
      ExpectSameBits({{90, 64}, 48, 20}, {rows}, scaled);
    }
  }
}

// On Hopper x_proj shares a launch with the rest of in_proj if a slice of in_proj has 9 to 40
// k-steps, x_proj has few tiles and all rows are one sequence's and fit into one token tile.
TEST_F(NormLinearConvCudaTest, XProjBesideInProjGivesTheSameBits) {
  constexpr MixerCase kCases[] = {{{192, 1024}, 96, 40},      // 8 k-steps
                                  {{192, 1040}, 96, 40},      // 9
                                  {{203, 1044}, 96, 33},      // edges within tiles and steps
                                  {{5120, 1280}, 2560, 112},  // more tiles than blocks
                                  {{5184, 1040}, 5136, 48},   // 41 of x_proj
                                  {{192, 2560}, 96, 40},      // 20
                                  {{192, 2564}, 96, 40},      // 21
                                  {{192, 5120}, 96, 40},      // 40
                                  {{192, 5124}, 96, 40},      // 41
                                  {{192, 1038}, 96, 40},      // narrow loads
                                  {{192, 1040}, 90, 40},     // convolved channels end within a tile
                                  {{192, 1040}, 192, 40},    // nothing behind them
                                  {{192, 1040}, 96, 2048}};  // an x_proj of many tiles
  const std::vector<int32_t> kLengths[] = {{1}, {5}, {8}, {9}, {17}, {3, 2}};
  for (const MixerCase& c : kCases) {
    for (const std::vector<int32_t>& lengths : kLengths) {
      SCOPED_TRACE(c.Name() + ", rows " + ::testing::PrintToString(lengths));
      ExpectSameBits(c, lengths, /*scaled=*/lengths[0] == 5);
    }
  }
}

}  // namespace

// Slices cover the k-steps once; needs no GPU.
TEST(LinearPolicyTest, SlicesCoverEveryStepOnce) {
  for (const int32_t k_steps : {1, 7, 8, 160, 321}) {
    EXPECT_EQ(SliceBegin(0, k_steps), 0);
    EXPECT_EQ(SliceBegin(kSlices, k_steps), k_steps);
    for (int32_t i = 0; i < kSlices; ++i) {
      const int32_t steps = SliceBegin(i + 1, k_steps) - SliceBegin(i, k_steps);
      EXPECT_GE(steps, 0);
      EXPECT_LE(steps, MaxSliceSteps(k_steps));
    }
  }
}

}  // namespace sidewinder
