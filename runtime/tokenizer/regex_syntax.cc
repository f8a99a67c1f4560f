// Oniguruma's Ruby syntax to PCRE2. Left alone: everything that means the same in both.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/regex.h"

namespace sidewinder::tok {
namespace {

// Members of character classes. PCRE2's own \s has U+180E in addition, and its \w neither marks nor
// connectors; the ranges of \w are the alphabetic characters among the symbols.
constexpr char kSpaceSet[]{R"(\t-\r\x{85}\p{Z})"};
constexpr char kNotSpaceSet[]{R"(\S\x{180E})"};
constexpr char kWordSet[]{R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149})"
                          R"(\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})"};
constexpr char kNotWordSet[]{R"(\p{No}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\p{S}\p{Z}\p{C})"};

struct PosixClass {
  absl::string_view name;
  absl::string_view set;
};
constexpr PosixClass kPosixClasses[]{
    {"[:alpha:]", R"(\p{Alphabetic})"}, {"[:alnum:]", R"(\p{Alphabetic}\p{Nd})"},
    {"[:digit:]", R"(\p{Nd})"},         {"[:lower:]", R"(\p{Lowercase})"},
    {"[:upper:]", R"(\p{Uppercase})"},  {"[:punct:]", R"(\p{P}$+<=>^`|~)"},
    {"[:space:]", kSpaceSet},           {"[:word:]", kWordSet},
    {"[:xdigit:]", "0-9A-Fa-f"},        {"[:cntrl:]", R"(\p{Cc})"},
    {"[:ascii:]", R"(\x00-\x7F)"},      {"[:blank:]", R"(\p{Zs}\t)"},
};

class Translator {
 public:
  Translator(absl::string_view in, const std::string& name) : in_(in), name_(name) {}

  absl::StatusOr<std::string> Run() {
    while (pos_ < in_.size()) {
      const char ch = in_[pos_];
      if (ch == '\\') {
        Atom();
        SW_RETURN_IF_ERROR(Escape(/*in_class=*/false));
      } else if (ch == '[') {
        Atom();
        SW_RETURN_IF_ERROR(Class());
      } else if (ch == '(') {
        Open();
      } else if (ch == ')') {
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        Copy(1);
      } else if (ch == '{') {
        Interval();
      } else {
        if (ch != '*' && ch != '+' && ch != '?') Atom();
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  // What a following quantifier applies to begins here.
  void Atom() { atom_ = out_.size(); }

  void Copy(size_t count) {
    absl::StrAppend(&out_, in_.substr(pos_, count));
    pos_ += count;
  }

  absl::Status Unsupported(absl::string_view what) const {
    return absl::UnimplementedError(absl::StrCat(
        name_, ": regular expression \"", in_.substr(0, 200), "\": ", what, " are not supported"));
  }

  // Ruby's (?m) lets the dot match newlines, which is PCRE2's (?s).
  void Open() {
    groups_.push_back(out_.size());
    size_t end = pos_ + 2;
    if (in_.substr(pos_, 2) == "(?") {
      while (end < in_.size() && (absl::ascii_isalpha(in_[end]) || in_[end] == '-')) ++end;
    }
    const bool flags = end > pos_ + 2 && end < in_.size() && (in_[end] == ':' || in_[end] == ')');
    if (!flags) return Copy(1);
    for (size_t i = pos_; i < end; ++i) out_.push_back(in_[i] == 'm' ? 's' : in_[i]);
    pos_ = end;
    if (in_[end] == ':') Copy(1);
  }

  // {,n} means {0,n}, and a plus behind an interval repeats it (it is not possessive).
  void Interval() {
    size_t end = pos_ + 1;
    while (end < in_.size() && (absl::ascii_isdigit(in_[end]) || in_[end] == ',')) ++end;
    if (end == pos_ + 1 || end == in_.size() || in_[end] != '}' || in_.substr(pos_, 3) == "{,}") {
      Atom();
      return Copy(1);
    }
    ++end;
    const bool repeated = end < in_.size() && in_[end] == '+';
    if (repeated) out_.insert(atom_, "(?:");
    out_.push_back('{');
    if (in_[pos_ + 1] == ',') out_.push_back('0');
    absl::StrAppend(&out_, in_.substr(pos_ + 1, end - pos_ - 1));
    if (repeated) out_.push_back(')');
    pos_ = end;
  }

  absl::Status Class() {
    Copy(1);
    if (pos_ < in_.size() && in_[pos_] == '^') Copy(1);
    bool first = true;
    for (; pos_ < in_.size(); first = false) {
      const char ch = in_[pos_];
      if (ch == ']' && !first) {
        Copy(1);
        return absl::OkStatus();
      }
      if (ch == '\\') {
        SW_RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else if (ch == '[') {
        SW_RETURN_IF_ERROR(Posix());
      } else if (in_.substr(pos_, 2) == "&&") {
        return Unsupported("intersections of character classes (&&)");
      } else {
        Copy(1);
      }
    }
    return absl::OkStatus();  // PCRE2 reports the missing bracket
  }

  absl::Status Posix() {
    for (const PosixClass& known : kPosixClasses) {
      if (in_.substr(pos_, known.name.size()) == known.name) {
        absl::StrAppend(&out_, known.set);
        pos_ += known.name.size();
        return absl::OkStatus();
      }
    }
    return Unsupported("nested character classes");
  }

  void Set(absl::string_view set, bool in_class, bool negated = false) {
    absl::StrAppend(&out_, in_class ? "" : negated ? "[^" : "[", set, in_class ? "" : "]");
    pos_ += 2;
  }

  absl::Status Escape(bool in_class) {
    if (pos_ + 1 == in_.size()) {
      Copy(1);
      return absl::OkStatus();
    }
    switch (in_[pos_ + 1]) {
      case 's':
        Set(kSpaceSet, in_class);
        break;
      case 'S':
        Set(kNotSpaceSet, in_class);
        break;
      case 'w':
        Set(kWordSet, in_class);
        break;
      case 'W':
        in_class ? Set(kNotWordSet, true) : Set(kWordSet, false, /*negated=*/true);
        break;
      case 'd':
        Set(R"(\p{Nd})", in_class);
        break;
      case 'D':
        Set(R"(\P{Nd})", in_class);
        break;
      case 'h':
        Set("0-9A-Fa-f", in_class);
        break;
      case 'H':
        if (in_class) return Unsupported("\\H in character classes");
        Set("0-9A-Fa-f", false, /*negated=*/true);
        break;
      case 'b':
      case 'B':
        in_class ? Copy(2) : WordBoundary(in_[pos_ + 1] == 'b');
        break;
      case 'u':
        CodePoint();
        break;
      case 'Q':
      case 'E':  // quote marks in PCRE2, letters in Ruby
        out_.push_back(in_[pos_ + 1]);
        pos_ += 2;
        break;
      case 'p':
      case 'P':
        Property();
        break;
      default:
        Copy(2);
    }
    return absl::OkStatus();
  }

  void WordBoundary(bool at_boundary) {
    const std::string word = absl::StrCat("[", kWordSet, "]");
    absl::StrAppend(&out_, "(?:(?<=", word, at_boundary ? ")(?!" : ")(?=", word, ")|(?<!", word,
                    at_boundary ? ")(?=" : ")(?!", word, "))");
    pos_ += 2;
  }

  void CodePoint() {
    const absl::string_view digits = in_.substr(pos_ + 2, 4);
    bool hex = digits.size() == 4;
    for (char ch : digits) hex = hex && absl::ascii_isxdigit(ch);
    if (!hex) return Copy(2);
    absl::StrAppend(&out_, "\\x{", digits, "}");
    pos_ += 6;
  }

  void Property() {
    const size_t end = in_.find('}', pos_);
    if (end == absl::string_view::npos || in_.substr(pos_ + 2, 1) != "{") return Copy(2);
    Copy(end + 1 - pos_);
  }

  absl::string_view in_;
  const std::string& name_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;
  std::vector<size_t> groups_;  // where open groups begin in out_
};

}  // namespace

absl::StatusOr<std::string> TranslatePattern(absl::string_view onig, const std::string& name) {
  return Translator(onig, name).Run();
}

}  // namespace sidewinder::tok
