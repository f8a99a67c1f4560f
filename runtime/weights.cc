#include "runtime/weights.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/json.h"
#include "runtime/mapped_file.h"
#include "runtime/safetensors.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr absl::string_view kSuffix = ".safetensors";

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::status(path, error));
}

std::string Join(const std::string& folder, absl::string_view file) {
  return (fs::path(folder) / std::string(file)).string();
}

struct Shards {
  std::vector<StoredTensor> tensors;
  std::vector<std::shared_ptr<const void>> owners;
};

// Maps one file and appends its tensors.
absl::Status AddFile(const std::string& path, Shards& shards) {
  SW_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  auto file = std::make_shared<const MappedFile>(std::move(mapped));
  SW_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensors(file->bytes(), path));
  for (SafetensorsEntry& entry : header.entries) {
    StoredTensor tensor;
    tensor.name = std::move(entry.name);
    tensor.file = path;
    tensor.dtype_name = std::move(entry.dtype_name);
    tensor.dtype = entry.dtype;
    tensor.shape = std::move(entry.shape);
    tensor.data = file->data() + entry.offset;
    tensor.size = entry.size;
    shards.tensors.push_back(std::move(tensor));
  }
  shards.owners.push_back(std::move(file));
  return absl::OkStatus();
}

// Tensor name -> file name, as the index says. A file name must be a plain one: a folder from the
// internet must not make us read files elsewhere.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  SW_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  SW_ASSIGN_OR_RETURN(const Json json, ParseJson(file.text(), path, DuplicateKeys::kReject));
  const auto weight_map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || weight_map == json.end() || !weight_map->is_object() ||
      weight_map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": \"weight_map\" must be an object that maps tensor names to file names"));
  }
  std::map<std::string, std::string> index;
  for (const auto& [tensor, value] : weight_map->items()) {
    const std::string file_name = value.is_string() ? value.get<std::string>() : "";
    const bool plain = absl::EndsWith(file_name, kSuffix) && file_name.front() != '.' &&
                       file_name.find_first_of("/\\\0", 0, 3) == std::string::npos;
    if (!plain) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: \"weight_map\": tensor \"%s\" is in %s; legal are names of %s files in the folder",
          path, absl::Utf8SafeCEscape(tensor), ShortDump(value), kSuffix));
    }
    index[tensor] = file_name;
  }
  return index;
}

absl::Status AddIndexedFiles(const std::string& folder, Shards& shards) {
  const std::string index_path = Join(folder, kIndexFile);
  SW_ASSIGN_OR_RETURN(const auto index, ReadIndex(index_path));
  std::set<std::string> files;
  for (const auto& [tensor, file] : index) files.insert(file);
  for (const std::string& file : files) {
    const std::string path = Join(folder, file);
    if (!Exists(path)) {
      return absl::NotFoundError(
          absl::StrFormat("%s names the file \"%s\", which is missing", index_path, file));
    }
    SW_RETURN_IF_ERROR(AddFile(path, shards));
  }
  // Both ways: every tensor is where the index says, and no file holds one that the index has
  // elsewhere or not at all.
  std::set<std::string> found;
  for (const StoredTensor& tensor : shards.tensors) {
    const auto entry = index.find(tensor.name);
    if (entry == index.end() || Join(folder, entry->second) != tensor.file) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s holds the tensor \"%s\", which %s", tensor.file, absl::Utf8SafeCEscape(tensor.name),
          entry == index.end()
              ? absl::StrCat(index_path, " does not list")
              : absl::StrFormat("%s places in \"%s\"", index_path, entry->second)));
    }
    found.insert(tensor.name);
  }
  for (const auto& [tensor, file] : index) {
    if (found.count(tensor) == 0) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: no tensor \"%s\", which %s places there", Join(folder, file),
                          absl::Utf8SafeCEscape(tensor), index_path));
    }
  }
  return absl::OkStatus();
}

absl::Status NoSafetensors(const std::string& folder) {
  for (const char* file : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (!Exists(Join(folder, file))) continue;
    // clone(): safetensors refuses tensors that share storage, as tied embeddings do.
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s holds its weights as %s, a pickle, which is not read here; convert it (each file of "
        "it) "
        "once, in that folder, with\n"
        "  python -c \"import torch; from safetensors.torch import save_file; "
        "w = torch.load('pytorch_model.bin', map_location='cpu', weights_only=True); "
        "save_file({k: v.clone() for k, v in w.items()}, 'model.safetensors')\"",
        folder, file));
  }
  return absl::NotFoundError(absl::StrFormat("%s holds no weights; expected %s, %s or any *%s",
                                             folder, kSingleFile, kIndexFile, kSuffix));
}

absl::Status AddAllFiles(const std::string& folder, Shards& shards) {
  std::error_code error;
  std::set<std::string> paths;  // sorted: the same order on every machine
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    if (absl::EndsWith(path, kSuffix)) paths.insert(path);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat(folder, ": cannot list the folder"));
  }
  if (paths.empty()) return NoSafetensors(folder);
  for (const std::string& path : paths) SW_RETURN_IF_ERROR(AddFile(path, shards));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const WeightsReader>> WeightsReader::Open(
    const std::string& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) {
    return absl::ErrnoToStatus(error ? error.value() : ENOENT,
                               absl::StrCat(folder, ": cannot open the model folder"));
  }
  if (!fs::is_directory(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " is not a folder; expected one that holds ", kSingleFile));
  }
  Shards shards;
  if (Exists(Join(folder, kSingleFile))) {
    SW_RETURN_IF_ERROR(AddFile(Join(folder, kSingleFile), shards));
  } else if (Exists(Join(folder, kIndexFile))) {
    SW_RETURN_IF_ERROR(AddIndexedFiles(folder, shards));
  } else {
    SW_RETURN_IF_ERROR(AddAllFiles(folder, shards));
  }
  return Create(folder, std::move(shards.tensors), std::move(shards.owners));
}

absl::StatusOr<std::shared_ptr<const WeightsReader>> WeightsReader::FromMemory(
    std::vector<StoredTensor> tensors, std::shared_ptr<const void> owner) {
  return Create("memory", std::move(tensors), {std::move(owner)});
}

absl::StatusOr<std::shared_ptr<const WeightsReader>> WeightsReader::Create(
    std::string name, std::vector<StoredTensor> tensors,
    std::vector<std::shared_ptr<const void>> owners) {
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  const std::shared_ptr<WeightsReader> reader(
      new WeightsReader(std::move(name), std::move(tensors), std::move(owners)));
  const StoredTensor* previous = nullptr;
  for (const StoredTensor& tensor : reader->tensors_) {
    if (previous != nullptr && previous->name == tensor.name) {
      return absl::InvalidArgumentError(absl::StrFormat("the tensor \"%s\" is both in %s and in %s",
                                                        absl::Utf8SafeCEscape(tensor.name),
                                                        previous->file, tensor.file));
    }
    previous = &tensor;
    reader->by_name_[tensor.name] = &tensor;
    reader->total_bytes_ += tensor.size;
  }
  return reader;
}

const StoredTensor* WeightsReader::Find(absl::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

uint64_t WeightsReader::Fingerprint() const {
  constexpr size_t kBlockBytes{4096};
  constexpr size_t kBlocks{16};  // of a large tensor: 64 KB each, at most
  XXH3_state_t* state = XXH3_createState();
  SW_CHECK(state != nullptr) << "out of memory";
  XXH3_64bits_reset(state);
  for (const StoredTensor& tensor : tensors_) {
    // Lengths in front, so that no two lists of tensors run together to the same bytes.
    const uint64_t lengths[] = {tensor.name.size(), tensor.dtype_name.size(), tensor.shape.size(),
                                tensor.size};
    XXH3_64bits_update(state, lengths, sizeof(lengths));
    XXH3_64bits_update(state, tensor.name.data(), tensor.name.size());
    XXH3_64bits_update(state, tensor.dtype_name.data(), tensor.dtype_name.size());
    XXH3_64bits_update(state, tensor.shape.data(), tensor.shape.size() * sizeof(int64_t));
    if (tensor.size <= kBlockBytes * kBlocks) {
      if (tensor.size > 0) XXH3_64bits_update(state, tensor.data, tensor.size);
      continue;
    }
    for (size_t i = 0; i < kBlocks; ++i) {  // from the first block to the last
      const size_t offset = (tensor.size - kBlockBytes) * i / (kBlocks - 1);
      XXH3_64bits_update(state, tensor.data + offset, kBlockBytes);
    }
  }
  const uint64_t digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return digest;
}

}  // namespace sidewinder
