// Goal: data flows one way. Includes between folders form the DAG of engine/README.md, and files
// stay small enough to be read.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

namespace fs = std::filesystem;

// Folder -> folders it may include. "engine" is engine/*.{h,cc}; "engine_api" is the part of it
// that the server sees.
const std::map<std::string, std::set<std::string>>& AllowedIncludes() {
  static const auto* const allowed = new std::map<std::string, std::set<std::string>>{
      {"engine/base", {}},
      {"engine_api", {"engine/base"}},
      {"engine/tokenizer", {"engine/base", "engine_api"}},
      {"engine/sampling", {"engine/base", "engine/tokenizer", "engine_api"}},
      {"engine/backend", {"engine/base"}},
      {"engine/model", {"engine/base", "engine/backend", "engine_api"}},
      {"engine/memory", {"engine/base", "engine/backend", "engine/model"}},
      {"engine/cpu_probe", {"engine/base", "engine/backend", "engine/memory", "engine_api"}},
      {"engine/gpu_probe", {"engine/base", "engine/backend", "engine/memory", "engine_api"}},
      {"engine/scheduler",
       {"engine/base", "engine/backend", "engine/model", "engine/memory", "engine_api"}},
      {"engine/pipeline",
       {"engine/base", "engine/backend", "engine/model", "engine/memory", "engine/scheduler"}},
      {"engine/planner",
       {"engine/base", "engine/backend", "engine/model", "engine/memory", "engine/scheduler",
        "engine/pipeline"}},
      {"engine",
       {"engine/base", "engine/tokenizer", "engine/sampling", "engine/backend", "engine/model",
        "engine/memory", "engine/cpu_probe", "engine/gpu_probe", "engine/planner",
        "engine/scheduler", "engine/pipeline", "engine_api"}},
      {"proto", {}},
      {"server", {"engine/base", "engine_api", "proto"}},
      {"client", {"engine/base", "proto"}},
  };
  return *allowed;
}

std::string FolderOf(const std::string& path) {
  for (const char* header : {"engine/engine.h", "engine/kernel_rates.h", "engine/request.h"}) {
    if (path == header) return "engine_api";
  }
  for (const char* package : {"moelight/v1/", "inference/", "google/", "grpc/health/"}) {
    if (path.rfind(package, 0) == 0) return "proto";
  }
  const size_t first = path.find('/');
  if (path.rfind("engine/", 0) != 0) return path.substr(0, first);
  const size_t second = path.find('/', first + 1);
  return second == std::string::npos ? "engine" : path.substr(0, second);
}

struct SourceFile {
  std::string path;  // from the root
  std::vector<std::string> lines;
};

std::vector<SourceFile> SourceFiles() {
  std::vector<SourceFile> files;
  for (const char* top : {"engine", "server", "client", "tests"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(MOELIGHT_SOURCE_DIR) / top)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cc" && extension != ".cu") continue;
      SourceFile file{fs::relative(entry.path(), MOELIGHT_SOURCE_DIR).string(), {}};
      std::ifstream stream(entry.path());
      for (std::string line; std::getline(stream, line);) file.lines.push_back(line);
      files.push_back(std::move(file));
    }
  }
  return files;
}

// Paths of the lines `#include "..."`.
std::vector<std::string> Includes(const SourceFile& file) {
  const std::string directive = "#include \"";
  std::vector<std::string> includes;
  for (const std::string& line : file.lines) {
    if (line.rfind(directive, 0) != 0) continue;
    const size_t begin = directive.size();
    includes.push_back(line.substr(begin, line.find('"', begin) - begin));
  }
  return includes;
}

bool IncludesAnyOf(const std::string& line, const std::vector<std::string>& libraries) {
  return std::any_of(libraries.begin(), libraries.end(), [&line](const std::string& library) {
    return line.rfind("#include <" + library, 0) == 0;
  });
}

TEST(SourceTreeTest, IncludesFollowTheDag) {
  int num_checked = 0;
  for (const SourceFile& file : SourceFiles()) {
    const std::string folder = FolderOf(file.path);
    if (folder == "tests") continue;
    // engine.h and request.h are declared at the top and defined in the folders that own the work.
    const auto allowed = AllowedIncludes().find(folder);
    ASSERT_NE(allowed, AllowedIncludes().end())
        << file.path << " is in a folder that the DAG lacks";
    for (const std::string& include : Includes(file)) {
      const std::string target = FolderOf(include);
      ++num_checked;
      EXPECT_TRUE(target == folder || allowed->second.count(target))
          << file.path << " includes " << include << ": " << folder << " may not depend on "
          << target;
    }
  }
  EXPECT_GT(num_checked, 100) << "the source tree was not found";
}

TEST(SourceTreeTest, TheTableOfAllowedIncludesHasNoCycle) {
  std::map<std::string, std::set<std::string>> left = AllowedIncludes();
  while (!left.empty()) {
    const auto leaf = std::find_if(left.begin(), left.end(), [&left](const auto& entry) {
      return std::none_of(entry.second.begin(), entry.second.end(),
                          [&left](const std::string& target) { return left.count(target) > 0; });
    });
    ASSERT_NE(leaf, left.end());
    left.erase(leaf);
  }
}

TEST(SourceTreeTest, ForbiddenLibrariesStayOut) {
  // The engine knows no gRPC, YAML, SQLite or Prometheus; CUDA stays in its folder.
  const std::vector<std::string> server_only = {"grpc", "yaml-cpp", "sqlite3", "prometheus"};
  const std::vector<std::string> cuda = {"cuda", "cublas", "nccl"};
  for (const SourceFile& file : SourceFiles()) {
    for (const std::string& line : file.lines) {
      if (file.path.rfind("engine/", 0) == 0) {
        EXPECT_FALSE(IncludesAnyOf(line, server_only)) << file.path << ": " << line;
      }
      if (file.path.rfind("engine/backend/cuda/", 0) != 0) {
        EXPECT_FALSE(IncludesAnyOf(line, cuda)) << file.path << ": " << line;
      }
    }
  }
}

TEST(SourceTreeTest, FilesStayReadable) {
  for (const SourceFile& file : SourceFiles()) {
    EXPECT_LE(file.lines.size(), 700u) << file.path << " is asking to be split";
    for (size_t i = 0; i < file.lines.size(); ++i) {
      EXPECT_EQ(file.lines[i].find('\t'), std::string::npos) << file.path << ":" << i + 1;
    }
  }
}

}  // namespace
}  // namespace moelight
