// The parts of a Tokenizer.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H_

#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/post_processor.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/vocab.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder {

struct Tokenizer::Impl {
  tok::Vocab vocab;
  tok::AddedTokenMatcher raw_tokens;         // found before normalization
  tok::AddedTokenMatcher normalized_tokens;  // found behind it
  tok::Normalizer normalizer;
  tok::PreTokenizer pre_tokenizer;
  std::optional<tok::BpeModel> model;  // refers to vocab
  tok::PostProcessor post_processor;
  tok::Decoder decoder;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H_
