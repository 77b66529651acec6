#include "tests/model/model_files.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "moelight_XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TempFolder::~TempFolder() { std::filesystem::remove_all(path_); }

std::string TempFolder::Path(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

void TempFolder::Write(absl::string_view name, absl::string_view content) const {
  std::ofstream file(Path(name), std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  ASSERT_TRUE(file.good()) << name;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string SafetensorsFile(absl::string_view header, absl::string_view data, uint64_t length) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
  return absl::StrCat(file, header, data);
}

std::string SafetensorsFile(absl::string_view header, absl::string_view data) {
  return SafetensorsFile(header, data, header.size());
}

std::string SafetensorsFile(const std::vector<TestTensor>& tensors, int padding) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const TestTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return SafetensorsFile(header.dump() + std::string(padding, ' '), data);
}

std::vector<TestTensor> ReadTensors(const std::string& path) {
  const std::string file = ReadAll(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
  std::vector<TestTensor> tensors;
  for (const auto& [name, info] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = info["data_offsets"][0];
    const size_t end = info["data_offsets"][1];
    tensors.push_back(
        {name, info["dtype"], info["shape"], file.substr(8 + length + begin, end - begin)});
  }
  return tensors;
}

std::string DataPath(absl::string_view name) {
  return absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/", name);
}

}  // namespace moelight
