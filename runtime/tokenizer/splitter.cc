// Pre-tokenizers that only cut: Split, Digits, Punctuation and the kinds of white space.
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

using Step = std::unique_ptr<const PreTokenizerStep>;
using CharClass = bool (*)(uint32_t ch);

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

constexpr struct {
  const char* name;
  Behavior behavior;
} kBehaviors[]{{"Removed", Behavior::kRemoved},
               {"Isolated", Behavior::kIsolated},
               {"MergedWithPrevious", Behavior::kMergedWithPrevious},
               {"MergedWithNext", Behavior::kMergedWithNext},
               {"Contiguous", Behavior::kContiguous}};

absl::StatusOr<Behavior> ReadBehavior(const JsonReader& reader, const std::string& fallback) {
  absl::StatusOr<std::string> name =
      fallback.empty() ? reader.String("behavior") : reader.String("behavior", fallback);
  if (!name.ok()) return name.status();
  std::string legal;
  for (const auto& entry : kBehaviors) {
    if (*name == entry.name) return entry.behavior;
    absl::StrAppend(&legal, legal.empty() ? "" : ", ", entry.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": \"behavior\" is \"",
                                                 name->substr(0, 60), "\"; legal are ", legal));
}

// Matches alternate with the parts between them, except that matches may touch or be empty; each
// piece is one span or several neighbours, and which ones is what the behaviours differ in.
class PieceBuilder {
 public:
  PieceBuilder(size_t base, std::vector<Pieces::Range>* out) : base_(base), out_(out) {}

  void Run(const std::vector<Span>& spans, Behavior behavior) {
    if (behavior == Behavior::kMergedWithNext) return RunBackward(spans);
    bool previous_match = false;
    for (const Span& span : spans) {
      const bool join =
          behavior == Behavior::kContiguous
              ? span.is_match == previous_match
              : behavior == Behavior::kMergedWithPrevious && span.is_match && !previous_match;
      previous_match = span.is_match;
      if (behavior == Behavior::kRemoved && span.is_match) continue;
      if (join && open_) {
        end_ = span.end;
      } else {
        Flush();
        begin_ = span.begin;
        end_ = span.end;
        open_ = true;
      }
    }
    Flush();
  }

 private:
  // A match joins the part behind it; of touching matches only the last one does.
  void RunBackward(const std::vector<Span>& spans) {
    for (size_t i = 0; i < spans.size(); ++i) {
      Flush();
      begin_ = spans[i].begin;
      if (spans[i].is_match && i + 1 < spans.size() && !spans[i + 1].is_match) ++i;
      end_ = spans[i].end;
      open_ = true;
    }
    Flush();
  }

  void Flush() {
    if (open_ && end_ > begin_) out_->push_back({base_ + begin_, base_ + end_});
    open_ = false;
  }

  size_t base_;
  std::vector<Pieces::Range>* out_;
  bool open_ = false;
  size_t begin_ = 0;
  size_t end_ = 0;
};

// `find(text, &spans)` finds the matches in one piece.
template <typename Find>
void SplitPieces(Pieces* pieces, Behavior behavior, Find find) {
  std::vector<Pieces::Range> ranges;
  for (const Pieces::Range& range : pieces->ranges) {
    pieces->scratch.clear();
    find(pieces->at(range), &pieces->scratch);
    PieceBuilder(range.begin, &ranges).Run(pieces->scratch, behavior);
  }
  pieces->ranges = std::move(ranges);
}

class Split : public PreTokenizerStep {
 public:
  Split(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void Apply(Pieces* pieces) const override {
    SplitPieces(pieces, behavior_, [this](absl::string_view text, std::vector<Span>* spans) {
      pattern_.FindAll(text, spans);
      if (invert_) {
        for (Span& span : *spans) span.is_match = !span.is_match;
      }
    });
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// Every character of a class is a match of its own.
class SplitClass : public PreTokenizerStep {
 public:
  SplitClass(CharClass in_class, Behavior behavior) : in_class_(in_class), behavior_(behavior) {}
  void Apply(Pieces* pieces) const override {
    SplitPieces(pieces, behavior_, [this](absl::string_view text, std::vector<Span>* spans) {
      size_t prev = 0;
      for (size_t pos = 0; pos < text.size();) {
        const size_t begin = pos;
        if (!in_class_(NextChar(text, &pos))) continue;
        if (begin > prev) spans->push_back({prev, begin, false});
        spans->push_back({begin, pos, true});
        prev = pos;
      }
      if (prev < text.size()) spans->push_back({prev, text.size(), false});
    });
  }

 private:
  CharClass in_class_;
  Behavior behavior_;
};

// Keeps runs of word characters and runs of anything else that is not white space.
class Whitespace : public PreTokenizerStep {
 public:
  void Apply(Pieces* pieces) const override {
    SplitPieces(pieces, Behavior::kRemoved, [](absl::string_view text, std::vector<Span>* spans) {
      for (size_t pos = 0; pos < text.size();) {
        const size_t begin = pos;
        const int kind = Kind(NextChar(text, &pos));
        for (size_t next = pos; next < text.size() && Kind(NextChar(text, &next)) == kind;) {
          pos = next;
        }
        spans->push_back({begin, pos, kind == 0});
      }
    });
  }

 private:
  static int Kind(uint32_t ch) { return IsWordChar(ch) ? 2 : IsWhiteSpace(ch) ? 0 : 1; }
};

}  // namespace

absl::StatusOr<Step> ReadSplitter(const Component& component) {
  const JsonReader reader(*component.object, component.name);
  const std::string& type = component.type;
  if (type == "Whitespace") return Step(new Whitespace);
  if (type == "WhitespaceSplit") return Step(new SplitClass(IsWhiteSpace, Behavior::kRemoved));
  if (type == "Split") {
    SW_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Read(reader));
    SW_ASSIGN_OR_RETURN(const Behavior behavior, ReadBehavior(reader, ""));
    SW_ASSIGN_OR_RETURN(const bool invert, reader.Bool("invert", false));
    return Step(new Split(std::move(pattern), behavior, invert));
  }
  if (type == "Digits") {
    SW_ASSIGN_OR_RETURN(const bool individual, reader.Bool("individual_digits", false));
    return Step(
        new SplitClass(IsNumeric, individual ? Behavior::kIsolated : Behavior::kContiguous));
  }
  if (type == "Punctuation") {
    SW_ASSIGN_OR_RETURN(const Behavior behavior, ReadBehavior(reader, "Isolated"));
    return Step(new SplitClass(IsPunctuation, behavior));
  }
  return Step(nullptr);
}

}  // namespace sidewinder::tok
