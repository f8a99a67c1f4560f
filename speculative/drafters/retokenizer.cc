#include "speculative/drafters/retokenizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"

namespace sidewinder {
namespace {

// Text that gives tokens the context they need: words that end in the window come out as in the
// whole text.
constexpr size_t kContextBytes{64};
// A window is shortened beyond this.
constexpr size_t kWindowBytes{256};
// Where no shorter window gives the same last tokens (a run of one character, say), it grows up to
// this.
constexpr size_t kLongestWindowBytes{4096};

// Committed tokens without certain text that proposals may follow: a few characters of bytes.
constexpr size_t kMostHeld{32};

constexpr absl::string_view kReplacementChar{"\xEF\xBF\xBD"};  // U+FFFD

// Where the last `bytes` of valid UTF-8 begin: at a character, at a space if one is near, because
// most tokenisers cut there.
size_t WindowBegin(absl::string_view text, size_t bytes) {
  if (text.size() <= bytes) return 0;
  size_t begin = text.size() - bytes;
  while (begin < text.size() && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) ++begin;
  const size_t space = text.substr(begin, bytes / 4).find(' ');
  return space == absl::string_view::npos ? begin : begin + space;
}

bool StartsWith(absl::Span<const int32_t> tokens, absl::Span<const int32_t> prefix) {
  return tokens.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

bool EndsWith(absl::Span<const int32_t> tokens, absl::Span<const int32_t> suffix) {
  return tokens.size() >= suffix.size() &&
         std::equal(suffix.rbegin(), suffix.rend(), tokens.rbegin());
}

// The tokens that `tokenizer` puts before a text.
std::vector<int32_t> TokensBeforeText(const Tokenizer& tokenizer) {
  const std::vector<int32_t> bare = tokenizer.Encode("a", /*add_special_tokens=*/false);
  std::vector<int32_t> full = tokenizer.Encode("a", /*add_special_tokens=*/true);
  const auto text = std::search(full.begin(), full.end(), bare.begin(), bare.end());
  if (text == full.end()) return {};
  full.erase(text, full.end());
  return full;
}

// Without those that a tokenizer has and its model does not.
std::vector<int32_t> KnownTokens(std::vector<int32_t> ids, const Vocabulary& vocabulary) {
  std::erase_if(ids, [&vocabulary](int32_t id) { return id < 0 || id >= vocabulary.vocab_limit; });
  return ids;
}

}  // namespace

Vocabulary Vocabulary::Of(const Model& model) {
  return {.tokenizer = model.tokenizer(),
          .bos_token = model.info().bos_token,
          .eos_tokens = model.info().eos_tokens,
          .vocab_limit = static_cast<int32_t>(model.info().vocab_limit)};
}

std::optional<int32_t> Counterpart(const Vocabulary& from, const Vocabulary& to, int32_t id) {
  std::optional<int32_t> found = to.tokenizer->TokenToId(from.tokenizer->IdToToken(id));
  if (found.has_value() && !to.tokenizer->IsSpecial(*found)) found.reset();
  const bool ends =
      std::find(from.eos_tokens.begin(), from.eos_tokens.end(), id) != from.eos_tokens.end();
  if (!found.has_value() && ends && !to.eos_tokens.empty()) found = to.eos_tokens.front();
  if (!found.has_value() && id == from.bos_token && to.bos_token >= 0) found = to.bos_token;
  if (found.has_value() && *found >= to.vocab_limit) found.reset();
  return found;
}

GrowingTokens::GrowingTokens(const Vocabulary* vocabulary)
    : vocabulary_(vocabulary),
      prefix_(KnownTokens(TokensBeforeText(*vocabulary->tokenizer), *vocabulary)),
      tokens_(prefix_),
      segment_begin_(tokens_.size()),
      num_settled_(tokens_.size()) {}

std::vector<int32_t> GrowingTokens::Encode(absl::string_view text) const {
  return KnownTokens(vocabulary_->tokenizer->Encode(text, /*add_special_tokens=*/false),
                     *vocabulary_);
}

void GrowingTokens::AppendToken(int32_t id) {
  tokens_.push_back(id);
  segment_begin_ = num_settled_ = tokens_.size();
  window_.clear();
  context_.clear();
}

void GrowingTokens::Append(absl::string_view text) {
  if (text.empty()) return;
  window_.append(text.data(), text.size());
  const std::vector<int32_t> encoded = Encode(window_);
  if (!StartsWith(encoded, context_)) return StartOver();
  tokens_.resize(num_settled_);
  tokens_.insert(tokens_.end(), encoded.begin() + static_cast<int64_t>(context_.size()),
                 encoded.end());
  Settle(encoded);
  if (window_.size() > kWindowBytes) ShortenWindow();
}

// `encoded` are the tokens of the window.
void GrowingTokens::Settle(const std::vector<int32_t>& encoded) {
  const size_t unsettled = std::min(kUnsettledTokens, tokens_.size() - num_settled_);
  num_settled_ = tokens_.size() - unsettled;
  context_.assign(encoded.begin(), encoded.end() - static_cast<int64_t>(unsettled));
}

void GrowingTokens::ShortenWindow() {
  const auto unsettled = absl::MakeConstSpan(tokens_).subspan(num_settled_);
  for (size_t bytes = kContextBytes; bytes < window_.size() / 2; bytes *= 4) {
    std::string shorter = window_.substr(WindowBegin(window_, bytes));
    const std::vector<int32_t> encoded = Encode(shorter);
    if (!EndsWith(encoded, unsettled)) continue;
    window_ = std::move(shorter);
    return Settle(encoded);
  }
  if (window_.size() > kLongestWindowBytes) StartOver();
}

void GrowingTokens::StartOver() {
  ++num_restarts_;
  window_.erase(0, WindowBegin(window_, kWindowBytes / 2));
  dropped_ += static_cast<int64_t>(tokens_.size());
  tokens_ = prefix_;
  segment_begin_ = num_settled_ = tokens_.size();
  const std::vector<int32_t> encoded = Encode(window_);
  tokens_.insert(tokens_.end(), encoded.begin(), encoded.end());
  dropped_ = std::max<int64_t>(0, dropped_ - static_cast<int64_t>(tokens_.size()));
  Settle(encoded);
}

Retokenizer::Retokenizer(const Vocabulary* verifier, const Vocabulary* draft)
    : verifier_(verifier), draft_(draft), draft_tokens_(draft), decoder_(verifier->tokenizer) {}

void Retokenizer::Commit(absl::Span<const int32_t> ids) {
  std::string text;  // a prompt is tokenised at once
  for (const int32_t id : ids) {
    ++num_committed_;
    if (verifier_->tokenizer->IsSpecial(id)) {
      AppendText(text + decoder_.Finish());
      text.clear();
      CommitSpecial(id);
      continue;
    }
    const std::string certain = decoder_.Push(id);
    if (!certain.empty()) {
      held_.clear();
    } else if (held_.size() <= kMostHeld) {
      held_.push_back(id);
    }
    text += certain;
  }
  AppendText(text);
}

void Retokenizer::AppendText(const std::string& text) {
  text_ += text;
  if (text_.size() > kWindowBytes) text_.erase(0, WindowBegin(text_, kContextBytes));
  draft_tokens_.Append(text);
}

void Retokenizer::CommitSpecial(int32_t id) {
  text_.clear();
  held_.clear();
  const std::optional<int32_t> counterpart = Counterpart(*verifier_, *draft_, id);
  if (!counterpart.has_value()) return;
  // The token that begins the verifier's text is in the draft's prefix already.
  const std::vector<int32_t>& prefix = draft_tokens_.prefix();
  if (num_committed_ == 1 && !prefix.empty() && prefix.front() == *counterpart) return;
  draft_tokens_.AppendToken(*counterpart);
}

int32_t Retokenizer::DraftTokensFor(int32_t verifier_tokens) const {
  const int64_t num_text =
      draft_tokens_.total() - static_cast<int64_t>(draft_tokens_.prefix().size());
  const double ratio =
      static_cast<double>(num_text) / static_cast<double>(std::max<int64_t>(num_committed_, 1));
  constexpr double kMost{1 << 30};
  return static_cast<int32_t>(std::clamp(std::round(ratio * verifier_tokens), 1.0, kMost));
}

// Decoded behind a few tokens of context: the first token of a text may lose a space.
std::string Retokenizer::TextOf(absl::Span<const int32_t> drafted) const {
  const absl::Span<const int32_t> segment = draft_tokens_.segment();
  const size_t num_context = std::min(segment.size(), kUnsettledTokens);
  std::vector<int32_t> tokens(segment.end() - static_cast<int64_t>(num_context), segment.end());
  const std::string before = draft_->tokenizer->Decode(tokens);
  tokens.insert(tokens.end(), drafted.begin(), drafted.end());
  std::string text = draft_->tokenizer->Decode(tokens);
  while (absl::EndsWith(text, kReplacementChar)) {  // the beginning of a character, perhaps
    text.resize(text.size() - kReplacementChar.size());
  }
  if (!absl::StartsWith(text, before)) return "";
  return text.substr(before.size());
}

// The verifier's tokens for `text` behind the committed ones. Nothing if the tokens of the whole
// are not those of the committed text and more: then the verifier has chosen other tokens than its
// tokenizer would, had `text` been what follows.
std::optional<std::vector<int32_t>> Retokenizer::Continue(absl::string_view text) const {
  if (held_.size() > kMostHeld) return std::nullopt;
  std::string window = text_.substr(WindowBegin(text_, kContextBytes));
  std::vector<int32_t> before = verifier_->tokenizer->Encode(window, /*add_special_tokens=*/false);
  before.insert(before.end(), held_.begin(), held_.end());
  window.append(text.data(), text.size());
  std::vector<int32_t> after = verifier_->tokenizer->Encode(window, /*add_special_tokens=*/false);
  if (!StartsWith(after, before)) return std::nullopt;
  after.erase(after.begin(), after.begin() + static_cast<int64_t>(before.size()));
  return after;
}

std::vector<int32_t> Retokenizer::Propose(absl::Span<const int32_t> drafted) const {
  size_t num_text = 0;
  while (num_text < drafted.size() && !draft_->tokenizer->IsSpecial(drafted[num_text])) ++num_text;
  std::optional<std::vector<int32_t>> proposals = Continue(TextOf(drafted.subspan(0, num_text)));
  if (!proposals.has_value()) return {};
  if (num_text < drafted.size()) {
    const auto special = Counterpart(*draft_, *verifier_, drafted[num_text]);
    if (special.has_value()) proposals->push_back(*special);
  }
  const auto foreign = std::find_if(proposals->begin(), proposals->end(), [this](int32_t id) {
    return id < 0 || id >= verifier_->vocab_limit;
  });
  proposals->erase(foreign, proposals->end());
  return *std::move(proposals);
}

}  // namespace sidewinder
