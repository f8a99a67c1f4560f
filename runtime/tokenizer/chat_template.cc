#include "sidewinder/chat_template.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "minja/minja.hpp"
#include "runtime/json.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[]{"tokenizer_config.json"};
constexpr char kTemplateFile[]{"chat_template.jinja"};
constexpr char kField[]{"chat_template"};

// The engine's parser is recursive: what would exhaust the stack is refused. Templates of today
// have some 20 KB, tags of 2 KB and a nesting of 10.
constexpr size_t kMaxTemplateBytes{256 << 10};
constexpr size_t kMaxTagBytes{16 << 10};
constexpr int kMaxNesting{64};

absl::StatusOr<std::string> ReadWhole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::PermissionDeniedError(absl::StrCat(path.string(), ": cannot be read"));
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Deepest nesting of brackets in a tag.
int BracketDepth(absl::string_view tag) {
  int depth = 0;
  int deepest = 0;
  char quote = '\0';
  for (size_t i = 0; i < tag.size(); ++i) {
    const char c = tag[i];
    if (quote != '\0') {
      if (c == '\\') {
        ++i;
      } else if (c == quote) {
        quote = '\0';
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (std::strchr("([{", c) != nullptr) {
      deepest = std::max(deepest, ++depth);
    } else if (std::strchr(")]}", c) != nullptr) {
      --depth;
    }
  }
  return deepest;
}

absl::Status CheckSize(absl::string_view text, const std::string& name) {
  const auto refuse = [&name](absl::string_view what, size_t value, size_t limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", what, " is ", value, "; the limit is ", limit));
  };
  if (text.size() > kMaxTemplateBytes) {
    return refuse("the template's size in bytes", text.size(), kMaxTemplateBytes);
  }
  int blocks = 0;
  for (size_t at = text.find('{'); at != absl::string_view::npos; at = text.find('{', at + 1)) {
    const char kind = at + 1 < text.size() ? text[at + 1] : '\0';
    if (kind != '{' && kind != '%') continue;
    const char* const end_mark = kind == '{' ? "}}" : "%}";
    const size_t end = text.find(end_mark, at + 2);
    absl::string_view tag =
        text.substr(at + 2, end == absl::string_view::npos ? end : end - at - 2);
    if (tag.size() > kMaxTagBytes)
      return refuse("the size of a tag in bytes", tag.size(), kMaxTagBytes);
    if (const int depth = BracketDepth(tag); depth > kMaxNesting) {
      return refuse("the nesting of brackets", depth, kMaxNesting);
    }
    if (kind == '%') {
      tag = tag.substr(std::min(tag.find_first_not_of("-+ \t\r\n"), tag.size()));
      for (const char* open : {"if", "for", "macro", "filter", "call"}) {
        blocks += absl::StartsWith(tag, open);
      }
      blocks -= absl::StartsWith(tag, "end");
      if (blocks > kMaxNesting) return refuse("the nesting of blocks", blocks, kMaxNesting);
    }
    at += 1;
  }
  return absl::OkStatus();
}

// A special token stands in the file as its text or as an object with "content".
void AddSpecialTokens(const Json& object, std::map<std::string, std::string>& tokens) {
  for (const auto& [key, value] : object.items()) {
    if (!absl::EndsWith(key, "_token")) continue;
    if (value.is_string()) tokens.emplace(key, value.get<std::string>());
    if (!value.is_object()) continue;
    const auto content = value.find("content");
    if (content != value.end() && content->is_string()) {
      tokens.emplace(key, content->get<std::string>());
    }
  }
}

// "" if there is none. Several templates are a list of {"name", "template"}.
absl::StatusOr<std::string> TemplateOf(const Json& config, const std::string& name) {
  const auto field = config.find(kField);
  if (field == config.end() || field->is_null()) return "";
  if (field->is_string()) return field->get<std::string>();
  if (field->is_array()) {
    for (const Json& entry : *field) {
      if (!entry.is_object() || entry.value("name", Json()) != "default") continue;
      const auto text = entry.find("template");
      if (text != entry.end() && text->is_string()) return text->get<std::string>();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": \"", kField, "\" is ", ShortDump(*field),
                   "; legal are a text, or a list of {\"name\", \"template\"} with a \"default\""));
}

// strftime_now(format): the day a conversation takes place, which some templates tell the model.
minja::Value Now(const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& args) {
  args.expectArgs("strftime_now", {1, 1}, {0, 0});
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local = {};
  localtime_r(&now, &local);
  char text[256];
  const size_t size =
      std::strftime(text, sizeof(text), args.args[0].get<std::string>().c_str(), &local);
  return std::string(text, size);
}

// Filters of Jinja that the engine lacks.
minja::Value Replace(const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& args) {
  args.expectArgs("replace", {3, 3}, {0, 0});
  return absl::StrReplaceAll(args.args[0].get<std::string>(),
                             {{args.args[1].get<std::string>(), args.args[2].get<std::string>()}});
}

minja::Value First(const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& args) {
  args.expectArgs("first", {1, 1}, {0, 0});
  if (!args.args[0].is_array()) throw std::runtime_error("object is not a list");
  return args.args[0].size() == 0 ? minja::Value() : args.args[0].at(0);
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  std::map<std::string, std::string> special_tokens;
  std::shared_ptr<minja::TemplateNode> root;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(const std::string& folder) {
  const fs::path config_path = fs::path(folder) / kConfigFile;
  const fs::path map_path = fs::path(folder) / "special_tokens_map.json";
  const fs::path template_path = fs::path(folder) / kTemplateFile;
  std::map<std::string, std::string> tokens;
  std::string text;
  std::string name = absl::StrCat(config_path.string(), ": ", kField);
  std::error_code ignored;
  for (const fs::path& path : {config_path, map_path}) {
    if (!fs::is_regular_file(path, ignored)) continue;
    SW_ASSIGN_OR_RETURN(const std::string json, ReadWhole(path));
    SW_ASSIGN_OR_RETURN(const Json config, ParseJson(json, path.string()));
    if (!config.is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(path.string(), ": is not a JSON object"));
    }
    AddSpecialTokens(config, tokens);
    if (path != config_path) continue;
    SW_ASSIGN_OR_RETURN(text, TemplateOf(config, path.string()));
  }
  if (fs::is_regular_file(template_path, ignored)) {
    name = template_path.string();
    SW_ASSIGN_OR_RETURN(text, ReadWhole(template_path));
  }
  if (text.empty()) return nullptr;
  return Parse(text, std::move(tokens), name);
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Parse(
    absl::string_view text, std::map<std::string, std::string> special_tokens,
    const std::string& name) {
  SW_RETURN_IF_ERROR(CheckSize(text, name));
  auto impl = std::make_unique<Impl>();
  impl->name = name;
  impl->special_tokens = std::move(special_tokens);
  try {  // the engine reports by exception; none leaves this file
    impl->root = minja::Parser::parse(
        std::string(text),
        {.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = false});
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", error.what()));
  }
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
  try {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const ChatMessage& message : messages) {
      list.push_back({{"role", message.role}, {"content", message.content}});
    }
    const auto context = minja::Context::make(nlohmann::ordered_json{
        {"messages", list},
        {"add_generation_prompt", add_generation_prompt},
    });
    // Given, and nothing: templates ask whether they are none.
    context->set("tools", minja::Value());
    context->set("documents", minja::Value());
    context->set("strftime_now", minja::Value::callable(Now));
    context->set("replace", minja::Value::callable(Replace));
    context->set("first", minja::Value::callable(First));
    for (const auto& [token, content] : impl_->special_tokens) context->set(token, content);
    return impl_->root->render(context);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(impl_->name, ": ", error.what()));
  }
}

}  // namespace sidewinder
