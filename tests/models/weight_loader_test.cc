#include "models/weight_loader.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/float_convert.h"
#include "tests/testing/model_goldens.h"
#include "tests/testing/safetensors_builder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::BytesOf;
using ::sidewinder::testing::SafetensorsBuilder;
using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::shared_ptr<const WeightsReader> Reader(const std::string& file) {
  const TempFolder folder;
  folder.Write("model.safetensors", file);
  auto reader = WeightsReader::Open(folder.path());
  SW_CHECK(reader.ok()) << reader.status();
  return *std::move(reader);
}

template <class T>
std::vector<T> Values(const WeightView& view) {
  std::vector<T> values(view.size / sizeof(T));
  std::memcpy(values.data(), view.data, view.size);
  return values;
}

TEST(WeightLoaderTest, MapsMatricesAndWidensVectors) {
  const auto reader = Reader(SafetensorsBuilder()
                                 .Add("f", {2, 1}, {1.5f, -2.0f})
                                 .Add("b", "BF16", {2}, BytesOf<uint16_t>({0x3f80, 0xc000}))
                                 .Add("h", "F16", {1, 1, 2}, BytesOf<uint16_t>({0x3c00, 0xc000}))
                                 .Build());
  WeightLoader loader(reader);
  SW_ASSERT_OK_AND_ASSIGN(const WeightView f, loader.Tensor("f", {2, 1}));
  EXPECT_EQ(f.data, reader->Find("f")->data) << "must stay mapped";
  EXPECT_EQ(f.dtype, DType::kFloat32);
  SW_ASSERT_OK_AND_ASSIGN(const WeightView b, loader.Tensor("b", {2}));
  EXPECT_EQ(b.data, reader->Find("b")->data);
  EXPECT_EQ(b.dtype, DType::kBFloat16);
  EXPECT_THAT(*loader.Vector("f", {2, 1}), ElementsAre(1.5f, -2.0f));
  EXPECT_THAT(*loader.Vector("b", {2}), ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(*loader.Vector("h", {1, 1, 2}), ElementsAre(1.0f, -2.0f));
  SW_ASSERT_OK_AND_ASSIGN(const auto storage, std::move(loader).Finish());
  EXPECT_EQ(storage->mapped_bytes, 12u);
  EXPECT_EQ(storage->converted_bytes, 0u);
}

TEST(WeightLoaderTest, NamesWhatIsWrong) {
  WeightLoader loader(Reader(SafetensorsBuilder()
                                 .Add("w", {2, 3}, std::vector<float>(6))
                                 .Add("i", "I64", {1}, "12345678")
                                 .Build()));
  EXPECT_THAT(
      loader.Tensor("absent", {4, 5}),
      StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("\"absent\""), HasSubstr("[4, 5]"))));
  EXPECT_THAT(loader.Tensor({"one", "two"}, {1}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"one\" or \"two\"")));
  for (const WeightLoader::Shape& shape :
       std::vector<WeightLoader::Shape>{{3, 2}, {6}, {2, 3, 1}, {}, {2, 4}}) {
    for (const absl::Status& status :
         {loader.Tensor("w", shape).status(), loader.Vector("w", shape).status(),
          loader.OptionalTensor("w", shape).status(), loader.OptionalVector("w", shape).status()}) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                   AllOf(HasSubstr("model.safetensors"), HasSubstr("\"w\""),
                                         HasSubstr("is [2, 3]"), HasSubstr("implies ["))));
    }
  }
  EXPECT_THAT(loader.Tensor("i", {1}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"i\""), HasSubstr("I64"), HasSubstr("legal are F32"))));
}

TEST(WeightLoaderTest, TakesTheFirstNameThatExists) {
  WeightLoader loader(
      Reader(SafetensorsBuilder().Add("two", {1}, {2}).Add("three", {1}, {3}).Build()));
  EXPECT_TRUE(loader.Has({"one", "two"}));
  EXPECT_FALSE(loader.Has("one"));
  EXPECT_THAT(*loader.Vector({"one", "two", "three"}, {1}), ElementsAre(2.0f));
  EXPECT_THAT(*loader.Vector({"three", "two"}, {1}), ElementsAre(3.0f));
}

TEST(WeightLoaderTest, OptionalTensors) {
  WeightLoader loader(Reader(SafetensorsBuilder().Add("w", {1}, {2}).Build()));
  SW_ASSERT_OK_AND_ASSIGN(const WeightView absent, loader.OptionalTensor("x", {1}));
  EXPECT_FALSE(absent);
  EXPECT_THAT(*loader.OptionalVector("x", {1}), IsEmpty());
  SW_ASSERT_OK_AND_ASSIGN(const WeightView present, loader.OptionalTensor("w", {1}));
  EXPECT_TRUE(present);
  EXPECT_THAT(*loader.OptionalVector("w", {1}), ElementsAre(2.0f));
}

TEST(WeightLoaderTest, SurplusTensorsAreNamed) {
  SafetensorsBuilder builder;
  builder.Add("w", {1}, {2}).Add("layers.0.rotary_emb.inv_freq", {1}, {2});
  {
    WeightLoader loader(Reader(builder.Build()));
    SW_EXPECT_OK(loader.Vector("w", {1}));
    SW_EXPECT_OK(std::move(loader).Finish());
  }
  for (int i = 0; i < 20; ++i) builder.Add(absl::StrCat("extra.", i + 10), {1, 1}, {2});
  WeightLoader loader(Reader(builder.Build()));
  SW_EXPECT_OK(loader.Vector("w", {1}));
  EXPECT_THAT(std::move(loader).Finish(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("20 tensors"), HasSubstr("\"extra.10\" [1, 1]"),
                             HasSubstr("model.safetensors"), Not(HasSubstr("extra.29")),
                             Not(HasSubstr("inv_freq")))));
}

TEST(WeightLoaderTest, IgnoredTensorsMayBeLeft) {
  SafetensorsBuilder builder;
  builder.Add("w", {1}, {2}).Add("mtp.norm", {1}, {2}).Add("x.mtp.norm", {1}, {2});
  WeightLoader loader(Reader(builder.Build()));
  loader.Ignore("mtp.");
  SW_EXPECT_OK(loader.Vector("w", {1}));
  EXPECT_THAT(std::move(loader).Finish(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("1 tensors"), HasSubstr("\"x.mtp.norm\""))));
}

TEST(WeightLoaderTest, StacksAndReordersRows) {
  const auto reader = Reader(SafetensorsBuilder()
                                 .Add("a", {2, 2}, {1, 2, 3, 4})
                                 .Add("b", "BF16", {1, 2}, BytesOf<uint16_t>({0x40a0, 0x40c0}))
                                 .Build());
  WeightLoader loader(reader);
  SW_ASSERT_OK_AND_ASSIGN(const WeightView stacked, loader.Stacked({"a", "b"}, {2, 1}, 2));
  SW_ASSERT_OK_AND_ASSIGN(const WeightView reordered,
                          loader.Reordered({"a", "b"}, {2, 1}, 2, {1, 2, 0}));
  SW_ASSERT_OK_AND_ASSIGN(const WeightView one, loader.Reordered({"a"}, {2}, 2, {1, 0}));
  EXPECT_THAT(Values<float>(stacked), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Values<float>(reordered), ElementsAre(3, 4, 5, 6, 1, 2));
  EXPECT_THAT(Values<float>(one), ElementsAre(3, 4, 1, 2));
  EXPECT_THAT(loader.Reordered({"a", "b"}, {2, 2}, 2, {0, 1, 2, 3}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"b\" is [1, 2]")));
}

TEST(WeightLoaderTest, ConvertsMatrices) {
  const std::vector<float> values = {1.0f, 1.00390625f, -3.0e5f, 0x1p-25f, 0.1f};
  std::vector<uint16_t> brain, half;
  for (float value : values) {
    brain.push_back(FloatToBFloat16(value));
    half.push_back(FloatToFloat16(value));
  }
  const auto reader = Reader(SafetensorsBuilder()
                                 .Add("f", {5}, values)
                                 .Add("b", "BF16", {5}, BytesOf(brain))
                                 .Add("h", "F16", {5}, BytesOf(half))
                                 .Build());
  const auto load = [&reader](const char* name, DType dtype) {
    WeightLoader loader(reader, {.matrix_dtype = dtype});
    for (const char* other : {"f", "b", "h"}) SW_EXPECT_OK(loader.Vector(other, {5}));
    const absl::StatusOr<WeightView> view = loader.Tensor(name, {5});
    SW_CHECK(view.ok()) << view.status();
    EXPECT_EQ(view->dtype, dtype);
    const auto storage = std::move(loader).Finish();
    SW_CHECK(storage.ok()) << storage.status();
    std::vector<float> widened;
    if (dtype == DType::kFloat32) {
      widened = Values<float>(*view);
    } else {
      for (uint16_t bits : Values<uint16_t>(*view)) {
        widened.push_back(dtype == DType::kBFloat16 ? BFloat16ToFloat(bits) : Float16ToFloat(bits));
      }
    }
    return widened;
  };
  EXPECT_EQ(load("f", DType::kFloat32), values);
  EXPECT_THAT(load("f", DType::kBFloat16),
              ElementsAre(1.0f, 1.0f, -299008.0f, 0x1p-25f, 0.10009765625f));
  EXPECT_THAT(load("f", DType::kFloat16),
              ElementsAre(1.0f, 1.00390625f, -INFINITY, 0.0f, 0.0999755859375f));
  EXPECT_THAT(load("b", DType::kFloat32),
              ElementsAre(1.0f, 1.0f, -299008.0f, 0x1p-25f, 0.10009765625f));
  EXPECT_THAT(load("b", DType::kFloat16), ElementsAre(1.0f, 1.0f, -INFINITY, 0.0f, 0.10009765625f));
  EXPECT_THAT(load("h", DType::kBFloat16),
              ElementsAre(1.0f, 1.0f, -INFINITY, 0.0f, 0.10009765625f));
}

TEST(WeightLoaderTest, CopiesMisalignedMatrices) {
  for (int spaces = 0; spaces < 4; ++spaces) {
    const auto reader = Reader(SafetensorsBuilder().Add("w", {2}, {1, 2}).Build(spaces));
    WeightLoader loader(reader);
    SW_ASSERT_OK_AND_ASSIGN(const WeightView view, loader.Tensor("w", {2}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % sizeof(float), 0u);
    EXPECT_THAT(Values<float>(view), ElementsAre(1, 2));
    EXPECT_THAT(*loader.Vector("w", {2}), ElementsAre(1, 2));
  }
}

TEST(WeightLoaderTest, StorageKeepsTheDataAlive) {
  WeightView mapped, converted;
  std::shared_ptr<const WeightStorage> storage;
  {
    WeightLoader loader(Reader(SafetensorsBuilder()
                                   .Add("f", {1}, {7})
                                   .Add("h", "F16", {1}, BytesOf<uint16_t>({0x4700}))
                                   .Build()),
                        {.matrix_dtype = DType::kFloat32});
    mapped = *loader.Tensor("f", {1});
    converted = *loader.Tensor("h", {1});
    storage = *std::move(loader).Finish();
  }
  EXPECT_THAT(Values<float>(mapped), ElementsAre(7.0f));
  EXPECT_THAT(Values<float>(converted), ElementsAre(7.0f));
  EXPECT_EQ(storage->mapped_bytes, 4u);
  EXPECT_EQ(storage->converted_bytes, 4u);
}

TEST(WeightLoaderTest, FingerprintDependsOnWeightsAndType) {
  const auto fingerprint = [](float value, WeightLoaderOptions options) {
    WeightLoader loader(Reader(SafetensorsBuilder().Add("w", {1}, {value}).Build()), options);
    SW_EXPECT_OK(loader.Tensor("w", {1}));
    return (*std::move(loader).Finish())->figures.fingerprint;
  };
  const uint64_t base = fingerprint(1, {});
  EXPECT_EQ(fingerprint(1, {}), base);
  EXPECT_NE(fingerprint(2, {}), base);
  EXPECT_NE(fingerprint(1, {.matrix_dtype = DType::kBFloat16}), base);
  EXPECT_NE(fingerprint(1, {.matrix_dtype = DType::kFloat16}),
            fingerprint(1, {.matrix_dtype = DType::kBFloat16}));
}

TEST(WeightLoaderTest, ReadsFoldersThatTransformersWrote) {
  for (const testing::GoldenModel& model : testing::ReadModelGoldens("cases.json")) {
    SW_ASSERT_OK_AND_ASSIGN(auto reader, WeightsReader::Open(model.folder));
    EXPECT_EQ(reader->Find("lm_head.weight") == nullptr, model.tied) << model.name;
    WeightLoader loader(std::move(reader));
    EXPECT_TRUE(loader.Has("backbone.norm_f.weight")) << model.name;
    EXPECT_TRUE(loader.Has({"backbone.embeddings.weight", "backbone.embedding.weight"}));
    EXPECT_THAT(std::move(loader).Finish(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"backbone.")));
  }
}

}  // namespace
}  // namespace sidewinder
