#include "runtime/tokenizer/pre_tokenizer.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

using Step = std::unique_ptr<const PreTokenizerStep>;

constexpr char kSupported[]{
    "Sequence, ByteLevel, Split, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit"};
constexpr char kGpt2Pattern[]{
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};

// Rewrites every piece: `emit(piece, at_origin, &out)` appends its new text.
template <typename Emit>
void Rewrite(Pieces* pieces, Emit emit) {
  std::string out;
  out.reserve(pieces->text.size() + pieces->text.size() / 4);
  size_t origin_end = 0;
  for (Pieces::Range& range : pieces->ranges) {
    const size_t begin = out.size();
    const size_t origin = emit(pieces->at(range), range.begin < pieces->origin_end, &out);
    if (range.begin < pieces->origin_end) origin_end = begin + origin;
    range = {begin, out.size()};
  }
  pieces->storage = std::move(out);
  pieces->text = pieces->storage;
  pieces->origin_end = origin_end;
}

class PrefixSpace : public PreTokenizerStep {
 public:
  void Apply(Pieces* pieces) const override {
    Rewrite(pieces, [](absl::string_view piece, bool, std::string* out) {
      const bool add = piece[0] != ' ';
      absl::StrAppend(out, add ? " " : "", piece);
      return CharLength(piece[0]) + (add ? 1 : 0);
    });
  }
  Growth growth() const override { return {2, 0}; }
};

class MapBytes : public PreTokenizerStep {
 public:
  void Apply(Pieces* pieces) const override {
    Rewrite(pieces, [](absl::string_view piece, bool, std::string* out) {
      const size_t begin = out->size();
      AppendByteLevel(piece.substr(0, CharLength(piece[0])), out);
      const size_t origin = out->size() - begin;
      AppendByteLevel(piece.substr(CharLength(piece[0])), out);
      return origin;
    });
  }
  Growth growth() const override { return {2, 0}; }
};

enum class PrependScheme { kAlways, kFirst, kNever };

class Metaspace : public PreTokenizerStep {
 public:
  Metaspace(std::string mark, PrependScheme scheme) : mark_(std::move(mark)), scheme_(scheme) {}

  void Apply(Pieces* pieces) const override {
    Rewrite(pieces, [this](absl::string_view piece, bool at_origin, std::string* out) {
      const bool marked = piece[0] == ' ' || absl::StartsWith(piece, mark_);
      const bool wanted =
          scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && at_origin);
      const size_t begin = out->size();
      if (wanted && !marked) out->append(mark_);
      size_t origin = 0;
      for (size_t pos = 0; pos < piece.size();) {
        const size_t length = CharLength(piece[pos]);
        absl::StrAppend(out, piece[pos] == ' ' ? mark_ : piece.substr(pos, length));
        if (pos == 0) origin = out->size() - begin;
        pos += length;
      }
      return origin;
    });
  }
  Growth growth() const override { return {2.0 * static_cast<double>(mark_.size()), 0}; }

 private:
  std::string mark_;
  PrependScheme scheme_;
};

// Cuts before each mark.
class SplitAtMarks : public PreTokenizerStep {
 public:
  explicit SplitAtMarks(std::string mark) : mark_(std::move(mark)) {}
  void Apply(Pieces* pieces) const override {
    std::vector<Pieces::Range> ranges;
    for (const Pieces::Range& range : pieces->ranges) {
      const absl::string_view piece = pieces->at(range);
      size_t begin = 0;
      for (size_t at; (at = piece.find(mark_, begin + 1)) != absl::string_view::npos; begin = at) {
        ranges.push_back({range.begin + begin, range.begin + at});
      }
      ranges.push_back({range.begin + begin, range.end});
    }
    pieces->ranges = std::move(ranges);
  }

 private:
  std::string mark_;
};

absl::StatusOr<PrependScheme> ReadScheme(const JsonReader& reader) {
  SW_ASSIGN_OR_RETURN(const std::string name, reader.String("prepend_scheme", "always"));
  SW_ASSIGN_OR_RETURN(const bool add_prefix, reader.Bool("add_prefix_space", true));
  if (!add_prefix) {  // the older spelling of "never"
    if (reader.Has("prepend_scheme") && name != "never") {
      return absl::InvalidArgumentError(absl::StrCat(
          reader.name(), ": \"add_prefix_space\" is false, but \"prepend_scheme\" is \"",
          name.substr(0, 60), "\""));
    }
    return PrependScheme::kNever;
  }
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": \"prepend_scheme\" is \"",
                                                 name.substr(0, 60),
                                                 "\"; legal are always, first, never"));
}

absl::Status ReadByteLevel(const JsonReader& reader, std::vector<Step>* steps) {
  SW_ASSIGN_OR_RETURN(const bool prefix, reader.Bool("add_prefix_space", true));
  SW_ASSIGN_OR_RETURN(const bool use_regex, reader.Bool("use_regex", true));
  if (prefix) steps->emplace_back(new PrefixSpace);
  if (use_regex) {
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", kGpt2Pattern}}},
                        {"behavior", "Isolated"},
                        {"invert", false}};
    SW_ASSIGN_OR_RETURN(Step step, ReadSplitter({&split, reader.name(), "Split"}));
    steps->push_back(std::move(step));
  }
  steps->emplace_back(new MapBytes);
  return absl::OkStatus();
}

absl::Status ReadMetaspace(const JsonReader& reader, std::vector<Step>* steps) {
  SW_ASSIGN_OR_RETURN(const uint32_t mark, ReadChar(reader, "replacement"));
  SW_ASSIGN_OR_RETURN(const PrependScheme scheme, ReadScheme(reader));
  SW_ASSIGN_OR_RETURN(const bool split, reader.Bool("split", true));
  steps->emplace_back(new Metaspace(CharToString(mark), scheme));
  if (split) steps->emplace_back(new SplitAtMarks(CharToString(mark)));
  return absl::OkStatus();
}

absl::Status ReadSteps(const Component& component, std::vector<Step>* steps) {
  const JsonReader reader(*component.object, component.name);
  if (component.type == "ByteLevel") return ReadByteLevel(reader, steps);
  if (component.type == "Metaspace") return ReadMetaspace(reader, steps);
  SW_ASSIGN_OR_RETURN(Step step, ReadSplitter(component));
  if (step == nullptr) return UnknownType(component, kSupported);
  steps->push_back(std::move(step));
  return absl::OkStatus();
}

}  // namespace

void Pieces::Reset(absl::string_view whole, size_t origin) {
  text = whole;
  origin_end = origin;
  ranges.clear();
  if (!whole.empty()) ranges.push_back({0, whole.size()});
}

absl::StatusOr<PreTokenizer> PreTokenizer::Read(const JsonReader& root) {
  SW_ASSIGN_OR_RETURN(const std::vector<Component> components,
                      ListComponents(root, "pre_tokenizer", "pretokenizers"));
  PreTokenizer out;
  Growth total;
  for (const Component& component : components) {
    std::vector<Step> steps;
    SW_RETURN_IF_ERROR(ReadSteps(component, &steps));
    for (Step& step : steps) {
      SW_RETURN_IF_ERROR(AddGrowth(component, step->growth(), &total));
      out.steps_.push_back(std::move(step));
    }
  }
  if (!components.empty() && components.back().type == "ByteLevel") {
    out.steps_.pop_back();
    out.ends_in_byte_level_ = true;
  }
  return out;
}

}  // namespace sidewinder::tok
