#include "runtime/json.h"

#include <cmath>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Quotes bare NaN and Infinity outside strings; any other text is left for the parser to judge.
std::string QuoteNonFinite(absl::string_view text) {
  static constexpr absl::string_view kTokens[] = {"-Infinity", "Infinity", "NaN"};
  std::string out;
  bool in_string = false;
  size_t copied = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char ch = text[i];
    if (in_string) {
      if (ch == '\\') {
        ++i;
      } else if (ch == '"') {
        in_string = false;
      }
    } else if (ch == '"') {
      in_string = true;
    } else if (ch == '-' || ch == 'I' || ch == 'N') {
      for (absl::string_view token : kTokens) {
        if (text.substr(i, token.size()) == token) {
          absl::StrAppend(&out, text.substr(copied, i - copied), "\"", token, "\"");
          i += token.size() - 1;
          copied = i + 1;
          break;
        }
      }
    }
  }
  if (copied == 0) return std::string(text);
  absl::StrAppend(&out, text.substr(copied));
  return out;
}

absl::Status Wrong(const std::string& name, const char* key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": \"", key, "\" ", what));
}

// Collects the keys of the objects that the parser is inside of.
class DuplicateKeyFinder {
 public:
  // False when `event` completes a duplicate; then `key()` is it and no further call is allowed.
  bool Accept(Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      open_objects_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      open_objects_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!open_objects_.back().insert(key).second) {
        key_ = key;
        return false;
      }
    }
    return true;
  }
  const std::optional<std::string>& key() const { return key_; }

 private:
  std::vector<std::unordered_set<std::string>> open_objects_;
  std::optional<std::string> key_;
};

}  // namespace

std::string ShortDump(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

absl::StatusOr<Json> ParseJson(absl::string_view text, const std::string& name,
                               DuplicateKeys duplicates) {
  bool too_deep = false;
  DuplicateKeyFinder finder;
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (too_deep || finder.key()) return false;
    too_deep = depth > kMaxJsonDepth;
    if (too_deep) return false;  // discards the value, so nothing deep is ever built
    return duplicates == DuplicateKeys::kLastWins || finder.Accept(event, parsed);
  };
  Json root;
  try {
    root = Json::parse(QuoteNonFinite(text), filter);
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not valid JSON: ", e.what()));
  }
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: JSON nested deeper than %d levels", name, kMaxJsonDepth));
  }
  if (finder.key()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the key \"%s\" occurs twice in one object", name,
                        absl::Utf8SafeCEscape(*finder.key())));
  }
  return root;
}

absl::StatusOr<double> JsonToFloat(const Json& value, const std::string& name) {
  if (value.is_number()) return value.get<double>();
  const Json* spelled = &value;
  if (value.is_object() && value.contains("__float__")) spelled = &value["__float__"];
  if (spelled->is_string()) {
    const std::string& text = spelled->get_ref<const std::string&>();
    if (text == "Infinity") return std::numeric_limits<double>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
    if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  }
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", ShortDump(value), ", not a number"));
}

const Json* JsonReader::Find(const char* key) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonReader::Has(const char* key) const { return Find(key) != nullptr; }

bool JsonReader::IsNull(const char* key) const {
  return object_.is_object() && object_.contains(key) && !Has(key);
}

absl::StatusOr<int64_t> JsonReader::Int(const char* key, int64_t min, int64_t max) const {
  const Json* value = Find(key);
  if (value == nullptr) return Wrong(name_, key, "is missing");
  const bool in_int64 =
      value->is_number_integer() &&
      (!value->is_number_unsigned() ||
       value->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!in_int64 || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    return Wrong(
        name_, key,
        absl::StrFormat("is %s; legal are integers from %d to %d", ShortDump(*value), min, max));
  }
  return value->get<int64_t>();
}

absl::StatusOr<double> JsonReader::Float(const char* key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Wrong(name_, key, "is missing");
  return JsonToFloat(*value, absl::StrCat(name_, ": \"", key, "\""));
}

absl::StatusOr<bool> JsonReader::Bool(const char* key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Wrong(name_, key, "is missing");
  if (!value->is_boolean())
    return Wrong(name_, key, absl::StrCat("is ", ShortDump(*value), ", not true or false"));
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonReader::String(const char* key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Wrong(name_, key, "is missing");
  if (!value->is_string())
    return Wrong(name_, key, absl::StrCat("is ", ShortDump(*value), ", not a string"));
  return value->get<std::string>();
}

absl::StatusOr<int64_t> JsonReader::Int(const char* key, int64_t min, int64_t max,
                                        int64_t fallback) const {
  return Has(key) ? Int(key, min, max) : absl::StatusOr<int64_t>(fallback);
}
absl::StatusOr<double> JsonReader::Float(const char* key, double fallback) const {
  return Has(key) ? Float(key) : absl::StatusOr<double>(fallback);
}
absl::StatusOr<bool> JsonReader::Bool(const char* key, bool fallback) const {
  return Has(key) ? Bool(key) : absl::StatusOr<bool>(fallback);
}
absl::StatusOr<std::string> JsonReader::String(const char* key, const std::string& fallback) const {
  return Has(key) ? String(key) : absl::StatusOr<std::string>(fallback);
}

}  // namespace sidewinder
