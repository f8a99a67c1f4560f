// All tokens of a tokenizer: those of the model and the added ones.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_VOCAB_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_VOCAB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sidewinder::tok {

inline constexpr int32_t kMaxTokenId{(1 << 24) - 1};

struct Token {
  int32_t id = 0;
  std::string content;
  bool in_model = false;  // else added only
  bool special = false;
  std::optional<std::string> normalized;  // of an added token that is found behind the normalizer
};

class Vocab {
 public:
  Vocab() = default;
  // InvalidArgument if two tokens share an id or a content.
  static absl::StatusOr<Vocab> Create(std::vector<Token> tokens, const std::string& name);

  // Null if there is none. FindInModel does not see tokens that were only added.
  const Token* Find(absl::string_view content) const;
  const Token* FindInModel(absl::string_view content) const;
  const Token* Find(int32_t id) const;

  // Sorted by id.
  const std::vector<Token>& tokens() const { return tokens_; }

 private:
  std::vector<Token> tokens_;
  absl::flat_hash_map<absl::string_view, uint32_t> index_;  // views into tokens_
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_VOCAB_H_
