#include "runtime/npy.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/npy_reader.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::NpyMatrix;
using ::sidewinder::testing::ReadFile;
using ::sidewinder::testing::ReadNpy;
using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

size_t FilesIn(const TempFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

TEST(NpyWriterTest, WritesRowsAsTheyCome) {
  const TempFolder folder;
  const std::string path = folder / "x.npy";
  SW_ASSERT_OK_AND_ASSIGN(NpyWriter writer, NpyWriter::Create(path, 3, 2));
  SW_EXPECT_OK(writer.Append({1, 2}));
  SW_EXPECT_OK(writer.Append({}));
  SW_EXPECT_OK(writer.Append({3, 4, 5, 6}));
  EXPECT_FALSE(std::filesystem::exists(path)) << "the file must not appear half-written";
  SW_ASSERT_OK(writer.Finish());
  const NpyMatrix matrix = ReadNpy(path);
  EXPECT_EQ(matrix.rows, 3);
  EXPECT_EQ(matrix.cols, 2);
  EXPECT_THAT(matrix.values, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(FilesIn(folder), 1u);
}

TEST(NpyWriterTest, HeaderIsWhatNumpyWrites) {
  const TempFolder folder;
  for (const int64_t rows : {0, 1, 999'999}) {
    SW_ASSERT_OK_AND_ASSIGN(NpyWriter writer, NpyWriter::Create(folder / "x.npy", rows, 0));
    SW_ASSERT_OK(writer.Finish());
    const std::string bytes = ReadFile(folder / "x.npy");
    EXPECT_THAT(bytes, StartsWith(std::string("\x93NUMPY\x01\x00", 8)));
    EXPECT_EQ(bytes.size() % 64, 0u);
    EXPECT_EQ(bytes.back(), '\n');
    EXPECT_EQ(bytes.size(),
              10u + static_cast<uint8_t>(bytes[8]) + 256u * static_cast<uint8_t>(bytes[9]));
    EXPECT_THAT(bytes.substr(10), StartsWith("{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                                             std::to_string(rows) + ", 0), }"));
  }
}

TEST(NpyWriterTest, ReplacesAnOlderFile) {
  const TempFolder folder;
  const std::string path = folder.Write("x.npy", "old");
  {
    SW_ASSERT_OK_AND_ASSIGN(NpyWriter abandoned, NpyWriter::Create(path, 1, 1));
    SW_EXPECT_OK(abandoned.Append({1}));
    EXPECT_EQ(FilesIn(folder), 2u);
  }
  EXPECT_EQ(ReadFile(path), "old");
  EXPECT_EQ(FilesIn(folder), 1u);
  SW_ASSERT_OK_AND_ASSIGN(NpyWriter first, NpyWriter::Create(path, 1, 1));
  SW_ASSERT_OK_AND_ASSIGN(NpyWriter writer, NpyWriter::Create(path, 1, 1));  // both at once
  NpyWriter moved = std::move(writer);
  SW_EXPECT_OK(moved.Append({5}));
  SW_ASSERT_OK(moved.Finish());
  EXPECT_THAT(ReadNpy(path).values, ElementsAre(5));
}

TEST(NpyWriterTest, RefusesWrongAmounts) {
  const TempFolder folder;
  SW_ASSERT_OK_AND_ASSIGN(NpyWriter writer, NpyWriter::Create(folder / "x.npy", 2, 3));
  EXPECT_THAT(writer.Append({1, 2}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder / "x.npy"), HasSubstr("2 values"))));
  EXPECT_THAT(writer.Append(std::vector<float>(9)), StatusIs(absl::StatusCode::kInvalidArgument));
  SW_EXPECT_OK(writer.Append({1, 2, 3}));
  EXPECT_THAT(writer.Finish(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(folder / "x.npy"), HasSubstr("3 values of [2, 3]"))));
  SW_EXPECT_OK(writer.Append({4, 5, 6}));
  EXPECT_THAT(writer.Append({7, 8, 9}), StatusIs(absl::StatusCode::kInvalidArgument));
  SW_EXPECT_OK(writer.Finish());

  SW_ASSERT_OK_AND_ASSIGN(NpyWriter no_columns, NpyWriter::Create(folder / "y.npy", 2, 0));
  EXPECT_THAT(no_columns.Append({1}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(NpyWriterTest, RefusesWrongShapes) {
  const TempFolder folder;
  constexpr int64_t kHuge = int64_t{1} << 62;
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
           {-1, 1}, {1, -1}, {kHuge, 1}, {1, kHuge}, {int64_t{1} << 32, int64_t{1} << 32}}) {
    EXPECT_THAT(NpyWriter::Create(folder / "x.npy", rows, cols),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(folder / "x.npy"), HasSubstr(std::to_string(rows)))));
  }
  EXPECT_EQ(FilesIn(folder), 0u);
}

TEST(NpyWriterTest, NamesAPathThatCannotBeWritten) {
  const TempFolder folder;
  EXPECT_THAT(NpyWriter::Create(folder / "absent/x.npy", 1, 1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(folder / "absent/x.npy")));
  std::filesystem::create_directory(folder / "x.npy");
  SW_ASSERT_OK_AND_ASSIGN(NpyWriter writer, NpyWriter::Create(folder / "x.npy", 0, 0));
  EXPECT_THAT(writer.Finish().message(), HasSubstr(folder / "x.npy"));
}

}  // namespace
}  // namespace sidewinder
