// Decoders that turn tokens into bytes: ByteLevel and ByteFallback.
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

using Tokens = std::vector<std::string>;

// Bytes to valid UTF-8 as they come; an unfinished character waits.
class Utf8Repairer {
 public:
  void Push(absl::string_view bytes, std::string* out) {
    pending_.append(bytes.data(), bytes.size());
    absl::string_view rest = pending_;
    while (!rest.empty()) {
      const Utf8Unit unit = ClassifyUtf8(rest);
      if (unit.status == Utf8Status::kTruncated) break;
      if (unit.status == Utf8Status::kComplete) {
        out->append(rest.data(), unit.length);
      } else {
        out->append(kReplacementChar);
      }
      rest.remove_prefix(unit.length);
    }
    pending_.erase(0, pending_.size() - rest.size());
  }
  void Finish(std::string* out) {
    if (!pending_.empty()) out->append(kReplacementChar);
    pending_.clear();
  }

 private:
  std::string pending_;
};

// Bytes of `token` in the byte alphabet; false if it has other characters.
bool FromByteLevel(absl::string_view token, std::string* out) {
  const size_t size = out->size();
  for (size_t pos = 0; pos < token.size();) {
    const int byte = CharToByte(NextChar(token, &pos));
    if (byte < 0) {
      out->resize(size);
      return false;
    }
    out->push_back(static_cast<char>(byte));
  }
  return true;
}

class ByteLevelState : public DecoderState {
 public:
  explicit ByteLevelState(bool in_parts) : in_parts_(in_parts) {}

  void Push(absl::string_view token, Tokens* out) override {
    std::string text;
    if (!in_parts_ || foreign_) {
      PushToken(token, &text);
    } else {
      // Whether the long token lies in the byte alphabet is certain only once it does not.
      held_.append(token.data(), token.size());
      std::string bytes;
      foreign_ = !FromByteLevel(token, &bytes);
      if (foreign_) repairer_.Push(std::exchange(held_, std::string()), &text);
    }
    if (!text.empty()) out->push_back(std::move(text));
  }
  void Finish(Tokens* out) override {
    std::string text;
    PushToken(held_, &text);
    repairer_.Finish(&text);
    held_.clear();
    foreign_ = false;
    if (!text.empty()) out->push_back(std::move(text));
  }

 private:
  void PushToken(absl::string_view token, std::string* text) {
    std::string bytes;
    const bool mapped = !foreign_ && FromByteLevel(token, &bytes);
    repairer_.Push(mapped ? bytes : token, text);
  }

  bool in_parts_;
  bool foreign_ = false;
  std::string held_;
  Utf8Repairer repairer_;
};

int HexDigit(char digit) {
  if (absl::ascii_isdigit(digit)) return digit - '0';
  return absl::ascii_isxdigit(digit) ? absl::ascii_tolower(digit) - 'a' + 10 : -1;
}

// The byte of a token like <0x0A>; -1 for other tokens.
int ByteOf(absl::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>') return -1;
  // The reference parser takes a plus sign for the first digit.
  const int high = token[3] == '+' ? 0 : HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// A run of byte tokens is text if all of it is valid UTF-8; otherwise each byte is U+FFFD. So the
// run waits until it ends or until an ill-formed sequence settles its fate.
class ByteFallbackState : public DecoderState {
 public:
  explicit ByteFallbackState(bool in_parts) : in_parts_(in_parts) {}

  void Push(absl::string_view token, Tokens* out) override {
    if (in_parts_) return PushPart(token, out);
    const int byte = ByteOf(token);
    if (byte < 0) {
      EndRun(out);
      out->emplace_back(token);
      return;
    }
    run_.push_back(static_cast<char>(byte));
    CheckRun(out);
  }
  void Finish(Tokens* out) override {
    if (!passing_ && !head_.empty()) {
      const std::string whole = std::exchange(head_, std::string());
      const int byte = ByteOf(whole);
      if (byte < 0) {
        out->push_back(whole);
      } else {
        run_.push_back(static_cast<char>(byte));
        CheckRun(out);
      }
    }
    EndRun(out);
    passing_ = false;
  }

 private:
  // The long token can only be a byte if it is no longer than one.
  void PushPart(absl::string_view part, Tokens* out) {
    if (passing_) {
      out->emplace_back(part);
      return;
    }
    head_.append(part.data(), part.size());
    if (head_.size() <= 6) return;
    passing_ = true;
    out->push_back(std::exchange(head_, std::string()));
  }

  void CheckRun(Tokens* out) {
    while (!broken_ && checked_ < run_.size()) {
      const Utf8Unit unit = ClassifyUtf8(absl::string_view(run_).substr(checked_));
      if (unit.status == Utf8Status::kTruncated) return;
      broken_ = unit.status == Utf8Status::kInvalid;
      checked_ += unit.length;
    }
    if (broken_) EmitReplacements(out);
  }

  void EmitReplacements(Tokens* out) {
    out->insert(out->end(), run_.size(), kReplacementChar);
    run_.clear();
  }

  void EndRun(Tokens* out) {
    if (broken_ || checked_ < run_.size()) {
      EmitReplacements(out);
    } else if (!run_.empty()) {
      out->push_back(run_);
    }
    run_.clear();
    checked_ = 0;
    broken_ = false;
  }

  bool in_parts_;
  std::string run_;     // bytes of the current run that were not given out
  size_t checked_ = 0;  // of them, a prefix of whole characters
  bool broken_ = false;
  std::string head_;  // of the long token
  bool passing_ = false;
};

class ByteLevelStep : public DecoderStep {
 public:
  std::unique_ptr<DecoderState> Start(bool in_parts) const override {
    return std::make_unique<ByteLevelState>(in_parts);
  }
  bool joins() const override { return true; }
};

class ByteFallbackStep : public DecoderStep {
 public:
  std::unique_ptr<DecoderState> Start(bool in_parts) const override {
    return std::make_unique<ByteFallbackState>(in_parts);
  }
};

}  // namespace

std::unique_ptr<const DecoderStep> MakeByteLevelDecoder() {
  return std::make_unique<ByteLevelStep>();
}

std::unique_ptr<const DecoderStep> MakeByteFallbackDecoder() {
  return std::make_unique<ByteFallbackStep>();
}

}  // namespace sidewinder::tok
