#include "runtime/mapped_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(MappedFileTest, MapsWholeFile) {
  const TempFolder folder;
  const std::string bytes = std::string(10'000, 'x') + '\0' + "end";
  const std::string path = folder.Write("file", bytes);
  SW_ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path));
  EXPECT_EQ(file.path(), path);
  EXPECT_EQ(file.size(), bytes.size());
  EXPECT_EQ(std::string(file.text()), bytes);
  EXPECT_EQ(file.bytes().data(), file.data());
}

TEST(MappedFileTest, SurvivesDeletionOfTheFile) {
  const TempFolder folder;
  const std::string path = folder.Write("file", "still here");
  SW_ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path));
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ(std::string(file.text()), "still here");
}

TEST(MappedFileTest, Moves) {
  const TempFolder folder;
  SW_ASSERT_OK_AND_ASSIGN(MappedFile a, MappedFile::Open(folder.Write("a", "aaa")));
  SW_ASSERT_OK_AND_ASSIGN(MappedFile b, MappedFile::Open(folder.Write("b", "b")));
  MappedFile moved = std::move(a);
  EXPECT_EQ(std::string(moved.text()), "aaa");
  moved = std::move(b);
  EXPECT_EQ(std::string(moved.text()), "b");
  EXPECT_EQ(moved.path(), folder / "b");
}

TEST(MappedFileTest, AdviceIsCutToTheFile) {
  const TempFolder folder;
  SW_ASSERT_OK_AND_ASSIGN(const MappedFile file,
                          MappedFile::Open(folder.Write("file", std::string(9000, 'x'))));
  for (const auto advice :
       {MappedFile::Advice::kNormal, MappedFile::Advice::kSequential, MappedFile::Advice::kRandom,
        MappedFile::Advice::kWillNeed, MappedFile::Advice::kDontNeed}) {
    file.Advise(advice);
    file.Advise(advice, 5000, 10);
    file.Advise(advice, 5000, SIZE_MAX);
    file.Advise(advice, 8999, 0);
    file.Advise(advice, 9000, 1);
    file.Advise(advice, SIZE_MAX, SIZE_MAX);
    EXPECT_EQ(std::string(file.text()), std::string(9000, 'x'));
  }
}

TEST(MappedFileTest, NamesWhatCannotBeMapped) {
  const TempFolder folder;
  EXPECT_THAT(MappedFile::Open(folder / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(folder / "absent")));
  EXPECT_THAT(MappedFile::Open(""), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(MappedFile::Open(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder.path()), HasSubstr("is a folder"))));
  EXPECT_THAT(MappedFile::Open(folder.Write("empty", "")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder / "empty"), HasSubstr("is empty"))));
  EXPECT_THAT(MappedFile::Open(folder.Write("file", "x") + "/below").status().ok(),
              ::testing::IsFalse());
  EXPECT_THAT(MappedFile::Open("/dev/null"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("/dev/null"), HasSubstr("not a regular file"))));
  const std::string pipe = folder / "pipe";  // nobody writes to it: opening must not wait
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(pipe),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
}

TEST(MappedFileTest, PermissionDenied) {
  if (geteuid() == 0) GTEST_SKIP() << "the superuser may read everything";
  const TempFolder folder;
  const std::string path = folder.Write("secret", "x");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  EXPECT_THAT(MappedFile::Open(path),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(path)));
}

}  // namespace
}  // namespace sidewinder
