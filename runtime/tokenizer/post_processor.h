// The "post_processor" of a tokenizer.json: adds the tokens that begin and end a text.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_POST_PROCESSOR_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/component.h"
#include "runtime/tokenizer/vocab.h"

namespace sidewinder::tok {

class PostProcessor {
 public:
  static absl::StatusOr<PostProcessor> Read(const JsonReader& root, const Vocab& vocab);
  std::vector<int32_t> Apply(std::vector<int32_t> ids, bool add_special_tokens) const;

 private:
  // The text's ids, or fixed ones.
  struct Part {
    bool is_text;
    std::vector<int32_t> ids;
  };

  absl::Status Add(const Component& component, const Vocab& vocab);
  absl::Status AddTemplate(const JsonReader& reader, const Vocab& vocab);
  absl::Status AddPair(const JsonReader& reader, const Vocab& vocab);

  std::vector<Part> parts_;  // empty: nothing to do
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_POST_PROCESSOR_H_
