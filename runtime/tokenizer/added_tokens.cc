#include "runtime/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

// Matching costs up to this many steps a byte.
constexpr size_t kMaxAddedTokenBytes{1024};

absl::StatusOr<AddedToken> ReadAddedToken(const JsonReader& reader) {
  AddedToken token;
  SW_ASSIGN_OR_RETURN(const int64_t id, reader.Int("id", 0, kMaxTokenId));
  token.id = static_cast<int32_t>(id);
  SW_ASSIGN_OR_RETURN(token.content, reader.String("content"));
  SW_ASSIGN_OR_RETURN(token.single_word, reader.Bool("single_word", false));
  SW_ASSIGN_OR_RETURN(token.lstrip, reader.Bool("lstrip", false));
  SW_ASSIGN_OR_RETURN(token.rstrip, reader.Bool("rstrip", false));
  SW_ASSIGN_OR_RETURN(token.special, reader.Bool("special", false));
  SW_ASSIGN_OR_RETURN(token.normalized, reader.Bool("normalized", !token.special));
  if (token.content.size() > kMaxAddedTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": \"content\" has ",
                                                   token.content.size(), " bytes; at most ",
                                                   kMaxAddedTokenBytes, " are supported"));
  }
  return token;
}

}  // namespace

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const JsonReader& root) {
  std::vector<AddedToken> tokens;
  const Json* list = root.Find("added_tokens");
  if (list == nullptr) return tokens;
  const std::string name = absl::StrCat(root.name(), ": added_tokens");
  if (!list->is_array()) return absl::InvalidArgumentError(absl::StrCat(name, " is not an array"));
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string inner = absl::StrCat(name, "[", i, "]");
    if (!(*list)[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(inner, " is not an object"));
    }
    SW_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(JsonReader((*list)[i], inner)));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void AddedTokenMatcher::Add(const AddedToken& token, absl::string_view pattern) {
  if (pattern.empty()) return;
  uint32_t node = 0;
  for (char byte : pattern) {
    const uint64_t key = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
    const auto [it, inserted] = edges_.emplace(key, num_nodes_);
    if (inserted) ++num_nodes_;
    node = it->second;
  }
  starts_[static_cast<uint8_t>(pattern[0])] = true;
  if (token_at_.emplace(node, static_cast<uint32_t>(tokens_.size())).second) {
    tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip});
  }
}

int AddedTokenMatcher::Match(absl::string_view text, size_t pos, size_t* end) const {
  int best = -1;
  uint32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const auto edge = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    const auto token = token_at_.find(node);
    if (token == token_at_.end()) continue;
    best = static_cast<int>(token->second);
    *end = i + 1;
  }
  return best;
}

void AddedTokenMatcher::Split(absl::string_view text, std::vector<Part>* parts) const {
  size_t done = 0;       // the parts so far end here
  size_t space_end = 0;  // end of the last run of white space that was absorbed
  for (size_t pos = 0; !empty() && pos < text.size();) {
    size_t end = 0;
    const int index = starts_[static_cast<uint8_t>(text[pos])] ? Match(text, pos, &end) : -1;
    if (index < 0) {
      ++pos;
      continue;
    }
    size_t begin = std::exchange(pos, end);
    const Flags& token = tokens_[static_cast<size_t>(index)];
    if (token.single_word) {
      size_t behind = end;
      const bool word_before = begin > 0 && IsWordChar(CharBefore(text, begin));
      const bool word_behind = end < text.size() && IsWordChar(NextChar(text, &behind));
      if (word_before || word_behind) continue;
    }
    while (token.lstrip && begin > done) {
      const uint32_t ch = CharBefore(text, begin);
      if (!IsWhiteSpace(ch)) break;
      begin -= CharToString(ch).size();
    }
    if (token.rstrip) {
      // A token made of spaces can match inside such a run again and again.
      for (size_t next = end = std::max(end, space_end); next < text.size(); end = next) {
        if (!IsWhiteSpace(NextChar(text, &next))) break;
      }
      space_end = end;
    }
    if (begin > done) parts->push_back({-1, done, begin});
    parts->push_back({token.id, begin, end});
    done = end;
  }
  if (done < text.size()) parts->push_back({-1, done, text.size()});
}

}  // namespace sidewinder::tok
