#include "sidewinder/tokenizer.h"

#include <utility>

#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder {
namespace {

using tok::AddedTokenMatcher;

// One Encode call.
class Encoding {
 public:
  explicit Encoding(const Tokenizer::Impl& impl) : impl_(impl) {}

  std::vector<int32_t> Run(absl::string_view text) {
    std::vector<AddedTokenMatcher::Part> parts;
    impl_.raw_tokens.Split(text, &parts);
    for (const AddedTokenMatcher::Part& part : parts) {
      if (part.id >= 0) {
        ids_.push_back(part.id);
      } else {
        const absl::string_view piece = text.substr(part.begin, part.end - part.begin);
        Normalize(piece, part.begin == 0 ? tok::CharLength(piece[0]) : 0);
      }
    }
    return std::move(ids_);
  }

 private:
  // The first `origin_end` bytes of `piece` are the first character of the whole input.
  void Normalize(absl::string_view piece, size_t origin_end) {
    if (impl_.normalizer.empty()) return SplitNormalized(piece, origin_end);
    tok::NormalizedText normalized{std::string(piece), origin_end};
    impl_.normalizer.Apply(&normalized);
    SplitNormalized(normalized.text, normalized.origin_end);
  }

  void SplitNormalized(absl::string_view text, size_t origin_end) {
    std::vector<AddedTokenMatcher::Part> parts;
    impl_.normalized_tokens.Split(text, &parts);
    for (const AddedTokenMatcher::Part& part : parts) {
      if (part.id >= 0) {
        ids_.push_back(part.id);
      } else {
        const absl::string_view piece = text.substr(part.begin, part.end - part.begin);
        PreTokenize(piece, std::max(origin_end, part.begin) - part.begin);
      }
    }
  }

  void PreTokenize(absl::string_view piece, size_t origin_end) {
    pieces_.Reset(piece, origin_end);
    impl_.pre_tokenizer.Apply(&pieces_);
    const bool map_bytes = impl_.pre_tokenizer.ends_in_byte_level();
    for (const tok::Pieces::Range& range : pieces_.ranges) {
      impl_.model->Encode(pieces_.at(range), map_bytes, &scratch_, &ids_);
    }
  }

  const Tokenizer::Impl& impl_;
  tok::Pieces pieces_;
  tok::BpeScratch scratch_;
  std::vector<int32_t> ids_;
};

// Feeds the content of `id` to `run`, unless it has none or is to be skipped.
void PushToken(const Tokenizer::Impl& impl, int32_t id, bool skip_special_tokens,
               tok::DecoderRun* run, std::string* out) {
  const tok::Token* token = impl.vocab.Find(id);
  if (token == nullptr || (skip_special_tokens && token->special)) return;
  run->Push(token->normalized.has_value() ? *token->normalized : token->content, out);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(absl::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!tok::IsValidUtf8(text)) {
    repaired = tok::RepairUtf8(text);
    text = repaired;
  }
  return impl_->post_processor.Apply(Encoding(*impl_).Run(text), add_special_tokens);
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  tok::DecoderRun run = impl_->decoder.Start();
  for (int32_t id : ids) PushToken(*impl_, id, skip_special_tokens, &run, &text);
  run.Finish(&text);
  return text;
}

int32_t Tokenizer::vocab_size() const {
  const std::vector<tok::Token>& tokens = impl_->vocab.tokens();
  return tokens.empty() ? 0 : tokens.back().id + 1;
}

std::optional<int32_t> Tokenizer::TokenToId(absl::string_view token) const {
  const tok::Token* found = impl_->vocab.Find(token);
  return found == nullptr ? std::nullopt : std::optional<int32_t>(found->id);
}

std::string Tokenizer::IdToToken(int32_t id) const {
  const tok::Token* found = impl_->vocab.Find(id);
  return found == nullptr ? std::string() : found->content;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const tok::Token* found = impl_->vocab.Find(id);
  return found != nullptr && found->special;
}

bool Tokenizer::SameVocabulary(const Tokenizer& other) const {
  const std::vector<tok::Token>& mine = impl_->vocab.tokens();
  const std::vector<tok::Token>& theirs = other.impl_->vocab.tokens();
  return std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                    [](const tok::Token& a, const tok::Token& b) {
                      return a.id == b.id && a.content == b.content;
                    });
}

struct StreamDecoder::State {
  std::shared_ptr<const Tokenizer> tokenizer;
  bool skip_special_tokens;
  tok::DecoderRun run;
};

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens) {
  tok::DecoderRun run = tokenizer->impl_->decoder.Start();
  state_.reset(new State{std::move(tokenizer), skip_special_tokens, std::move(run)});
}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string text;
  PushToken(*state_->tokenizer->impl_, id, state_->skip_special_tokens, &state_->run, &text);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text;
  state_->run.Finish(&text);
  state_->run = state_->tokenizer->impl_->decoder.Start();
  return text;
}

}  // namespace sidewinder
