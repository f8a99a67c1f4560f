// Text between two vocabularies, for one slot: the committed tokens of the verifier become tokens
// of the draft model, and what the draft model proposes becomes tokens of the verifier.
//
//   verifier   [▁un][believ][able]  committed                        [▁sto][ry]  proposed
//                      │ text " unbelievable"                              ▲ " story"
//   draft      [▁unbeliev][able]    fed                         [▁st][ory]  drafted
//
// Nothing here decides what the text becomes: a proposal is verified like any other. So wherever
// texts and tokens do not fit together (half a character, a seam that falls into a token), the
// answer is to propose nothing.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "sidewinder/model.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder {

// The last tokens of a text, which may change when the text grows: a word is tokenised again as a
// whole. All tokens before them are settled.
inline constexpr size_t kUnsettledTokens{4};

// What is known of one model's vocabulary.
struct Vocabulary {
  std::shared_ptr<const Tokenizer> tokenizer;  // not null
  int32_t bos_token = -1;
  std::vector<int32_t> eos_tokens;
  int32_t vocab_limit = 0;

  static Vocabulary Of(const Model& model);
};

// The special token of `to` that means what `id`, a special token of `from`, does: the same
// content, or the end or the beginning of a text.
std::optional<int32_t> Counterpart(const Vocabulary& from, const Vocabulary& to, int32_t id);

// Tokens of a text that grows at its end. Only a window of the last hundred bytes or two is
// tokenised again, so that the work is bounded however long the text is.
class GrowingTokens {
 public:
  // `vocabulary` outlives it. Tokens that the model has no row for are left out.
  explicit GrowingTokens(const Vocabulary* vocabulary);

  void Append(absl::string_view text);
  // A token that is no text: what stands before and behind it is tokenised apart.
  void AppendToken(int32_t id);

  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Tokens at the front that further text leaves as they are. Should it nevertheless reach behind
  // them, the tokens start over, with the last part of the text alone: bounded work goes before a
  // long memory.
  size_t num_settled() const { return num_settled_; }
  // Tokens before the text: a BOS token or the like.
  const std::vector<int32_t>& prefix() const { return prefix_; }
  // Tokens since the last AppendToken (or the prefix).
  absl::Span<const int32_t> segment() const {
    return absl::MakeConstSpan(tokens_).subspan(segment_begin_);
  }
  int64_t num_restarts() const { return num_restarts_; }
  // Tokens of all text so far, parts that were dropped by starting over included.
  int64_t total() const { return dropped_ + static_cast<int64_t>(tokens_.size()); }

 private:
  std::vector<int32_t> Encode(absl::string_view text) const;
  void Settle(const std::vector<int32_t>& encoded);
  void ShortenWindow();
  void StartOver();

  const Vocabulary* vocabulary_;
  std::vector<int32_t> prefix_;
  std::vector<int32_t> tokens_;
  size_t segment_begin_;
  size_t num_settled_;
  int64_t dropped_ = 0;
  int64_t num_restarts_ = 0;
  // The tokens of window_ are context_, followed by tokens_[num_settled_..]. Those of context_ may
  // differ from the ones in tokens_ where the window cuts a word.
  std::string window_;
  std::vector<int32_t> context_;
};

class Retokenizer {
 public:
  Retokenizer(const Vocabulary* verifier, const Vocabulary* draft);  // outlive it

  // The next committed tokens of the verifier.
  void Commit(absl::Span<const int32_t> ids);
  int64_t num_committed() const { return num_committed_; }

  // The committed text in the draft's tokens, as far as it consists of whole characters.
  const GrowingTokens& draft() const { return draft_tokens_; }
  // Draft tokens that make up about so many of the verifier's; at least one.
  int32_t DraftTokensFor(int32_t verifier_tokens) const;

  // The verifier's tokens for what the draft model proposes behind draft().tokens(); none if
  // texts and tokens do not fit together.
  std::vector<int32_t> Propose(absl::Span<const int32_t> drafted) const;

 private:
  void AppendText(const std::string& text);
  void CommitSpecial(int32_t id);
  std::string TextOf(absl::Span<const int32_t> drafted) const;
  std::optional<std::vector<int32_t>> Continue(absl::string_view text) const;

  const Vocabulary* verifier_;
  const Vocabulary* draft_;
  GrowingTokens draft_tokens_;
  int64_t num_committed_ = 0;
  StreamDecoder decoder_;
  std::string text_;           // of the verifier since the last special token, its last part
  std::vector<int32_t> held_;  // last committed tokens whose text is not certain yet
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZER_H_
