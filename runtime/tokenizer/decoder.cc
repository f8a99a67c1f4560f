#include "runtime/tokenizer/decoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"

namespace sidewinder::tok {
namespace {

constexpr char kSupported[]{"Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace"};
constexpr int64_t kMaxStrip{1024};

using Step = std::unique_ptr<const DecoderStep>;

absl::StatusOr<Step> ReadStrip(const JsonReader& reader) {
  SW_ASSIGN_OR_RETURN(const uint32_t ch, ReadChar(reader, "content"));
  SW_ASSIGN_OR_RETURN(const int64_t start, reader.Int("start", 0, kMaxStrip));
  SW_ASSIGN_OR_RETURN(const int64_t stop, reader.Int("stop", 0, kMaxStrip));
  return MakeStripDecoder(ch, static_cast<size_t>(start), static_cast<size_t>(stop));
}

absl::StatusOr<Step> ReadMetaspace(const JsonReader& reader) {
  SW_ASSIGN_OR_RETURN(const uint32_t mark, ReadChar(reader, "replacement"));
  SW_ASSIGN_OR_RETURN(const std::string scheme, reader.String("prepend_scheme", "always"));
  SW_ASSIGN_OR_RETURN(const bool add_prefix, reader.Bool("add_prefix_space", true));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": \"prepend_scheme\" is \"",
                                                   scheme.substr(0, 60),
                                                   "\"; legal are always, first, never"));
  }
  return MakeMetaspaceDecoder(mark, add_prefix && scheme != "never");
}

absl::StatusOr<Step> ReadStep(const Component& component) {
  const JsonReader reader(*component.object, component.name);
  const std::string& type = component.type;
  if (type == "ByteLevel") return MakeByteLevelDecoder();
  if (type == "ByteFallback") return MakeByteFallbackDecoder();
  if (type == "Fuse") return MakeFuseDecoder();
  if (type == "Strip") return ReadStrip(reader);
  if (type == "Metaspace") return ReadMetaspace(reader);
  if (type == "Replace") {
    SW_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Read(reader));
    SW_ASSIGN_OR_RETURN(std::string content, ReadInsert(reader, "content"));
    return MakeReplaceDecoder(std::move(pattern), std::move(content));
  }
  return UnknownType(component, kSupported);
}

}  // namespace

absl::StatusOr<Decoder> Decoder::Read(const JsonReader& root) {
  SW_ASSIGN_OR_RETURN(const std::vector<Component> components,
                      ListComponents(root, "decoder", "decoders"));
  Decoder decoder;
  Growth total;
  for (const Component& component : components) {
    SW_ASSIGN_OR_RETURN(Step step, ReadStep(component));
    SW_RETURN_IF_ERROR(AddGrowth(component, step->growth(), &total));
    decoder.steps_.push_back(std::move(step));
  }
  if (!root.Has("decoder")) decoder.steps_.push_back(MakeJoinWithSpaces());
  return decoder;
}

DecoderRun Decoder::Start() const {
  DecoderRun run;
  bool in_parts = false;
  for (const Step& step : steps_) {
    run.states_.push_back(step->Start(in_parts));
    in_parts |= step->joins();
  }
  return run;
}

void DecoderRun::Push(absl::string_view token, std::string* out) {
  Feed(0, {std::string(token)}, out);
}

void DecoderRun::Finish(std::string* out) {
  for (size_t i = 0; i < states_.size(); ++i) {
    std::vector<std::string> rest;
    states_[i]->Finish(&rest);
    Feed(i + 1, std::move(rest), out);
  }
}

void DecoderRun::Feed(size_t first, std::vector<std::string> tokens, std::string* out) {
  for (size_t i = first; i < states_.size() && !tokens.empty(); ++i) {
    std::vector<std::string> next;
    for (const std::string& token : tokens) states_[i]->Push(token, &next);
    tokens = std::move(next);
  }
  for (const std::string& token : tokens) out->append(token);
}

}  // namespace sidewinder::tok
