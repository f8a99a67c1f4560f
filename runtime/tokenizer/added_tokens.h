// The "added_tokens" of a tokenizer.json: tokens that are cut out of a text before anything else
// sees it.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/json.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/vocab.h"

namespace sidewinder::tok {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
};

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const JsonReader& root);

// Finds some of the added tokens in a text.
class AddedTokenMatcher {
 public:
  // A part of the text: a token, or (id -1) what stands between tokens.
  struct Part {
    int32_t id;
    size_t begin;
    size_t end;
  };

  AddedTokenMatcher() { starts_.fill(false); }
  // `pattern` is the token's content, perhaps normalized. Of equal patterns the first one counts.
  void Add(const AddedToken& token, absl::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  // Appends the parts of `text`, leftmost-longest matches first to last.
  void Split(absl::string_view text, std::vector<Part>* parts) const;

 private:
  struct Flags {
    int32_t id;
    bool single_word;
    bool lstrip;
    bool rstrip;
  };

  // Index of the longest token at `pos` and its end; -1 if there is none.
  int Match(absl::string_view text, size_t pos, size_t* end) const;

  std::vector<Flags> tokens_;
  std::array<bool, 256> starts_;                      // bytes that a pattern begins with
  absl::flat_hash_map<uint64_t, uint32_t> edges_;     // node << 8 | byte -> node
  absl::flat_hash_map<uint32_t, uint32_t> token_at_;  // node -> index into tokens_
  uint32_t num_nodes_ = 1;
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
