#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/tokenizer_impl.h"

namespace sidewinder {
namespace {

constexpr uintmax_t kMaxFileBytes{1u << 30};

// What to look for in a normalized text; also what the token decodes to.
std::string NormalizedContent(const tok::AddedToken& token, const tok::Normalizer& normalizer) {
  tok::NormalizedText text{token.content, 0};
  normalizer.Apply(&text);
  return std::move(text.text);
}

// Model tokens and added tokens as one vocabulary. An added token that the model knows too must
// have the same id in both places.
absl::StatusOr<tok::Vocab> MergeVocab(std::vector<tok::Token> tokens,
                                      const std::vector<tok::AddedToken>& added,
                                      const tok::Normalizer& normalizer, const std::string& name) {
  constexpr size_t kNowhere{SIZE_MAX};
  absl::flat_hash_map<std::string, size_t> known;  // index into tokens
  for (const tok::AddedToken& token : added) known.emplace(token.content, kNowhere);
  for (size_t i = 0; !known.empty() && i < tokens.size(); ++i) {
    const auto it = known.find(tokens[i].content);
    if (it != known.end()) it->second = i;
  }
  for (const tok::AddedToken& token : added) {
    if (token.content.empty()) continue;  // never matches; ignored by the reference too
    size_t& index = known[token.content];
    if (index == kNowhere) {
      index = tokens.size();
      tokens.push_back({token.id, token.content, false, false, std::nullopt});
    }
    tok::Token& entry = tokens[index];
    if (entry.id != token.id) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: added_tokens: \"%s\" has id %d, but elsewhere in the file it has id %d", name,
          token.content.substr(0, 60), token.id, entry.id));
    }
    entry.special |= token.special;
    if (token.normalized) entry.normalized = NormalizedContent(token, normalizer);
  }
  return tok::Vocab::Create(std::move(tokens), absl::StrCat(name, ": model.vocab, added_tokens"));
}

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": ", error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path.string(), ": has ", size, " bytes; at most ", kMaxFileBytes, " are supported"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::NotFoundError(absl::StrCat(path.string(), ": cannot be read"));
  }
  return text;
}

absl::StatusOr<tok::AddedTokenMatcher> ReadMatcher(const std::vector<tok::AddedToken>& added,
                                                   bool normalized,
                                                   const tok::Normalizer& normalizer) {
  tok::AddedTokenMatcher matcher;
  for (const tok::AddedToken& token : added) {
    if (token.normalized != normalized) continue;
    matcher.Add(token, normalized ? NormalizedContent(token, normalizer) : token.content);
  }
  return matcher;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& path) {
  std::filesystem::path file = path;
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) file /= "tokenizer.json";
  SW_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  return Parse(text, file.string());
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Parse(absl::string_view json,
                                                                  const std::string& name) {
  SW_ASSIGN_OR_RETURN(const Json root, ParseJson(json, name));
  if (!root.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a JSON object"));
  }
  const JsonReader reader(root, name);
  const Json* model = reader.Find("model");
  if (model == nullptr || !model->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": \"model\" is not an object"));
  }
  const JsonReader model_reader(*model, absl::StrCat(name, ": model"));
  auto impl = std::make_unique<Impl>();
  SW_ASSIGN_OR_RETURN(impl->normalizer, tok::Normalizer::Read(reader));
  SW_ASSIGN_OR_RETURN(impl->pre_tokenizer, tok::PreTokenizer::Read(reader));
  SW_ASSIGN_OR_RETURN(impl->decoder, tok::Decoder::Read(reader));
  SW_ASSIGN_OR_RETURN(const std::vector<tok::AddedToken> added, tok::ReadAddedTokens(reader));
  SW_ASSIGN_OR_RETURN(std::vector<tok::Token> tokens, tok::BpeModel::ReadTokens(model_reader));
  SW_ASSIGN_OR_RETURN(impl->vocab, MergeVocab(std::move(tokens), added, impl->normalizer, name));
  SW_ASSIGN_OR_RETURN(tok::BpeModel bpe, tok::BpeModel::Read(model_reader, impl->vocab));
  impl->model.emplace(std::move(bpe));
  SW_ASSIGN_OR_RETURN(impl->post_processor, tok::PostProcessor::Read(reader, impl->vocab));
  SW_ASSIGN_OR_RETURN(impl->raw_tokens, ReadMatcher(added, false, impl->normalizer));
  SW_ASSIGN_OR_RETURN(impl->normalized_tokens, ReadMatcher(added, true, impl->normalizer));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

}  // namespace sidewinder
