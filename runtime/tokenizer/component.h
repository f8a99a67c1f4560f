// What the normalizers, pre-tokenizers, post-processors and decoders of a tokenizer.json share: a
// component is an object with a "type", and a Sequence is an array of components.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_COMPONENT_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_COMPONENT_H_

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/json.h"
#include "runtime/tokenizer/regex.h"

namespace sidewinder::tok {

inline constexpr size_t kMaxComponents{256};     // of one kind, Sequences flattened
inline constexpr size_t kMaxInsertBytes{65536};  // a prefix or a replacement
inline constexpr double kMaxGrowth{4096};        // bytes out for each byte in

struct Component {
  const Json* object;
  std::string name;  // file and field
  std::string type;
};

// The components under `key` of `root`, Sequences (arrays under `list_key`) flattened; none if it
// is missing or null.
absl::StatusOr<std::vector<Component>> ListComponents(const JsonReader& root, const char* key,
                                                      const char* list_key);

// Unimplemented, with the file, the field, the type and the supported ones.
absl::Status UnknownType(const Component& component, absl::string_view supported);

// A literal string or a regular expression.
class Pattern {
 public:
  // From {"String": s} or {"Regex": r} under "pattern".
  static absl::StatusOr<Pattern> Read(const JsonReader& reader);
  static Pattern Literal(std::string text) { return Pattern(std::move(text)); }

  // Appends the matches in `text` and the parts between them.
  void FindAll(absl::string_view text, std::vector<Span>* spans) const;
  // Null for a regular expression.
  const std::string* literal() const { return std::get_if<std::string>(&pattern_); }

 private:
  explicit Pattern(std::variant<std::string, Regex> pattern) : pattern_(std::move(pattern)) {}
  std::variant<std::string, Regex> pattern_;
};

// A string member that is inserted into texts: InvalidArgument beyond kMaxInsertBytes.
absl::StatusOr<std::string> ReadInsert(const JsonReader& reader, const char* key);

// A string member of exactly one character.
absl::StatusOr<uint32_t> ReadChar(const JsonReader& reader, const char* key);

// How much a chain of components can lengthen a text: out <= factor * in + constant. A chain of
// doublings is refused at load, so that a text cannot exhaust memory later.
struct Growth {
  double factor = 1;
  double constant = 0;
};
absl::Status AddGrowth(const Component& component, Growth step, Growth* total);
// Of replacing matches of `pattern` by `content`.
Growth ReplaceGrowth(const Pattern& pattern, const std::string& content);

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_COMPONENT_H_
