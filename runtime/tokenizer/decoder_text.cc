// Decoders that work on text: Fuse, Replace, Strip, Metaspace and the default, joining with spaces.
#include <algorithm>
#include <utility>

#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

using Tokens = std::vector<std::string>;

void Emit(std::string text, Tokens* out) {
  if (!text.empty()) out->push_back(std::move(text));
}

class FuseState : public DecoderState {
 public:
  void Push(absl::string_view token, Tokens* out) override { out->emplace_back(token); }
  void Finish(Tokens*) override {}
};

class FuseStep : public DecoderStep {
 public:
  std::unique_ptr<DecoderState> Start(bool) const override { return std::make_unique<FuseState>(); }
  bool joins() const override { return true; }
};

class JoinState : public DecoderState {
 public:
  void Push(absl::string_view token, Tokens* out) override {
    if (!first_) out->emplace_back(" ");
    first_ = false;
    out->emplace_back(token);
  }
  void Finish(Tokens*) override { first_ = true; }

 private:
  bool first_ = true;
};

class JoinStep : public DecoderStep {
 public:
  std::unique_ptr<DecoderState> Start(bool) const override { return std::make_unique<JoinState>(); }
};

std::string ReplaceAll(const Pattern& pattern, const std::string& content, absl::string_view text) {
  std::vector<Span> spans;
  pattern.FindAll(text, &spans);
  std::string out;
  for (const Span& span : spans) {
    if (span.is_match) {
      out += content;
    } else {
      out.append(text.data() + span.begin, span.end - span.begin);
    }
  }
  return out;
}

// In the long token a literal match may still be unfinished at the end of what came so far, and any
// later text may change what a regular expression matches.
class ReplaceState : public DecoderState {
 public:
  ReplaceState(const Pattern* pattern, const std::string* content, bool in_parts)
      : pattern_(pattern), content_(content), in_parts_(in_parts) {}

  void Push(absl::string_view token, Tokens* out) override {
    if (!in_parts_) {
      // Not dropped when empty: the next decoder may count tokens.
      out->push_back(ReplaceAll(*pattern_, *content_, token));
      return;
    }
    held_.append(token.data(), token.size());
    const std::string* literal = pattern_->literal();
    if (literal == nullptr || literal->empty()) return;
    std::string text;
    size_t done = 0;
    for (size_t at; (at = held_.find(*literal, done)) != std::string::npos;) {
      text.append(held_, done, at - done).append(*content_);
      done = at + literal->size();
    }
    const size_t keep = PartialMatch(*literal, done);
    text.append(held_, done, held_.size() - keep - done);
    held_.erase(0, held_.size() - keep);
    Emit(std::move(text), out);
  }
  void Finish(Tokens* out) override {
    Emit(ReplaceAll(*pattern_, *content_, std::exchange(held_, std::string())), out);
  }

 private:
  // Length of the longest end of held_, not before `from`, that a match could begin with. It starts
  // at a character, because the literal does.
  size_t PartialMatch(const std::string& literal, size_t from) const {
    size_t keep = std::min(literal.size() - 1, held_.size() - from);
    while (keep > 0 && held_.compare(held_.size() - keep, keep, literal, 0, keep) != 0) --keep;
    return keep;
  }

  const Pattern* pattern_;
  const std::string* content_;
  bool in_parts_;
  std::string held_;
};

class ReplaceStep : public DecoderStep {
 public:
  ReplaceStep(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::unique_ptr<DecoderState> Start(bool in_parts) const override {
    return std::make_unique<ReplaceState>(&pattern_, &content_, in_parts);
  }
  Growth growth() const override { return ReplaceGrowth(pattern_, content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

// Up to `start` characters at the front and `stop` at the end of each token, if they are `mark`.
class StripState : public DecoderState {
 public:
  StripState(std::string mark, size_t start, size_t stop, bool in_parts)
      : mark_(std::move(mark)), start_(start), stop_(stop), in_parts_(in_parts) {}

  void Push(absl::string_view token, Tokens* out) override {
    if (!in_parts_) {
      at_front_ = true;
      stripped_ = 0;
    }
    std::string text = std::exchange(held_, std::string());
    absl::string_view rest = token;
    while (at_front_ && stripped_ < start_ && TakeMark(&rest)) ++stripped_;
    at_front_ = at_front_ && rest.empty() && stripped_ < start_;
    text.append(rest.data(), rest.size());
    const size_t cut = TrailingMarks(text);
    if (in_parts_) held_ = text.substr(text.size() - cut);
    text.resize(text.size() - cut);
    if (in_parts_) return Emit(std::move(text), out);
    out->push_back(std::move(text));
  }
  void Finish(Tokens*) override {
    held_.clear();
    at_front_ = true;
    stripped_ = 0;
  }

 private:
  bool TakeMark(absl::string_view* text) const {
    if (text->substr(0, mark_.size()) != mark_) return false;
    text->remove_prefix(mark_.size());
    return true;
  }
  // Bytes of the marks at the end of `text`, at most stop_ of them.
  size_t TrailingMarks(absl::string_view text) const {
    size_t bytes = 0;
    for (size_t i = 0; i < stop_ && text.size() >= bytes + mark_.size(); ++i) {
      if (text.substr(text.size() - bytes - mark_.size(), mark_.size()) != mark_) break;
      bytes += mark_.size();
    }
    return bytes;
  }

  std::string mark_;
  size_t start_;
  size_t stop_;
  bool in_parts_;
  bool at_front_ = true;
  size_t stripped_ = 0;
  std::string held_;  // marks at the end of what came so far
};

class StripStep : public DecoderStep {
 public:
  StripStep(uint32_t ch, size_t start, size_t stop) : ch_(ch), start_(start), stop_(stop) {}
  std::unique_ptr<DecoderState> Start(bool in_parts) const override {
    return std::make_unique<StripState>(CharToString(ch_), start_, stop_, in_parts);
  }

 private:
  uint32_t ch_;
  size_t start_;
  size_t stop_;
};

// Marks become spaces, except in the first token, where they vanish.
class MetaspaceState : public DecoderState {
 public:
  MetaspaceState(std::string mark, bool drop_in_first, bool in_parts)
      : mark_(std::move(mark)), drop_in_first_(drop_in_first), in_parts_(in_parts) {}

  void Push(absl::string_view token, Tokens* out) override {
    const bool drop = first_ && drop_in_first_;
    if (!in_parts_) first_ = false;  // the long token is the first one to its end
    std::string text;
    for (size_t pos = 0; pos < token.size();) {
      const absl::string_view ch = token.substr(pos, CharLength(token[pos]));
      pos += ch.size();
      if (ch != mark_) {
        text.append(ch.data(), ch.size());
      } else if (!drop) {
        text.push_back(' ');
      }
    }
    out->push_back(std::move(text));
  }
  void Finish(Tokens*) override { first_ = true; }

 private:
  std::string mark_;
  bool drop_in_first_;
  bool in_parts_;
  bool first_ = true;
};

class MetaspaceStep : public DecoderStep {
 public:
  MetaspaceStep(uint32_t mark, bool drop_in_first) : mark_(mark), drop_in_first_(drop_in_first) {}
  std::unique_ptr<DecoderState> Start(bool in_parts) const override {
    return std::make_unique<MetaspaceState>(CharToString(mark_), drop_in_first_, in_parts);
  }

 private:
  uint32_t mark_;
  bool drop_in_first_;
};

}  // namespace

std::unique_ptr<const DecoderStep> MakeFuseDecoder() { return std::make_unique<FuseStep>(); }

std::unique_ptr<const DecoderStep> MakeJoinWithSpaces() { return std::make_unique<JoinStep>(); }

std::unique_ptr<const DecoderStep> MakeReplaceDecoder(Pattern pattern, std::string content) {
  return std::make_unique<ReplaceStep>(std::move(pattern), std::move(content));
}

std::unique_ptr<const DecoderStep> MakeStripDecoder(uint32_t ch, size_t start, size_t stop) {
  return std::make_unique<StripStep>(ch, start, stop);
}

std::unique_ptr<const DecoderStep> MakeMetaspaceDecoder(uint32_t mark, bool drop_in_first) {
  return std::make_unique<MetaspaceStep>(mark, drop_in_first);
}

}  // namespace sidewinder::tok
