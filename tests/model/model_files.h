// Helpers for tests of the model folder: folders that vanish, and safetensors files of any
// content.
#ifndef MOELIGHT_TESTS_MODEL_MODEL_FILES_H_
#define MOELIGHT_TESTS_MODEL_MODEL_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/strings/string_view.h>

namespace moelight {

// A fresh folder, removed with all it holds.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string Path(absl::string_view name) const;
  void Write(absl::string_view name, absl::string_view content) const;

 private:
  std::string path_;
};

std::string ReadAll(const std::string& path);

// A file of the given header and data; `length` replaces the header's true length.
std::string SafetensorsFile(absl::string_view header, absl::string_view data);
std::string SafetensorsFile(absl::string_view header, absl::string_view data, uint64_t length);

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};
// A well-formed file of the tensors in the given order. `padding` spaces end the header, which
// moves the data to any alignment.
std::string SafetensorsFile(const std::vector<TestTensor>& tensors, int padding = 0);

// Every tensor of a well-formed file, with its bytes.
std::vector<TestTensor> ReadTensors(const std::string& path);

// PATH of tests/data/NAME.
std::string DataPath(absl::string_view name);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_MODEL_MODEL_FILES_H_
