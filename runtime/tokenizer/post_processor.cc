#include "runtime/tokenizer/post_processor.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"

namespace sidewinder::tok {
namespace {

constexpr char kSupported[]{
    "Sequence, ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing"};
constexpr size_t kMaxParts{64};

absl::Status Invalid(const std::string& name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", what));
}

// Ids in the file must belong to tokens: a model would use them as indices.
absl::StatusOr<int32_t> ReadId(const Json& value, const std::string& name, const Vocab& vocab) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
    return Invalid(name, absl::StrCat("is not an integer from 0 to ", kMaxTokenId));
  }
  const auto id = value.get<int32_t>();
  if (vocab.Find(id) == nullptr) {
    return Invalid(name, absl::StrCat("is ", id, ", which no token has"));
  }
  return id;
}

absl::StatusOr<std::vector<int32_t>> ReadSpecial(const JsonReader& reader, const std::string& id,
                                                 const Vocab& vocab) {
  const Json* tokens = reader.Find("special_tokens");
  const std::string name = absl::StrCat(reader.name(), ": special_tokens");
  const auto shown = absl::StrCat("\"", id.substr(0, 60), "\"");
  if (tokens == nullptr || !tokens->is_object() || !tokens->contains(id)) {
    return Invalid(name, absl::StrCat("has no entry ", shown, ", which the template names"));
  }
  const Json& entry = (*tokens)[id];
  if (!entry.is_object() || !entry.contains("ids") || !entry["ids"].is_array() ||
      entry["ids"].size() > kMaxParts) {
    return Invalid(name, absl::StrCat("[", shown, "] must have \"ids\", an array of at most ",
                                      kMaxParts, " integers"));
  }
  std::vector<int32_t> ids;
  for (const Json& value : entry["ids"]) {
    SW_ASSIGN_OR_RETURN(const int32_t token,
                        ReadId(value, absl::StrCat(name, "[", shown, "].ids"), vocab));
    ids.push_back(token);
  }
  return ids;
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Read(const JsonReader& root, const Vocab& vocab) {
  SW_ASSIGN_OR_RETURN(const std::vector<Component> components,
                      ListComponents(root, "post_processor", "processors"));
  PostProcessor out;
  for (const Component& component : components) {
    if (component.type == "ByteLevel") continue;  // concerns offsets only
    if (!out.parts_.empty()) {
      return absl::UnimplementedError(
          absl::StrCat(component.name, ": more than one template is not supported"));
    }
    SW_RETURN_IF_ERROR(out.Add(component, vocab));
  }
  return out;
}

absl::Status PostProcessor::Add(const Component& component, const Vocab& vocab) {
  const JsonReader reader(*component.object, component.name);
  if (component.type == "TemplateProcessing") return AddTemplate(reader, vocab);
  if (component.type == "BertProcessing" || component.type == "RobertaProcessing") {
    return AddPair(reader, vocab);
  }
  return UnknownType(component, kSupported);
}

absl::Status PostProcessor::AddTemplate(const JsonReader& reader, const Vocab& vocab) {
  const Json* single = reader.Find("single");
  const std::string name = absl::StrCat(reader.name(), ": single");
  if (single == nullptr || !single->is_array() || single->empty() || single->size() > kMaxParts) {
    return Invalid(name, absl::StrCat("must be an array of 1 to ", kMaxParts, " parts"));
  }
  bool has_text = false;
  for (size_t i = 0; i < single->size(); ++i) {
    const std::string inner = absl::StrCat(name, "[", i, "]");
    const JsonReader part((*single)[i], inner);
    const bool is_text = part.Has("Sequence");
    if (!is_text && !part.Has("SpecialToken")) {
      return Invalid(inner, "is neither a SpecialToken nor a Sequence");
    }
    const JsonReader body(*part.Find(is_text ? "Sequence" : "SpecialToken"), inner);
    SW_ASSIGN_OR_RETURN(const std::string id, body.String("id"));
    if (!is_text) {
      SW_ASSIGN_OR_RETURN(std::vector<int32_t> ids, ReadSpecial(reader, id, vocab));
      parts_.push_back({false, std::move(ids)});
    } else if (id == "A" && !has_text) {
      has_text = true;
      parts_.push_back({true, {}});
    } else {
      return Invalid(inner, "must be the only Sequence, \"A\"");
    }
  }
  return has_text ? absl::OkStatus() : Invalid(name, "has no Sequence \"A\"");
}

// {"cls": [token, id], "sep": [token, id]}: cls text sep.
absl::Status PostProcessor::AddPair(const JsonReader& reader, const Vocab& vocab) {
  for (const char* key : {"cls", "sep"}) {
    const Json* pair = reader.Find(key);
    const std::string name = absl::StrCat(reader.name(), ": ", key);
    if (pair == nullptr || !pair->is_array() || pair->size() != 2) {
      return Invalid(name, "is not an array of a token and its id");
    }
    SW_ASSIGN_OR_RETURN(const int32_t id, ReadId((*pair)[1], name, vocab));
    if (!parts_.empty()) parts_.push_back({true, {}});
    parts_.push_back({false, {id}});
  }
  return absl::OkStatus();
}

std::vector<int32_t> PostProcessor::Apply(std::vector<int32_t> ids, bool add_special_tokens) const {
  if (parts_.empty() || !add_special_tokens) return ids;
  std::vector<int32_t> out;
  out.reserve(ids.size() + parts_.size());
  for (const Part& part : parts_) {
    const std::vector<int32_t>& source = part.is_text ? ids : part.ids;
    out.insert(out.end(), source.begin(), source.end());
  }
  return out;
}

}  // namespace sidewinder::tok
