#include "runtime/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/unicode_tables.h"

namespace sidewinder::tok {
namespace {

constexpr char kSupported[]{
    "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, StripAccents, Lowercase, ByteLevel"};

// Runs `emit(char, &out)` over all characters and keeps track of the origin.
template <typename Emit>
void MapChars(NormalizedText* text, Emit emit) {
  std::string out;
  out.reserve(text->text.size());
  size_t origin_end = 0;
  for (size_t pos = 0; pos < text->text.size();) {
    const bool at_origin = pos < text->origin_end;
    emit(NextChar(text->text, &pos), &out);
    if (at_origin) origin_end = out.size();
  }
  *text = {std::move(out), origin_end};
}

class UnicodeForm : public NormalizerStep {
 public:
  // `growth` is the worst case over all characters (UTF-8 bytes).
  UnicodeForm(int options, double growth) : options_(options), growth_(growth) {}

  void Apply(NormalizedText* text) const override {
    const auto ascii = [](char ch) { return static_cast<uint8_t>(ch) < 0x80; };
    if (std::all_of(text->text.begin(), text->text.end(), ascii)) return;
    const size_t origin_end =
        Normalize(absl::string_view(text->text).substr(0, text->origin_end)).size();
    text->text = Normalize(text->text);
    text->origin_end = std::min(origin_end, text->text.size());
  }
  Growth growth() const override { return {growth_, 0}; }

 private:
  // A barrier separates what stands before it from what stands behind it.
  std::string Normalize(absl::string_view text) const {
    std::string out;
    size_t done = 0;
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      if (!IsNormalizationBarrier(NextChar(text, &pos))) continue;
      AppendNormalized(text.substr(done, begin - done), &out);
      absl::StrAppend(&out, text.substr(begin, pos - begin));
      done = pos;
    }
    AppendNormalized(text.substr(done), &out);
    return out;
  }

  void AppendNormalized(absl::string_view text, std::string* out) const {
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                     static_cast<utf8proc_option_t>(options_ | UTF8PROC_STABLE));
    SW_CHECK(size >= 0) << utf8proc_errmsg(size);
    out->append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
    std::free(mapped);
  }

  int options_;
  double growth_;
};

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void Apply(NormalizedText* text) const override {
    if (text->text.empty()) return;
    text->text.insert(0, prefix_);
    if (text->origin_end > 0) text->origin_end += prefix_.size();
  }
  Growth growth() const override { return {1, static_cast<double>(prefix_.size())}; }

 private:
  std::string prefix_;
};

class Replace : public NormalizerStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void Apply(NormalizedText* text) const override {
    std::vector<Span> spans;
    pattern_.FindAll(text->text, &spans);
    std::string out;
    size_t origin_end = 0;
    for (const Span& span : spans) {
      if (span.is_match) {
        out += content_;
        // A replacement belongs to the last character that it replaces.
        if (span.end <= text->origin_end || span.end == 0) origin_end = out.size();
      } else {
        if (span.begin < text->origin_end) {
          origin_end = out.size() + std::min(span.end, text->origin_end) - span.begin;
        }
        out.append(text->text, span.begin, span.end - span.begin);
      }
    }
    *text = {std::move(out), text->origin_end > 0 ? origin_end : 0};
  }
  Growth growth() const override { return ReplaceGrowth(pattern_, content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void Apply(NormalizedText* text) const override {
    size_t begin = 0;
    size_t end = text->text.size();
    for (size_t pos = 0; left_ && pos < end; begin = pos) {
      if (!IsWhiteSpace(NextChar(text->text, &pos))) break;
    }
    while (right_ && end > begin) {
      const uint32_t ch = CharBefore(text->text, end);
      if (!IsWhiteSpace(ch)) break;
      end -= CharToString(ch).size();
    }
    text->text = text->text.substr(begin, end - begin);
    text->origin_end = std::min(std::max(text->origin_end, begin) - begin, text->text.size());
  }
  Growth growth() const override { return {}; }

 private:
  bool left_;
  bool right_;
};

class StripAccents : public NormalizerStep {
 public:
  void Apply(NormalizedText* text) const override {
    MapChars(text, [](uint32_t ch, std::string* out) {
      if (!IsCombiningMark(ch)) AppendChar(ch, out);
    });
  }
  Growth growth() const override { return {}; }
};

class Lowercase : public NormalizerStep {
 public:
  void Apply(NormalizedText* text) const override { MapChars(text, AppendLowercase); }
  Growth growth() const override { return {1.5, 0}; }
};

class ByteLevelNormalizer : public NormalizerStep {
 public:
  void Apply(NormalizedText* text) const override {
    MapChars(text, [](uint32_t ch, std::string* out) { AppendByteLevel(CharToString(ch), out); });
  }
  Growth growth() const override { return {2, 0}; }
};

using Step = std::unique_ptr<const NormalizerStep>;

absl::StatusOr<Step> ReadStep(const Component& component) {
  const JsonReader reader(*component.object, component.name);
  const std::string& type = component.type;
  if (type == "NFC") return Step(new UnicodeForm(UTF8PROC_COMPOSE, 3));
  if (type == "NFD") return Step(new UnicodeForm(UTF8PROC_DECOMPOSE, 4));
  if (type == "NFKC") return Step(new UnicodeForm(UTF8PROC_COMPOSE | UTF8PROC_COMPAT, 12));
  if (type == "NFKD") return Step(new UnicodeForm(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, 12));
  if (type == "StripAccents") return Step(new StripAccents);
  if (type == "Lowercase") return Step(new Lowercase);
  if (type == "ByteLevel") return Step(new ByteLevelNormalizer);
  if (type == "Prepend") {
    SW_ASSIGN_OR_RETURN(std::string prefix, ReadInsert(reader, "prepend"));
    return Step(new Prepend(std::move(prefix)));
  }
  if (type == "Replace") {
    SW_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Read(reader));
    SW_ASSIGN_OR_RETURN(std::string content, ReadInsert(reader, "content"));
    return Step(new Replace(std::move(pattern), std::move(content)));
  }
  if (type == "Strip") {
    SW_ASSIGN_OR_RETURN(const bool left, reader.Bool("strip_left"));
    SW_ASSIGN_OR_RETURN(const bool right, reader.Bool("strip_right"));
    return Step(new Strip(left, right));
  }
  return UnknownType(component, kSupported);
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Read(const JsonReader& root) {
  SW_ASSIGN_OR_RETURN(const std::vector<Component> components,
                      ListComponents(root, "normalizer", "normalizers"));
  Normalizer normalizer;
  Growth total;
  for (const Component& component : components) {
    SW_ASSIGN_OR_RETURN(Step step, ReadStep(component));
    SW_RETURN_IF_ERROR(AddGrowth(component, step->growth(), &total));
    normalizer.steps_.push_back(std::move(step));
  }
  return normalizer;
}

}  // namespace sidewinder::tok
