// UTF-8 and the few character classes that tokenizers need.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace sidewinder::tok {

inline constexpr char kReplacementChar[]{"\xEF\xBF\xBD"};  // U+FFFD

enum class Utf8Status { kComplete, kTruncated, kInvalid };

// What stands at the start of non-empty `bytes`: a whole character, the beginning of one that ends
// with the bytes, or an ill-formed sequence, of which `length` is the part that one U+FFFD
// replaces.
struct Utf8Unit {
  Utf8Status status;
  size_t length;
};
Utf8Unit ClassifyUtf8(absl::string_view bytes);

bool IsValidUtf8(absl::string_view bytes);
// Every ill-formed sequence becomes one U+FFFD.
std::string RepairUtf8(absl::string_view bytes);

// Bytes of the character that `lead` begins; for valid UTF-8 only.
inline size_t CharLength(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
// The character at `*pos` of valid UTF-8; moves `*pos` behind it.
uint32_t NextChar(absl::string_view text, size_t* pos);
// The character that ends at `end` > 0 of valid UTF-8.
uint32_t CharBefore(absl::string_view text, size_t end);
void AppendChar(uint32_t ch, std::string* out);
std::string CharToString(uint32_t ch);

bool IsWhiteSpace(uint32_t ch);     // property White_Space
bool IsNumeric(uint32_t ch);        // categories Nd, Nl, No
bool IsPunctuation(uint32_t ch);    // ASCII punctuation and categories P*
bool IsWordChar(uint32_t ch);       // \w of UTS 18
bool IsCombiningMark(uint32_t ch);  // categories M*
void AppendLowercase(uint32_t ch, std::string* out);

// The reversible alphabet of byte-level BPE: printable Latin-1 stands for itself, the other 68
// bytes are U+0100 and up.
uint32_t ByteToChar(uint8_t byte);
// -1 for characters outside the alphabet.
int CharToByte(uint32_t ch);
void AppendByteLevel(absl::string_view bytes, std::string* out);

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_UNICODE_H_
