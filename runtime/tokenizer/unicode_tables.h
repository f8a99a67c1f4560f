// Characters that the installed libraries may not know yet, and an older view of punctuation.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_TABLES_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_TABLES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace sidewinder::tok {

// General category, like "Lu", of a character that Unicode 15, 15.1 or 16 added; empty for others.
absl::string_view AddedCategory(uint32_t ch);

// The same characters as members of a PCRE2 character class: those whose category begins with
// `category`.
std::string AddedRanges(absl::string_view category);

// True for punctuation that is younger than Unicode 8.
bool IsYoungPunctuation(uint32_t ch);

// True for characters that are too young for normalization to touch.
bool IsNormalizationBarrier(uint32_t ch);

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_TABLES_H_
