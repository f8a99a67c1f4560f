#include "speculative/text_stream.h"

#include <algorithm>
#include <utility>

namespace sidewinder {

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop)
    : stop_(std::move(stop)) {
  if (tokenizer != nullptr) decoder_.emplace(std::move(tokenizer));
}

bool TextStream::Push(int32_t token) {
  if (!decoder_.has_value() || ended_) return false;
  const size_t before = text_.size();
  text_ += decoder_->Push(token);
  size_t found = std::string::npos;
  for (const std::string& stop : stop_) {
    const size_t from = before < stop.size() ? 0 : before - stop.size() + 1;
    found = std::min(found, text_.find(stop, from));
  }
  if (found == std::string::npos) return false;
  text_.resize(found);
  ended_ = true;
  return true;
}

void TextStream::Finish() {
  if (decoder_.has_value() && !ended_) text_ += decoder_->Finish();
  ended_ = true;
}

size_t TextStream::HeldBack() const {
  if (ended_) return 0;
  size_t held = 0;
  for (const std::string& stop : stop_) {
    for (size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n) {
      if (text_.compare(text_.size() - n, n, stop, 0, n) == 0) {
        held = n;
        break;
      }
    }
  }
  return held;
}

std::string TextStream::TakeNew() {
  const size_t certain = std::max(shown_, text_.size() - HeldBack());
  std::string fresh = text_.substr(std::min(shown_, text_.size()), certain - shown_);
  shown_ = certain;
  return fresh;
}

}  // namespace sidewinder
