// The "decoder" of a tokenizer.json: token contents to text, one token at a time.
//
// A chain of decoders first passes tokens on. A decoder that joins them (Fuse, ByteLevel) turns
// what follows into one long token, which arrives in parts. Each decoder gives out what no later
// input can change, so text streams as early as the file's chain allows.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_DECODER_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_DECODER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/component.h"

namespace sidewinder::tok {

// What remembers a decoder's past input. One for each text.
class DecoderState {
 public:
  virtual ~DecoderState() = default;
  // Takes a whole token or, behind a joining decoder, the next part of the long token. Appends the
  // tokens or parts that are certain now.
  virtual void Push(absl::string_view token, std::vector<std::string>* out) = 0;
  // The end of the text.
  virtual void Finish(std::vector<std::string>* out) = 0;
};

// Immutable; makes states.
class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  // `in_parts`: the input is one long token in parts.
  virtual std::unique_ptr<DecoderState> Start(bool in_parts) const = 0;
  virtual bool joins() const { return false; }
  virtual Growth growth() const { return {}; }
};

class DecoderRun;

class Decoder {
 public:
  static absl::StatusOr<Decoder> Read(const JsonReader& root);
  DecoderRun Start() const;

 private:
  std::vector<std::unique_ptr<const DecoderStep>> steps_;
};

// One text on its way through a decoder, which must outlive it.
class DecoderRun {
 public:
  void Push(absl::string_view token, std::string* out);
  void Finish(std::string* out);

 private:
  friend class Decoder;
  // Feeds `tokens` to the states from `first` on.
  void Feed(size_t first, std::vector<std::string> tokens, std::string* out);

  std::vector<std::unique_ptr<DecoderState>> states_;
};

// Decoders that work on characters and bytes; null for other types.
std::unique_ptr<const DecoderStep> MakeByteLevelDecoder();
std::unique_ptr<const DecoderStep> MakeByteFallbackDecoder();
std::unique_ptr<const DecoderStep> MakeFuseDecoder();
std::unique_ptr<const DecoderStep> MakeJoinWithSpaces();
std::unique_ptr<const DecoderStep> MakeReplaceDecoder(Pattern pattern, std::string content);
std::unique_ptr<const DecoderStep> MakeStripDecoder(uint32_t ch, size_t start, size_t stop);
std::unique_ptr<const DecoderStep> MakeMetaspaceDecoder(uint32_t mark, bool drop_in_first);

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_DECODER_H_
