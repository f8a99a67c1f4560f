// Oniguruma's Ruby syntax to PCRE2. Left alone: everything that means the same in both.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/unicode_tables.h"

namespace sidewinder::tok {
namespace {

// Members of character classes. PCRE2's own \s has U+180E in addition, and its \w neither marks nor
// connectors.
constexpr char kSpaceSet[]{R"(\t-\r\x{85}\p{Z})"};
constexpr char kNotSpaceSet[]{R"(\S\x{180E})"};
constexpr char kNotWordSet[]{R"(\p{No}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\p{S}\p{Z}\p{C})"};
constexpr char kHexSet[]{"0-9A-Fa-f"};

// A general category with the characters that PCRE2 may not know yet.
std::string Category(absl::string_view name) {
  return absl::StrCat("\\p{", name, "}", AddedRanges(name));
}

// The ranges are the alphabetic characters among the symbols. Only \w itself has the superscript
// digits and fractions of Latin-1, a class with \w in it does not.
std::string WordSet(bool in_class) {
  std::string set;
  for (const char* name : {"L", "M", "Nd", "Nl", "Pc"}) set += Category(name);
  set += R"(\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";
  if (!in_class) set += R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
  return set;
}

// Members of the class [:name:]; empty for unknown names.
std::string PosixSet(absl::string_view name) {
  if (name == "alpha") return absl::StrCat(R"(\p{Alphabetic})", AddedRanges("L"));
  if (name == "alnum") return absl::StrCat(R"(\p{Alphabetic})", AddedRanges("L"), Category("Nd"));
  if (name == "digit") return Category("Nd");
  if (name == "lower") return absl::StrCat(R"(\p{Lowercase})", AddedRanges("Ll"));
  if (name == "upper") return absl::StrCat(R"(\p{Uppercase})", AddedRanges("Lu"));
  if (name == "punct") return absl::StrCat(Category("P"), Category("S"));
  if (name == "space") return kSpaceSet;
  if (name == "word") return WordSet(/*in_class=*/true);
  if (name == "xdigit") return kHexSet;
  if (name == "cntrl") return R"(\p{Cc})";
  if (name == "ascii") return R"(\x00-\x7F)";
  if (name == "blank") return R"(\p{Zs}\t)";
  return "";
}

bool IsScript(absl::string_view name) {
  const std::string pattern = absl::StrCat("\\p{sc:", name, "}");
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

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
    const size_t end = in_.find(":]", pos_);
    if (in_.substr(pos_, 2) == "[:" && end != absl::string_view::npos) {
      const std::string set = PosixSet(in_.substr(pos_ + 2, end - pos_ - 2));
      if (!set.empty()) {
        absl::StrAppend(&out_, set);
        pos_ = end + 2;
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
        Set(WordSet(in_class), in_class);
        break;
      case 'W':
        in_class ? Set(kNotWordSet, true) : Set(WordSet(false), false, /*negated=*/true);
        break;
      case 'd':
        Set(Category("Nd"), in_class);
        break;
      case 'D':
        in_class ? Set(R"(\P{Nd})", true) : Set(Category("Nd"), false, /*negated=*/true);
        break;
      case 'h':
        Set(kHexSet, in_class);
        break;
      case 'H':
        if (in_class) return Unsupported("\\H in character classes");
        Set(kHexSet, false, /*negated=*/true);
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
        Property(in_class);
        break;
      default:
        Copy(2);
    }
    return absl::OkStatus();
  }

  void WordBoundary(bool at_boundary) {
    const std::string word = absl::StrCat("[", WordSet(false), "]");
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

  // General categories get the characters that PCRE2 may not know. PCRE2 takes the name of a script
  // for its extensions, characters that are also used with it.
  void Property(bool in_class) {
    const size_t end = in_.find('}', pos_);
    if (end == absl::string_view::npos || in_.substr(pos_ + 2, 1) != "{") return Copy(2);
    const absl::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
    const bool negated = in_[pos_ + 1] == 'P';
    if (name.size() <= 2 && absl::c_all_of(name, absl::ascii_isalpha) && !(negated && in_class)) {
      absl::StrAppend(&out_,
                      in_class  ? ""
                      : negated ? "[^"
                                : "[",
                      Category(name), in_class ? "" : "]");
    } else if (name.size() > 2 && IsScript(name)) {
      absl::StrAppend(&out_, in_.substr(pos_, 3), "sc:", name, "}");
    } else {
      absl::StrAppend(&out_, in_.substr(pos_, end + 1 - pos_));
    }
    pos_ = end + 1;
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
