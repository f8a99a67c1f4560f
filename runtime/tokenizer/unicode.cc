#include "runtime/tokenizer/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstring>

#include "absl/strings/match.h"
#include "runtime/tokenizer/unicode_tables.h"

namespace sidewinder::tok {
namespace {

struct ByteAlphabet {
  std::array<uint16_t, 256> to_char{};
  std::array<int16_t, 512> to_byte{};
};

ByteAlphabet MakeByteAlphabet() {
  ByteAlphabet alphabet;
  alphabet.to_byte.fill(-1);
  uint16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const uint16_t ch = printable ? static_cast<uint16_t>(byte) : next++;
    alphabet.to_char[byte] = ch;
    alphabet.to_byte[ch] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

const ByteAlphabet& Alphabet() {
  static const ByteAlphabet alphabet = MakeByteAlphabet();
  return alphabet;
}

// Bytes after the lead byte, and the legal range of the first of them; 0 for no lead byte.
struct LeadByte {
  size_t tail;
  uint8_t min;
  uint8_t max;
};

LeadByte ClassifyLead(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};  // above are surrogates
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};  // above is U+10FFFF
  return {0, 0, 0};
}

// Length of the run of ASCII at the start.
size_t AsciiPrefix(absl::string_view bytes) {
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (i < bytes.size() && static_cast<uint8_t>(bytes[i]) < 0x80) ++i;
  return i;
}

utf8proc_category_t Category(uint32_t ch) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(ch));
}

}  // namespace

Utf8Unit ClassifyUtf8(absl::string_view bytes) {
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return {Utf8Status::kComplete, 1};
  const LeadByte info = ClassifyLead(lead);
  if (info.tail == 0) return {Utf8Status::kInvalid, 1};
  for (size_t i = 1; i <= info.tail; ++i) {
    if (i == bytes.size()) return {Utf8Status::kTruncated, i};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? info.min : 0x80;
    const uint8_t max = i == 1 ? info.max : 0xBF;
    if (byte < min || byte > max) return {Utf8Status::kInvalid, i};
  }
  return {Utf8Status::kComplete, info.tail + 1};
}

bool IsValidUtf8(absl::string_view bytes) {
  while (true) {
    bytes.remove_prefix(AsciiPrefix(bytes));
    if (bytes.empty()) return true;
    const Utf8Unit unit = ClassifyUtf8(bytes);
    if (unit.status != Utf8Status::kComplete) return false;
    bytes.remove_prefix(unit.length);
  }
}

std::string RepairUtf8(absl::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t ascii = AsciiPrefix(bytes);
    out.append(bytes.data(), ascii);
    bytes.remove_prefix(ascii);
    if (bytes.empty()) break;
    const Utf8Unit unit = ClassifyUtf8(bytes);
    if (unit.status == Utf8Status::kComplete) {
      out.append(bytes.data(), unit.length);
    } else {
      out.append(kReplacementChar);
    }
    bytes.remove_prefix(unit.length);
  }
  return out;
}

uint32_t NextChar(absl::string_view text, size_t* pos) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + *pos;
  const size_t length = CharLength(text[*pos]);
  *pos += length;
  if (length == 1) return bytes[0];
  if (length == 2) return (bytes[0] & 0x1Fu) << 6 | (bytes[1] & 0x3Fu);
  if (length == 3) {
    return (bytes[0] & 0x0Fu) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
  }
  return (bytes[0] & 0x07u) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 |
         (bytes[3] & 0x3Fu);
}

uint32_t CharBefore(absl::string_view text, size_t end) {
  size_t begin = end - 1;
  while ((static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return NextChar(text, &begin);
}

void AppendChar(uint32_t ch, std::string* out) {
  if (ch < 0x80) {
    out->push_back(static_cast<char>(ch));
    return;
  }
  if (ch < 0x800) {
    out->push_back(static_cast<char>(0xC0 | ch >> 6));
  } else if (ch < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | ch >> 12));
    out->push_back(static_cast<char>(0x80 | (ch >> 6 & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | ch >> 18));
    out->push_back(static_cast<char>(0x80 | (ch >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (ch >> 6 & 0x3F)));
  }
  out->push_back(static_cast<char>(0x80 | (ch & 0x3F)));
}

std::string CharToString(uint32_t ch) {
  std::string out;
  AppendChar(ch, &out);
  return out;
}

bool IsWhiteSpace(uint32_t ch) {
  if (ch < 0x80) return ch == ' ' || (ch >= '\t' && ch <= '\r');
  return ch == 0x85 || ch == 0xA0 || ch == 0x1680 || (ch >= 0x2000 && ch <= 0x200A) ||
         ch == 0x2028 || ch == 0x2029 || ch == 0x202F || ch == 0x205F || ch == 0x3000;
}

bool IsNumeric(uint32_t ch) {
  if (ch < 0x80) return ch >= '0' && ch <= '9';
  const utf8proc_category_t category = Category(ch);
  if (category == UTF8PROC_CATEGORY_CN) return absl::StartsWith(AddedCategory(ch), "N");
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(uint32_t ch) {
  if (ch < 0x80) {
    return (ch >= '!' && ch <= '/') || (ch >= ':' && ch <= '@') || (ch >= '[' && ch <= '`') ||
           (ch >= '{' && ch <= '~');
  }
  if (ch == 0x166D || ch == 0x111C9) return true;  // were punctuation in Unicode 8
  const utf8proc_category_t category = Category(ch);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO &&
         !IsYoungPunctuation(ch);
}

bool IsCombiningMark(uint32_t ch) {
  const utf8proc_category_t category = Category(ch);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool IsWordChar(uint32_t ch) {
  if (ch < 0x80) {
    return (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') ||
           ch == '_';
  }
  const utf8proc_category_t category = Category(ch);
  if (category == UTF8PROC_CATEGORY_CN) {
    const absl::string_view added = AddedCategory(ch);
    return !added.empty() && (added[0] == 'L' || added[0] == 'M' || added == "Nd" || added == "Nl");
  }
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) return true;
  if (category == UTF8PROC_CATEGORY_PC) return true;
  // Join controls, and the circled and squared letters: alphabetic, although symbols by category.
  return ch == 0x200C || ch == 0x200D || (ch >= 0x24B6 && ch <= 0x24E9) ||
         (ch >= 0x1F130 && ch <= 0x1F149) || (ch >= 0x1F150 && ch <= 0x1F169) ||
         (ch >= 0x1F170 && ch <= 0x1F189);
}

void AppendLowercase(uint32_t ch, std::string* out) {
  if (ch == 0x130) {  // the only character whose lower case is two characters
    out->append("i\xCC\x87");
    return;
  }
  AppendChar(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(ch))), out);
}

uint32_t ByteToChar(uint8_t byte) { return Alphabet().to_char[byte]; }

int CharToByte(uint32_t ch) { return ch < 512 ? Alphabet().to_byte[ch] : -1; }

void AppendByteLevel(absl::string_view bytes, std::string* out) {
  const ByteAlphabet& alphabet = Alphabet();
  for (char byte : bytes) AppendChar(alphabet.to_char[static_cast<uint8_t>(byte)], out);
}

}  // namespace sidewinder::tok
