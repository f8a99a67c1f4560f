#include "runtime/tokenizer/component.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

absl::Status Flatten(const Json& object, const std::string& name, const char* list_key,
                     std::vector<Component>* out) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not an object"));
  }
  const JsonReader reader(object, name);
  SW_ASSIGN_OR_RETURN(std::string type, reader.String("type"));
  if (type != "Sequence") {
    if (out->size() == kMaxComponents) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": more than ", kMaxComponents, " components"));
    }
    out->push_back({&object, name, std::move(type)});
    return absl::OkStatus();
  }
  const Json* list = reader.Find(list_key);
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": \"", list_key, "\" is not an array"));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string inner = absl::StrCat(name, ".", list_key, "[", i, "]");
    SW_RETURN_IF_ERROR(Flatten((*list)[i], inner, list_key, out));
  }
  return absl::OkStatus();
}

// An empty pattern matches between all characters.
void FindEmpty(absl::string_view text, std::vector<Span>* spans) {
  for (size_t pos = 0; pos < text.size();) {
    spans->push_back({pos, pos, true});
    const size_t length = CharLength(text[pos]);
    spans->push_back({pos, pos + length, false});
    pos += length;
  }
  if (!text.empty()) spans->push_back({text.size(), text.size(), true});
}

void FindLiteral(absl::string_view text, absl::string_view literal, std::vector<Span>* spans) {
  size_t prev = 0;
  for (size_t at; (at = text.find(literal, prev)) != absl::string_view::npos;) {
    if (at > prev) spans->push_back({prev, at, false});
    prev = at + literal.size();
    spans->push_back({at, prev, true});
  }
  if (prev < text.size()) spans->push_back({prev, text.size(), false});
}

}  // namespace

absl::StatusOr<std::vector<Component>> ListComponents(const JsonReader& root, const char* key,
                                                      const char* list_key) {
  std::vector<Component> components;
  const Json* object = root.Find(key);
  if (object == nullptr) return components;
  SW_RETURN_IF_ERROR(Flatten(*object, absl::StrCat(root.name(), ": ", key), list_key, &components));
  return components;
}

absl::Status UnknownType(const Component& component, absl::string_view supported) {
  return absl::UnimplementedError(absl::StrFormat("%s: type \"%s\" is not supported; supported: %s",
                                                  component.name, component.type.substr(0, 60),
                                                  supported));
}

absl::StatusOr<Pattern> Pattern::Read(const JsonReader& reader) {
  const Json* pattern = reader.Find("pattern");
  const std::string name = absl::StrCat(reader.name(), ": \"pattern\"");
  if (pattern == nullptr || !pattern->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " must be {\"String\": ...} or {\"Regex\": ...}"));
  }
  const JsonReader inner(*pattern, name);
  if (inner.Has("String")) {
    SW_ASSIGN_OR_RETURN(std::string literal, inner.String("String"));
    return Pattern(std::move(literal));
  }
  SW_ASSIGN_OR_RETURN(const std::string text, inner.String("Regex"));
  SW_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(text, name));
  return Pattern(std::move(regex));
}

void Pattern::FindAll(absl::string_view text, std::vector<Span>* spans) const {
  if (const Regex* regex = std::get_if<Regex>(&pattern_)) {
    if (!text.empty()) regex->FindAll(text, spans);
  } else if (literal()->empty()) {
    FindEmpty(text, spans);
  } else {
    FindLiteral(text, *literal(), spans);
  }
}

absl::StatusOr<std::string> ReadInsert(const JsonReader& reader, const char* key) {
  SW_ASSIGN_OR_RETURN(std::string text, reader.String(key));
  if (text.size() > kMaxInsertBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: \"%s\" has %d bytes; at most %d are legal", reader.name(), key,
                        text.size(), kMaxInsertBytes));
  }
  return text;
}

absl::StatusOr<uint32_t> ReadChar(const JsonReader& reader, const char* key) {
  SW_ASSIGN_OR_RETURN(const std::string text, reader.String(key));
  if (text.empty() || CharLength(text[0]) != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader.name(), ": \"", key, "\" is not one character"));
  }
  size_t pos = 0;
  return NextChar(text, &pos);
}

absl::Status AddGrowth(const Component& component, Growth step, Growth* total) {
  total->factor *= step.factor;
  total->constant = total->constant * step.factor + step.constant;
  if (total->factor > kMaxGrowth || total->constant > kMaxGrowth * kMaxInsertBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: with this component a text could grow more than %d-fold",
                        component.name, static_cast<int>(kMaxGrowth)));
  }
  return absl::OkStatus();
}

Growth ReplaceGrowth(const Pattern& pattern, const std::string& content) {
  const double size = static_cast<double>(content.size());
  const std::string* literal = pattern.literal();
  if (literal != nullptr && !literal->empty()) {
    return {std::max(1.0, size / static_cast<double>(literal->size())), 0};
  }
  return {1 + size, size};  // a regular expression may match empty strings between all characters
}

}  // namespace sidewinder::tok
