#include "apps/sidewinder/token_text.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

namespace sidewinder::cli {
namespace {

constexpr char kDraftedColor[]{"\x1b[32m"};
constexpr char kPlainColor[]{"\x1b[0m"};

}  // namespace

TokenText::TokenText(const std::shared_ptr<const Tokenizer>& tokenizer, bool color)
    : color_(color) {
  if (tokenizer != nullptr) decoder_.emplace(tokenizer);
}

std::string TokenText::Add(const RequestUpdate& update) {
  if (!decoder_) return AddIds(update);
  for (const NewToken& token : update.tokens) {
    if (std::string piece = decoder_->Push(token.id); !piece.empty()) {
      pieces_.push_back({std::move(piece), token.drafted});
    }
  }
  return Take(update.text);
}

std::string TokenText::Finish(const std::string& text) {
  if (!decoder_ || text.size() <= printed_) return "";
  const bool drafted = !pieces_.empty() && pieces_.back().drafted;
  pieces_.push_back({decoder_->Finish(), drafted});
  return Take(absl::string_view(text).substr(printed_));
}

std::string TokenText::AddIds(const RequestUpdate& update) {
  std::string result;
  for (const NewToken& token : update.tokens) {
    absl::StrAppend(&result, printed_ == 0 ? "" : ",",
                    Paint(absl::StrCat(token.id), token.drafted));
    ++printed_;
  }
  return result;
}

std::string TokenText::Take(absl::string_view text) {
  printed_ += text.size();
  std::string result;
  while (!text.empty()) {
    if (pieces_.empty()) pieces_.push_back({std::string(text), false});
    Piece& piece = pieces_.front();
    const size_t n = std::min(text.size(), piece.text.size());
    absl::StrAppend(&result, Paint(text.substr(0, n), piece.drafted));
    text.remove_prefix(n);
    piece.text.erase(0, n);
    if (piece.text.empty()) pieces_.pop_front();
  }
  return result;
}

std::string TokenText::Paint(absl::string_view text, bool drafted) const {
  if (!color_ || !drafted) return std::string(text);
  return absl::StrCat(kDraftedColor, text, kPlainColor);
}

}  // namespace sidewinder::cli
