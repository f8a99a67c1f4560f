// Byte pair encoding: the "model" of a tokenizer.json.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_BPE_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/json.h"
#include "runtime/tokenizer/vocab.h"

namespace sidewinder::tok {

// Memory of one Encode call: buffers, and the ids of the pieces seen so far.
struct BpeScratch {
  struct Symbol {
    int32_t id;
    int32_t prev;  // -1 at the ends
    int32_t next;
  };
  struct Cached {
    uint32_t begin;
    uint32_t count;
  };
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;
  std::string mapped;
  absl::flat_hash_map<std::string, Cached> cache;
  std::vector<int32_t> cached_ids;
};

class BpeModel {
 public:
  // Tokens of "model.vocab", before the added ones join them.
  static absl::StatusOr<std::vector<Token>> ReadTokens(const JsonReader& model);

  // Flags and merges. `vocab` must outlive the model.
  static absl::StatusOr<BpeModel> Read(const JsonReader& model, const Vocab& vocab);

  // Appends the ids of `piece`. With `map_bytes` the piece stands for its image in the byte
  // alphabet.
  void Encode(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
              std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  BpeModel() = default;
  absl::Status ReadFlags(const JsonReader& model);
  absl::Status ReadMerges(const JsonReader& model);
  absl::Status AddMerge(const std::string& name, size_t rank, absl::string_view left,
                        absl::string_view right);
  void IndexChars();
  void EncodeLong(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
                  std::vector<int32_t>* ids) const;
  void EncodeUncached(absl::string_view piece, bool map_bytes, BpeScratch* scratch,
                      std::vector<int32_t>* ids) const;
  void AddSymbols(absl::string_view piece, bool map_bytes,
                  std::vector<BpeScratch::Symbol>* symbols) const;
  bool AddFallback(uint32_t ch, std::vector<BpeScratch::Symbol>* symbols) const;
  int32_t CharId(uint32_t ch) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void MergeAll(std::vector<BpeScratch::Symbol>* symbols, std::vector<uint64_t>* heap) const;

  const Vocab* vocab_ = nullptr;
  bool ignore_merges_ = false;
  bool fuse_unk_ = false;
  bool has_fallback_ = false;
  int32_t unk_id_ = -1;                   // -1: unknown characters are dropped
  std::array<int32_t, 512> low_chars_{};  // ids of the characters below U+0200, -1 for none
  absl::flat_hash_map<uint32_t, int32_t> high_chars_;
  std::array<int32_t, 256> fallback_{};  // ids of <0x00> to <0xFF>, -1 for none
  absl::flat_hash_map<uint64_t, Merge> merges_;
  // Characters that meet where some merge joins its two sides, left << 32 | right.
  absl::flat_hash_set<uint64_t> joints_;
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_BPE_H_
