#include "runtime/safetensors.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/safetensors_builder.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::IsOk;
using ::sidewinder::testing::SafetensorsBuilder;
using ::sidewinder::testing::SafetensorsFile;
using ::sidewinder::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Parses a copy of exactly the file's size, so that AddressSanitizer sees any step beyond it.
absl::StatusOr<SafetensorsHeader> Parse(const std::string& file) {
  const std::unique_ptr<std::byte[]> copy(new std::byte[file.size()]);
  std::memcpy(copy.get(), file.data(), file.size());
  return ParseSafetensors({copy.get(), file.size()}, "dir/x.safetensors");
}

SafetensorsBuilder Small() {
  return SafetensorsBuilder()
      .Add("b", "BF16", {2, 3}, std::string(12, 'b'))
      .Add("a", {2}, {1.0f, 2.0f})
      .Add("none", "F16", {0, 5}, "")
      .Add("scalar", "I64", {}, std::string(8, 's'));
}

TEST(SafetensorsTest, ReadsEntries) {
  const std::string file = Small().Build();
  SW_ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header, Parse(file));
  ASSERT_EQ(header.entries.size(), 4u);
  EXPECT_THAT(header.metadata, IsEmpty());

  const SafetensorsEntry& b = header.entries[0];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.dtype_name, "BF16");
  EXPECT_EQ(b.dtype, DType::kBFloat16);
  EXPECT_THAT(b.shape, ElementsAre(2, 3));
  EXPECT_EQ(file.substr(b.offset, b.size), std::string(12, 'b'));

  EXPECT_EQ(header.entries[1].dtype, DType::kFloat32);
  const SafetensorsEntry& none = header.entries[2];
  EXPECT_EQ(none.name, "none");
  EXPECT_EQ(none.size, 0u);
  const SafetensorsEntry& scalar = header.entries[3];
  EXPECT_EQ(scalar.dtype, std::nullopt);
  EXPECT_EQ(scalar.dtype_name, "I64");
  EXPECT_THAT(scalar.shape, IsEmpty());
  EXPECT_EQ(scalar.offset + scalar.size, file.size());
}

TEST(SafetensorsTest, ReadsMetadataAndEmptyFiles) {
  SW_ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header,
                          Parse(SafetensorsFile(R"({"__metadata__":{"format":"pt"}})", "")));
  EXPECT_THAT(header.entries, IsEmpty());
  EXPECT_THAT(header.metadata, ElementsAre(::testing::Pair("format", "pt")));
  EXPECT_THAT(Parse(SafetensorsFile("{}", "")), IsOk());
  EXPECT_THAT(Parse(SafetensorsFile("{}   ", "")), IsOk());
}

TEST(SafetensorsTest, RefusesEveryTruncation) {
  const std::string file = Small().Build();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THAT(Parse(file.substr(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dir/x.safetensors")))
        << size;
  }
  EXPECT_THAT(Parse(file + "x"), StatusIs(absl::StatusCode::kInvalidArgument,
                                          AllOf(HasSubstr("dir/x.safetensors"),
                                                HasSubstr("1 bytes follow the last tensor"))));
}

// Any change of one byte of the header gives an error or a header that is still consistent.
TEST(SafetensorsTest, SurvivesEveryChangedByte) {
  const std::string original = Small().Build();
  for (size_t i = 0; i < original.size() - 28; ++i) {
    for (const char replacement : {'\0', '\xff', '"', '0', '9', '-', '{', ']', ',', 'e', '\\'}) {
      std::string file = original;
      file[i] = replacement;
      const auto header = Parse(file);
      if (!header.ok()) continue;
      for (const SafetensorsEntry& entry : header->entries) {
        EXPECT_LE(entry.offset + entry.size, file.size()) << i << replacement;
      }
    }
  }
}

TEST(SafetensorsTest, ChecksHeaderLength) {
  const auto with_length = [](uint64_t length) {
    std::string file = Small().Build();
    std::memcpy(file.data(), &length, sizeof(length));
    return file;
  };
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{10'000}, kMaxSafetensorsHeaderBytes + 1,
        uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    EXPECT_THAT(Parse(with_length(length)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("dir/x.safetensors"), HasSubstr("header length"),
                               HasSubstr(std::to_string(length)), HasSubstr("legal are 2 to"))))
        << length;
  }
}

struct BadHeader {
  const char* what;
  const char* header;
  size_t data_size;
  std::vector<const char*> message;  // each a part of it
};

void PrintTo(const BadHeader& bad, std::ostream* out) { *out << bad.what; }

class BadHeaderTest : public ::testing::TestWithParam<BadHeader> {};

TEST_P(BadHeaderTest, IsRefusedByName) {
  const auto header =
      Parse(SafetensorsFile(GetParam().header, std::string(GetParam().data_size, 'x')));
  EXPECT_THAT(header, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dir/x.safetensors")));
  for (const char* part : GetParam().message) {
    EXPECT_THAT(std::string(header.status().message()), HasSubstr(part));
  }
}

const BadHeader kBadHeaders[] = {
    {"NotJson", "xxxx", 0, {"header", "not valid JSON"}},
    {"NotAnObject", "[1]", 0, {"the header is [1]", "not a JSON object"}},
    {"Null", "null", 0, {"not a JSON object"}},
    {"InvalidUtf8", "{\"\xff\":1}", 0, {"not valid JSON"}},
    {"EntryNotAnObject", R"({"w":3})", 0, {"\"w\"", "is 3", "not an object"}},
    {"EntryNull", R"({"w":null})", 0, {"\"w\"", "not an object"}},
    {"DuplicateTensor",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
     R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     8,
     {"\"w\" occurs twice"}},
    {"DuplicateField",
     R"({"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})",
     4,
     {"\"shape\" occurs twice"}},
    {"MetadataNotAnObject", R"({"__metadata__":[]})", 0, {"__metadata__", "not an object"}},
    {"MetadataNotStrings", R"({"__metadata__":{"a":1}})", 0, {"__metadata__", "\"a\" is 1"}},
    {"NoDtype", R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4, {"\"w\"", "dtype", "missing"}},
    {"DtypeNotAString",
     R"({"w":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "dtype", "not a string"}},
    {"UnknownDtype",
     R"({"w":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"Q4\"", "legal are F32, F16, BF16"}},
    {"LowerCaseDtype",
     R"({"w":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"f32\""}},
    {"NoShape", R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4, {"\"w\"", "shape", "missing"}},
    {"ShapeNotAList",
     R"({"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"shape\" is 1"}},
    {"NegativeShape",
     R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"shape\"", "-1", "legal are integers from 0"}},
    {"FractionalShape",
     R"({"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"shape\"", "1.0"}},
    {"TextShape",
     R"({"w":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"shape\""}},
    {"HugeShape",
     R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "\"shape\"", "18446744073709551615"}},
    {"OverflowingShape",
     R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
     0,
     {"\"w\"", "[4294967296, 4294967296]", "2^63"}},
    {"OverflowingByElementSize",
     R"({"w":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
     0,
     {"\"w\"", "2^63"}},
    {"OverflowHiddenByZero",
     R"({"w":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})",
     0,
     {"\"w\"", "2^63"}},
    {"TooManyDimensions",
     R"({"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "9 dimensions", "legal are 0 to 8"}},
    {"NoOffsets", R"({"w":{"dtype":"F32","shape":[1]}})", 4, {"\"w\"", "data_offsets", "missing"}},
    {"OneOffset",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4]}})",
     4,
     {"\"w\"", "1 entries"}},
    {"ThreeOffsets",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})",
     8,
     {"\"w\"", "3 entries"}},
    {"NegativeOffset",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})",
     4,
     {"\"w\"", "data_offsets", "-4"}},
    {"ReversedOffsets",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})",
     4,
     {"\"w\"", "[4, 0]", "begin <= end"}},
    {"OffsetBeyondTheFile",
     R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
     4,
     {"\"w\"", "[0, 8]", "<= 4"}},
    {"OffsetNearTheLimit",
     R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[9223372036854775803,9223372036854775807]}})",
     4,
     {"\"w\"", "data_offsets"}},
    {"WrongSize",
     R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "spans 4 bytes", "F32 [2] takes 8"}},
    {"Overlap",
     R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
     R"("w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
     12,
     {"\"w\"", "overlapping", "\"v\""}},
    {"SameBytesTwice",
     R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
     R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     4,
     {"\"w\"", "overlapping", "\"v\""}},
    {"GapAtTheStart",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     8,
     {"\"w\"", "gap", "the header"}},
    {"GapBetween",
     R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
     R"("w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
     12,
     {"\"w\"", "gap", "\"v\""}},
    {"EmptyTensorInsideAnother",
     R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
     R"("w":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
     8,
     {"\"w\"", "overlapping"}},
    {"BytesAtTheEnd",
     R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     7,
     {"3 bytes follow"}},
};

INSTANTIATE_TEST_SUITE_P(Safetensors, BadHeaderTest, ::testing::ValuesIn(kBadHeaders),
                         [](const auto& info) { return std::string(info.param.what); });

TEST(SafetensorsTest, DeepHeaderIsRefused) {
  std::string header = R"({"w":)";
  for (int i = 0; i < 200'000; ++i) header += "[";
  EXPECT_FALSE(Parse(SafetensorsFile(header, "")).ok());
}

TEST(SafetensorsTest, EscapesNamesInMessages) {
  EXPECT_THAT(Parse(SafetensorsFile(R"({"a\n\u001b[31m":3})", "")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a\\n\\033[31m")));
}

}  // namespace
}  // namespace sidewinder
