#include "runtime/tokenizer/bpe.h"

#include <algorithm>
#include <functional>

#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

using Symbol = BpeScratch::Symbol;

constexpr size_t kMaxCachedBytes{128};  // longer pieces hardly ever repeat
constexpr size_t kMaxCachedPieces{1u << 16};

void Append(int32_t id, std::vector<Symbol>* symbols) {
  const auto size = static_cast<int32_t>(symbols->size());
  if (size > 0) symbols->back().next = size;
  symbols->push_back({id, size - 1, -1});
}

}  // namespace

void BpeModel::Encode(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
                      std::vector<int32_t>* ids) const {
  if (piece.size() > kMaxCachedBytes) return EncodeLong(piece, map_bytes, scratch, ids);
  const auto it = scratch->cache.find(piece);
  if (it != scratch->cache.end()) {
    const auto begin = scratch->cached_ids.begin() + it->second.begin;
    ids->insert(ids->end(), begin, begin + it->second.count);
    return;
  }
  const size_t first = ids->size();
  EncodeUncached(piece, map_bytes, scratch, ids);
  if (scratch->cache.size() >= kMaxCachedPieces) return;
  const auto begin = static_cast<uint32_t>(scratch->cached_ids.size());
  scratch->cached_ids.insert(scratch->cached_ids.end(), ids->begin() + static_cast<int64_t>(first),
                             ids->end());
  scratch->cache.emplace(piece,
                         BpeScratch::Cached{begin, static_cast<uint32_t>(ids->size() - first)});
}

// Without a pre-tokenizer a prompt is one piece. A merge across the border of two characters needs
// a left side that ends with the first and a right side that begins with the second; where no merge
// has such sides the piece can be cut with the same result, and the parts are words that repeat.
void BpeModel::EncodeLong(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
                          std::vector<int32_t>* ids) const {
  if (ignore_merges_) return EncodeUncached(piece, map_bytes, scratch, ids);
  size_t done = 0;
  uint32_t left = 0;
  bool left_known = false;  // unknown characters have other tokens, which may merge otherwise
  const auto encode_part = [&](size_t end) {
    const absl::string_view part = piece.substr(done, end - done);
    done = end;
    part.size() > kMaxCachedBytes ? EncodeUncached(part, map_bytes, scratch, ids)
                                  : Encode(part, map_bytes, scratch, ids);
  };
  for (size_t pos = 0; pos < piece.size();) {
    const size_t border = pos;
    const uint32_t right =
        map_bytes ? ByteToChar(static_cast<uint8_t>(piece[pos++])) : NextChar(piece, &pos);
    const bool right_known = CharId(right) >= 0;
    if (left_known && right_known && !joints_.contains(static_cast<uint64_t>(left) << 32 | right)) {
      encode_part(border);
    }
    left = right;
    left_known = right_known;
  }
  encode_part(piece.size());
}

void BpeModel::EncodeUncached(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
                              std::vector<int32_t>* ids) const {
  if (ignore_merges_) {
    absl::string_view content = piece;
    if (map_bytes) {
      scratch->mapped.clear();
      AppendByteLevel(piece, &scratch->mapped);
      content = scratch->mapped;
    }
    if (const Token* token = vocab_->FindInModel(content)) {
      ids->push_back(token->id);
      return;
    }
  }
  std::vector<Symbol>& symbols = scratch->symbols;
  symbols.clear();
  AddSymbols(piece, map_bytes, &symbols);
  MergeAll(&symbols, &scratch->heap);
  // Symbol 0 always survives: a merge keeps its left side.
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    ids->push_back(symbols[static_cast<size_t>(i)].id);
  }
}

void BpeModel::AddSymbols(absl::string_view piece, bool map_bytes,
                          std::vector<Symbol>* symbols) const {
  // An unknown token waits until a known character follows, because it may still be fused. Byte
  // tokens do not count as known here: they overtake it, as in the reference implementation.
  bool unk_waits = false;
  for (size_t pos = 0; pos < piece.size();) {
    const uint32_t ch =
        map_bytes ? ByteToChar(static_cast<uint8_t>(piece[pos++])) : NextChar(piece, &pos);
    const int32_t id = CharId(ch);
    if (id >= 0) {
      if (unk_waits) Append(unk_id_, symbols);
      unk_waits = false;
      Append(id, symbols);
    } else if (!AddFallback(ch, symbols) && unk_id_ >= 0) {
      if (unk_waits && !fuse_unk_) Append(unk_id_, symbols);
      unk_waits = true;
    }
  }
  if (unk_waits) Append(unk_id_, symbols);
}

bool BpeModel::AddFallback(uint32_t ch, std::vector<Symbol>* symbols) const {
  if (!has_fallback_) return false;
  const std::string bytes = CharToString(ch);
  for (char byte : bytes) {
    if (fallback_[static_cast<uint8_t>(byte)] < 0) return false;
  }
  for (char byte : bytes) Append(fallback_[static_cast<uint8_t>(byte)], symbols);
  return true;
}

int32_t BpeModel::CharId(uint32_t ch) const {
  if (ch < low_chars_.size()) return low_chars_[ch];
  const auto it = high_chars_.find(ch);
  return it == high_chars_.end() ? -1 : it->second;
}

const BpeModel::Merge* BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto it = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right));
  return it == merges_.end() ? nullptr : &it->second;
}

// A heap of (rank, position of the left symbol). Entries are never removed early: one is stale if
// the pair at its position no longer has its rank.
void BpeModel::MergeAll(std::vector<Symbol>* symbols, std::vector<uint64_t>* heap) const {
  std::vector<Symbol>& syms = *symbols;
  heap->clear();
  const auto entry = [&](int32_t left) -> uint64_t {
    const Symbol& symbol = syms[static_cast<size_t>(left)];
    const Merge* merge = FindMerge(symbol.id, syms[static_cast<size_t>(symbol.next)].id);
    return merge == nullptr
               ? UINT64_MAX
               : static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(left);
  };
  const auto push = [&](int32_t left) {
    const uint64_t value = entry(left);
    if (value == UINT64_MAX) return;
    heap->push_back(value);
    std::push_heap(heap->begin(), heap->end(), std::greater<>());
  };
  for (size_t i = 0; i + 1 < syms.size(); ++i) {
    const uint64_t value = entry(static_cast<int32_t>(i));
    if (value != UINT64_MAX) heap->push_back(value);
  }
  std::make_heap(heap->begin(), heap->end(), std::greater<>());
  while (!heap->empty()) {
    std::pop_heap(heap->begin(), heap->end(), std::greater<>());
    const uint64_t top = heap->back();
    heap->pop_back();
    const auto at = static_cast<int32_t>(top & 0xFFFFFFFF);
    Symbol& left = syms[static_cast<size_t>(at)];
    if (left.id < 0 || left.next < 0 || entry(at) != top) continue;
    Symbol& right = syms[static_cast<size_t>(left.next)];
    left.id = FindMerge(left.id, right.id)->id;
    left.next = right.next;
    right.id = -1;  // dead
    if (left.next >= 0) {
      syms[static_cast<size_t>(left.next)].prev = at;
      push(at);
    }
    if (left.prev >= 0) push(left.prev);
  }
}

}  // namespace sidewinder::tok
