// Text of one request as its tokens arrive: decoding, stop texts, and what may be shown already.
#ifndef SIDEWINDER_SPECULATIVE_TEXT_STREAM_H_
#define SIDEWINDER_SPECULATIVE_TEXT_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sidewinder/tokenizer.h"

namespace sidewinder {

class TextStream {
 public:
  // `tokenizer` may be null: there is no text then. No stop text is empty.
  TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop);

  // Adds one token. True if this token completes a stop text: the text ends before it, and nothing
  // may be pushed any more.
  bool Push(int32_t token);

  // No more tokens come: what was held back becomes part of the text.
  void Finish();

  // Text that became certain since the last call. What may be the beginning of a stop text, or of a
  // character, is held back.
  std::string TakeNew();

  const std::string& text() const { return text_; }

 private:
  size_t HeldBack() const;  // bytes at the end of text_ that may begin a stop text

  std::optional<StreamDecoder> decoder_;
  std::vector<std::string> stop_;
  std::string text_;
  size_t shown_ = 0;
  bool ended_ = false;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_TEXT_STREAM_H_
