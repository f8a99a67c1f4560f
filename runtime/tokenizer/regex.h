// Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax); a
// translation gives them the same meaning under PCRE2.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_REGEX_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_REGEX_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sidewinder::tok {

// Part of a text; the spans of one search cover the text without gaps.
struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

// The PCRE2 spelling of an Oniguruma pattern, to be compiled with UTF, UCP and MULTILINE.
// Unimplemented for nested character classes and class intersections.
absl::StatusOr<std::string> TranslatePattern(absl::string_view onig, const std::string& name);

// Immutable; searches may run in several threads at once.
class Regex {
 public:
  // `name` is the file and field for errors.
  static absl::StatusOr<Regex> Compile(absl::string_view onig, const std::string& name);

  // Appends the matches in `text` (valid UTF-8) and the parts between them. Work per match is
  // limited: where a hostile pattern exceeds the limit the rest of the text is left unmatched.
  void FindAll(absl::string_view text, std::vector<Span>* spans) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_REGEX_H_
