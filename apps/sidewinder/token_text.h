// Turns the updates of a request into text for a terminal or a pipe: what the drafter proposed is
// told apart by colour.
#ifndef SIDEWINDER_APPS_SIDEWINDER_TOKEN_TEXT_H_
#define SIDEWINDER_APPS_SIDEWINDER_TOKEN_TEXT_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "sidewinder/engine.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder::cli {

class TokenText {
 public:
  // Without a tokenizer (null) the text is the ids, separated by commas.
  TokenText(const std::shared_ptr<const Tokenizer>& tokenizer, bool color);

  // What to print for an update: as much text as it made certain.
  std::string Add(const RequestUpdate& update);

  // What to print at the end of a request whose whole text is `text`.
  std::string Finish(const std::string& text);

 private:
  struct Piece {
    std::string text;
    bool drafted;
  };
  std::string AddIds(const RequestUpdate& update);
  std::string Take(absl::string_view text);  // colours it with the pieces it came from
  std::string Paint(absl::string_view text, bool drafted) const;

  std::optional<StreamDecoder> decoder_;
  bool color_;
  std::deque<Piece> pieces_;  // decoded but not yet printed
  size_t printed_ = 0;        // bytes of text, colours not counted
};

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_TOKEN_TEXT_H_
