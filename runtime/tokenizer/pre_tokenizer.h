// The "pre_tokenizer" of a tokenizer.json: cuts a text into the pieces that the model sees.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/component.h"

namespace sidewinder::tok {

// Non-empty pieces of a text, in order.
struct Pieces {
  struct Range {
    size_t begin;
    size_t end;
  };

  absl::string_view text;  // the caller's, or `storage` once a step has changed it
  std::string storage;
  std::vector<Range> ranges;
  size_t origin_end = 0;      // as in NormalizedText
  std::vector<Span> scratch;  // of the steps

  absl::string_view at(const Range& range) const {
    return text.substr(range.begin, range.end - range.begin);
  }
  // One piece, the whole of `whole`.
  void Reset(absl::string_view whole, size_t origin);
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void Apply(Pieces* pieces) const = 0;
  virtual Growth growth() const { return {}; }
};

class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> Read(const JsonReader& root);
  void Apply(Pieces* pieces) const {
    for (const auto& step : steps_) step->Apply(pieces);
  }
  // The chain ends with a mapping to the byte alphabet, which is left to the model: it can work on
  // raw bytes faster.
  bool ends_in_byte_level() const { return ends_in_byte_level_; }

 private:
  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
  bool ends_in_byte_level_ = false;
};

// Steps that cut without changing the text; null for other types.
absl::StatusOr<std::unique_ptr<const PreTokenizerStep>> ReadSplitter(const Component& component);

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
