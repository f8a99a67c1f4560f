#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

constexpr size_t kMaxMerges{1u << 24};

absl::Status Invalid(const JsonReader& model, const char* key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(model.name(), ": \"", key, "\" ", what));
}

}  // namespace

absl::StatusOr<std::vector<Token>> BpeModel::ReadTokens(const JsonReader& model) {
  SW_ASSIGN_OR_RETURN(const std::string type, model.String("type", "BPE"));
  if (type != "BPE") {
    return absl::UnimplementedError(absl::StrCat(model.name(), ": type \"", type.substr(0, 60),
                                                 "\" is not supported; supported: BPE"));
  }
  const Json* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_object()) return Invalid(model, "vocab", "is not an object");
  std::vector<Token> tokens;
  tokens.reserve(vocab->size());
  for (const auto& [content, id] : vocab->items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
      return Invalid(model, "vocab",
                     absl::StrFormat("gives token \"%s\" an id that is not an integer from 0 to %d",
                                     content.substr(0, 60), kMaxTokenId));
    }
    tokens.push_back({id.get<int32_t>(), content, /*in_model=*/true, false, std::nullopt});
  }
  return tokens;
}

absl::StatusOr<BpeModel> BpeModel::Read(const JsonReader& model, const Vocab& vocab) {
  BpeModel bpe;
  bpe.vocab_ = &vocab;
  SW_RETURN_IF_ERROR(bpe.ReadFlags(model));
  bpe.IndexChars();
  SW_RETURN_IF_ERROR(bpe.ReadMerges(model));
  return bpe;
}

absl::Status BpeModel::ReadFlags(const JsonReader& model) {
  SW_ASSIGN_OR_RETURN(ignore_merges_, model.Bool("ignore_merges", false));
  SW_ASSIGN_OR_RETURN(fuse_unk_, model.Bool("fuse_unk", false));
  SW_ASSIGN_OR_RETURN(has_fallback_, model.Bool("byte_fallback", false));
  SW_ASSIGN_OR_RETURN(const double dropout, model.Float("dropout", 0));
  if (dropout != 0) {
    return absl::UnimplementedError(
        absl::StrCat(model.name(), ": \"dropout\" other than 0 is not supported"));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    SW_ASSIGN_OR_RETURN(const std::string affix, model.String(key, ""));
    if (!affix.empty()) {
      return absl::UnimplementedError(
          absl::StrCat(model.name(), ": \"", key, "\" is not supported"));
    }
  }
  if (model.Has("unk_token")) {
    SW_ASSIGN_OR_RETURN(const std::string unk, model.String("unk_token"));
    const Token* token = vocab_->Find(unk);
    if (token == nullptr) {
      return Invalid(
          model, "unk_token",
          absl::StrCat("is \"", unk.substr(0, 60), "\", which is not in the vocabulary"));
    }
    unk_id_ = token->id;
  }
  return absl::OkStatus();
}

void BpeModel::IndexChars() {
  low_chars_.fill(-1);
  fallback_.fill(-1);
  for (const Token& token : vocab_->tokens()) {
    if (!token.in_model || token.content.empty()) continue;
    if (CharLength(token.content[0]) != token.content.size()) continue;
    size_t pos = 0;
    const uint32_t ch = NextChar(token.content, &pos);
    if (ch < low_chars_.size()) {
      low_chars_[ch] = token.id;
    } else {
      high_chars_.emplace(ch, token.id);
    }
  }
  for (size_t byte = 0; has_fallback_ && byte < fallback_.size(); ++byte) {
    const Token* token = vocab_->FindInModel(absl::StrFormat("<0x%02X>", byte));
    if (token != nullptr) fallback_[byte] = token->id;
  }
}

absl::Status BpeModel::ReadMerges(const JsonReader& model) {
  const Json* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array()) return Invalid(model, "merges", "is not an array");
  if (merges->size() > kMaxMerges) {
    return Invalid(model, "merges", absl::StrCat("has more than ", kMaxMerges, " entries"));
  }
  merges_.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const Json& merge = (*merges)[i];
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return Invalid(model, "merges",
                       absl::StrCat("[", i, "] is \"", text.substr(0, 60),
                                    "\", not two tokens separated by one space"));
      }
      const absl::string_view view = text;
      SW_RETURN_IF_ERROR(AddMerge(model.name(), i, view.substr(0, space), view.substr(space + 1)));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      SW_RETURN_IF_ERROR(AddMerge(model.name(), i, merge[0].get_ref<const std::string&>(),
                                  merge[1].get_ref<const std::string&>()));
    } else {
      return Invalid(model, "merges",
                     absl::StrCat("[", i, "] is neither a string nor a pair of strings"));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerge(const std::string& name, size_t rank, absl::string_view left,
                                absl::string_view right) {
  const std::string merged = absl::StrCat(left, right);
  const Token* tokens[3];
  const absl::string_view contents[3] = {left, right, merged};
  for (int i = 0; i < 3; ++i) {
    tokens[i] = vocab_->FindInModel(contents[i]);
    if (tokens[i] == nullptr || contents[i].empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: \"merges\"[%d] (\"%s\" + \"%s\"): \"%s\" is not in \"vocab\"", name, rank,
          left.substr(0, 60), right.substr(0, 60), contents[i].substr(0, 60)));
    }
  }
  const uint64_t key =
      static_cast<uint64_t>(tokens[0]->id) << 32 | static_cast<uint32_t>(tokens[1]->id);
  size_t first = 0;
  joints_.insert(static_cast<uint64_t>(CharBefore(left, left.size())) << 32 |
                 NextChar(right, &first));
  merges_[key] = {static_cast<uint32_t>(rank), tokens[2]->id};  // of equal pairs the last counts
  return absl::OkStatus();
}

}  // namespace sidewinder::tok
