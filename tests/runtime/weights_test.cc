#include "runtime/weights.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/safetensors_builder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::SafetensorsBuilder;
using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kIndex[] = "model.safetensors.index.json";

std::string One(const std::string& name, float value) {
  return SafetensorsBuilder().Add(name, {1}, {value}).Build();
}

std::vector<std::string> NamesOf(const WeightsReader& reader) {
  std::vector<std::string> names;
  for (const StoredTensor& tensor : reader.tensors()) names.push_back(tensor.name);
  return names;
}

float ValueOf(const StoredTensor* tensor) {
  float value = 0;
  if (tensor != nullptr) std::memcpy(&value, tensor->data, sizeof(value));
  return value;
}

TEST(WeightsReaderTest, ReadsSingleFile) {
  const TempFolder folder;
  const std::string path =
      folder.Write("model.safetensors",
                   SafetensorsBuilder().Add("b", {2}, {1, 2}).Add("a", {1, 1}, {3}).Build());
  folder.Write("other.safetensors", "ignored beside model.safetensors");
  SW_ASSERT_OK_AND_ASSIGN(const auto reader, WeightsReader::Open(folder.path()));
  EXPECT_THAT(NamesOf(*reader), ElementsAre("a", "b"));
  EXPECT_EQ(reader->total_bytes(), 12u);
  EXPECT_EQ(reader->name(), folder.path());
  const StoredTensor* a = reader->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->file, path);
  EXPECT_EQ(a->dtype, DType::kFloat32);
  EXPECT_THAT(a->shape, ElementsAre(1, 1));
  EXPECT_EQ(ValueOf(a), 3.0f);
  EXPECT_EQ(reader->Find("c"), nullptr);
  EXPECT_EQ(reader->Find(""), nullptr);
}

TEST(WeightsReaderTest, ReadsIndexedShards) {
  const TempFolder folder;
  folder.Write("x-1.safetensors", One("a", 1));
  folder.Write("x-2.safetensors", One("b", 2));
  folder.Write("stray.safetensors", One("a", 9));  // the index does not name it
  folder.Write(kIndex, R"({"metadata":{"total_size":8},
      "weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}})");
  SW_ASSERT_OK_AND_ASSIGN(const auto reader, WeightsReader::Open(folder.path()));
  EXPECT_THAT(NamesOf(*reader), ElementsAre("a", "b"));
  EXPECT_EQ(ValueOf(reader->Find("a")), 1.0f);
  EXPECT_EQ(ValueOf(reader->Find("b")), 2.0f);
}

TEST(WeightsReaderTest, TakesAllFilesWithoutAnIndex) {
  const TempFolder folder;
  folder.Write("p.safetensors", One("a", 1));
  folder.Write("q.safetensors", One("b", 2));
  folder.Write("q.safetensors.bak", "not one");
  SW_ASSERT_OK_AND_ASSIGN(const auto reader, WeightsReader::Open(folder.path()));
  EXPECT_THAT(NamesOf(*reader), ElementsAre("a", "b"));
}

TEST(WeightsReaderTest, RefusesATensorInTwoFiles) {
  const TempFolder folder;
  folder.Write("p.safetensors", One("a", 1));
  folder.Write("q.safetensors", One("a", 1));
  EXPECT_THAT(
      WeightsReader::Open(folder.path()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("\"a\""), HasSubstr("p.safetensors"), HasSubstr("q.safetensors"))));
}

TEST(WeightsReaderTest, NamesWhatIsMissing) {
  const TempFolder folder;
  EXPECT_THAT(WeightsReader::Open(folder / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(folder / "absent")));
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr(folder.path()), HasSubstr("model.safetensors"))));
  EXPECT_THAT(WeightsReader::Open(folder.Write("file", "x")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder / "file"), HasSubstr("not a folder"))));
}

TEST(WeightsReaderTest, SaysHowToConvertPickles) {
  for (const char* file : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const TempFolder folder;
    folder.Write(file, "x");
    EXPECT_THAT(WeightsReader::Open(folder.path()),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr(folder.path()), HasSubstr(file), HasSubstr("convert"),
                               HasSubstr("save_file"))));
  }
}

TEST(WeightsReaderTest, DamagedFilesAreNamed) {
  const TempFolder folder;
  folder.Write("model.safetensors", One("a", 1).substr(0, 20));
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.safetensors")));
  const TempFolder empty;
  empty.Write("model.safetensors", "");
  EXPECT_THAT(WeightsReader::Open(empty.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
  const TempFolder nested;
  std::filesystem::create_directory(nested / "model.safetensors");
  EXPECT_THAT(WeightsReader::Open(nested.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is a folder")));
}

class BadIndexTest : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(BadIndexTest, IsRefusedByName) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "sub");
  folder.Write("sub/x.safetensors", One("a", 1));
  folder.Write("x.safetensors", One("a", 1));
  folder.Write(".hidden.safetensors", One("a", 1));
  folder.Write(kIndex, GetParam().second);
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(kIndex)));
}

INSTANTIATE_TEST_SUITE_P(
    WeightsReader, BadIndexTest,
    ::testing::Values(
        std::pair{"NotJson", "{"}, std::pair{"NotAnObject", "[]"}, std::pair{"Null", "null"},
        std::pair{"NoMap", "{}"}, std::pair{"MapIsAList", R"({"weight_map":["a"]})"},
        std::pair{"MapIsEmpty", R"({"weight_map":{}})"},
        std::pair{"FileIsANumber", R"({"weight_map":{"a":1}})"},
        std::pair{"FileIsNull", R"({"weight_map":{"a":null}})"},
        std::pair{"FileIsEmpty", R"({"weight_map":{"a":""}})"},
        std::pair{"ParentFolder", R"({"weight_map":{"a":"../x.safetensors"}})"},
        std::pair{"Absolute", R"({"weight_map":{"a":"/tmp/x.safetensors"}})"},
        std::pair{"Subfolder", R"({"weight_map":{"a":"sub/x.safetensors"}})"},
        std::pair{"SameFolderSpelled", R"({"weight_map":{"a":"./x.safetensors"}})"},
        std::pair{"Backslash", R"({"weight_map":{"a":"..\\x.safetensors"}})"},
        std::pair{"NulByte", R"({"weight_map":{"a":"x.safetensors\u0000.safetensors"}})"},
        std::pair{"Dots", R"({"weight_map":{"a":".."}})"},
        std::pair{"Hidden", R"({"weight_map":{"a":".hidden.safetensors"}})"},
        std::pair{"OtherKind", R"({"weight_map":{"a":"passwd"}})"},
        std::pair{"Twice", R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})"},
        std::pair{"NotInItsFile", R"({"weight_map":{"a":"x.safetensors","b":"x.safetensors"}})"},
        std::pair{"NotListed", R"({"weight_map":{"b":"x.safetensors"}})"}),
    [](const auto& info) { return std::string(info.param.first); });

TEST(WeightsReaderTest, ShardsMustAgreeWithTheIndex) {
  const TempFolder folder;
  folder.Write("x.safetensors", One("a", 1));
  folder.Write("y.safetensors", SafetensorsBuilder().Add("b", {1}, {1}).Add("c", {1}, {1}).Build());
  folder.Write(kIndex, R"({"weight_map":{"a":"x.safetensors","z":"absent.safetensors"}})");
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr(kIndex), HasSubstr("absent.safetensors"))));
  folder.Write(kIndex, R"({"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})");
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"c\""), HasSubstr("does not list"))));
  folder.Write(kIndex,
               R"({"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"x.safetensors"}})");
  EXPECT_THAT(WeightsReader::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("y.safetensors"), HasSubstr("\"c\""),
                             HasSubstr("places in \"x.safetensors\""))));
}

TEST(WeightsReaderTest, DataOutlivesTheFolder) {
  auto folder = std::make_unique<TempFolder>();
  folder->Write("model.safetensors", One("a", 7));
  SW_ASSERT_OK_AND_ASSIGN(const auto reader, WeightsReader::Open(folder->path()));
  folder.reset();
  EXPECT_EQ(ValueOf(reader->Find("a")), 7.0f);
}

TEST(WeightsReaderTest, FromMemory) {
  auto values = std::make_shared<std::vector<float>>(3, 5.0f);
  const std::weak_ptr<std::vector<float>> alive = values;
  StoredTensor tensor;
  tensor.name = "a";
  tensor.file = "memory";
  tensor.dtype_name = "F32";
  tensor.dtype = DType::kFloat32;
  tensor.shape = {3};
  tensor.data = reinterpret_cast<const std::byte*>(values->data());
  tensor.size = 12;
  EXPECT_THAT(WeightsReader::FromMemory({tensor, tensor}, values),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"a\"")));
  SW_ASSERT_OK_AND_ASSIGN(auto reader, WeightsReader::FromMemory({tensor}, std::move(values)));
  values.reset();
  ASSERT_FALSE(alive.expired());
  EXPECT_EQ(ValueOf(reader->Find("a")), 5.0f);
  reader.reset();
  EXPECT_TRUE(alive.expired());
}

uint64_t FingerprintOf(const std::vector<std::pair<std::string, std::string>>& files) {
  const TempFolder folder;
  for (const auto& [name, bytes] : files) folder.Write(name, bytes);
  const auto reader = WeightsReader::Open(folder.path());
  return reader.ok() ? (*reader)->Fingerprint() : 0;
}

TEST(WeightsReaderTest, FingerprintTellsWeightsApart) {
  const auto whole = [](const SafetensorsBuilder& builder) {
    return FingerprintOf({{"model.safetensors", builder.Build()}});
  };
  const uint64_t base = whole(SafetensorsBuilder().Add("a", {1, 2}, {1, 2}).Add("b", {1}, {3}));
  std::set<uint64_t> different{base};
  different.insert(whole(SafetensorsBuilder().Add("a", {1, 2}, {1, 2}).Add("b", {1}, {4})));
  different.insert(whole(SafetensorsBuilder().Add("a", {2, 1}, {1, 2}).Add("b", {1}, {3})));
  different.insert(whole(SafetensorsBuilder().Add("a", {1, 2}, {1, 2}).Add("c", {1}, {3})));
  different.insert(whole(SafetensorsBuilder().Add("a", {1, 2}, {1, 2})));
  different.insert(whole(SafetensorsBuilder()
                             .Add("a", {1, 2}, {1, 2})
                             .Add("b", "I32", {1}, testing::BytesOf<float>({3}))));
  EXPECT_EQ(different.size(), 6u);
  // The same tensors in another order or split into files.
  EXPECT_EQ(whole(SafetensorsBuilder().Add("b", {1}, {3}).Add("a", {1, 2}, {1, 2})), base);
  EXPECT_EQ(
      FingerprintOf({{"p.safetensors", One("b", 3)},
                     {"q.safetensors", SafetensorsBuilder().Add("a", {1, 2}, {1, 2}).Build()}}),
      base);
}

TEST(WeightsReaderTest, FingerprintSamplesLargeTensors) {
  std::vector<float> values(100'000, 1.0f);
  const auto fingerprint = [&values] {
    return FingerprintOf(
        {{"model.safetensors", SafetensorsBuilder().Add("a", {100'000}, values).Build()}});
  };
  const uint64_t base = fingerprint();
  EXPECT_NE(base, 0u);
  values.front() = 2;
  const uint64_t front = fingerprint();
  EXPECT_NE(front, base);
  values.back() = 2;
  EXPECT_NE(fingerprint(), front);
}

}  // namespace
}  // namespace sidewinder
