#include "runtime/tokenizer/vocab.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace sidewinder::tok {

absl::StatusOr<Vocab> Vocab::Create(std::vector<Token> tokens, const std::string& name) {
  Vocab vocab;
  const auto by_id = [](const Token& a, const Token& b) { return a.id < b.id; };
  if (!std::is_sorted(tokens.begin(), tokens.end(), by_id)) {
    std::sort(tokens.begin(), tokens.end(), by_id);
  }
  vocab.tokens_ = std::move(tokens);
  vocab.index_.reserve(vocab.tokens_.size());
  for (size_t i = 0; i < vocab.tokens_.size(); ++i) {
    const Token& token = vocab.tokens_[i];
    if (i > 0 && vocab.tokens_[i - 1].id == token.id) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tokens \"%s\" and \"%s\" have the same id %d", name,
          vocab.tokens_[i - 1].content.substr(0, 60), token.content.substr(0, 60), token.id));
    }
    if (!vocab.index_.emplace(token.content, static_cast<uint32_t>(i)).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: token \"%s\" occurs twice", name, token.content.substr(0, 60)));
    }
  }
  return vocab;
}

const Token* Vocab::Find(absl::string_view content) const {
  const auto it = index_.find(content);
  return it == index_.end() ? nullptr : &tokens_[it->second];
}

const Token* Vocab::FindInModel(absl::string_view content) const {
  const Token* token = Find(content);
  return token != nullptr && token->in_model ? token : nullptr;
}

const Token* Vocab::Find(int32_t id) const {
  // Ids are nearly always dense.
  if (id >= 0 && static_cast<size_t>(id) < tokens_.size() &&
      tokens_[static_cast<size_t>(id)].id == id) {
    return &tokens_[static_cast<size_t>(id)];
  }
  const auto it = std::lower_bound(tokens_.begin(), tokens_.end(), id,
                                   [](const Token& token, int32_t key) { return token.id < key; });
  return it != tokens_.end() && it->id == id ? &*it : nullptr;
}

}  // namespace sidewinder::tok
