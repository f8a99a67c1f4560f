// Text to token ids and back, from a Hugging Face tokenizer.json.
#ifndef SIDEWINDER_TOKENIZER_H_
#define SIDEWINDER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sidewinder {

// Immutable after Load; all const functions may be called from several threads at once.
class Tokenizer {
 public:
  // `path` is a tokenizer.json or a folder that holds one. Errors name the file and the field:
  // NotFound (no such file), InvalidArgument (malformed or contradictory), Unimplemented (a
  // component type that is not supported, with the supported ones).
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& path);

  // The same from the file's text; `name` stands for the file in error messages.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Parse(absl::string_view json,
                                                                const std::string& name);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Token ids of UTF-8 `text`. `add_special_tokens` applies the post-processor (a BOS token and the
  // like). Bytes that are not valid UTF-8 are replaced by U+FFFD first. Never fails.
  std::vector<int32_t> Encode(absl::string_view text, bool add_special_tokens = true) const;

  // Text of `ids`. Ids without a token are skipped. The result is valid UTF-8.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special_tokens = true) const;

  // One more than the largest id.
  int32_t vocab_size() const;

  // Id of a token by its exact content ("<|endoftext|>"); nullopt if there is none.
  std::optional<int32_t> TokenToId(absl::string_view token) const;
  // Content of a token as it stands in the vocabulary; empty if there is none.
  std::string IdToToken(int32_t id) const;
  bool IsSpecial(int32_t id) const;

  // True if both map every id to the same token: a draft model's proposals are the verifier's
  // tokens then.
  bool SameVocabulary(const Tokenizer& other) const;

  struct Impl;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Decodes a growing sequence of ids piece by piece: the concatenation of everything returned equals
// Decode() of all ids, and every piece is valid UTF-8 (bytes of an unfinished character are held
// back). Not thread-safe.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer,
                         bool skip_special_tokens = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  // Text that became certain by this id; may be empty.
  std::string Push(int32_t id);
  // What was held back; the decoder is empty afterwards.
  std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_TOKENIZER_H_
