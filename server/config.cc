#include "server/config.h"

#include <filesystem>
#include <map>
#include <set>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <yaml-cpp/yaml.h>

#include "engine/base/status_macros.h"
#include "server/config_check.h"
#include "server/config_keys.h"
#include "server/config_values.h"
#include "server/text_file.h"

namespace moelight {
namespace {

constexpr absl::string_view kEnvironmentPrefix = "MOELIGHT__";

bool IsSection(absl::string_view path) {
  const std::string prefix = absl::StrCat(path, ".");
  for (const ConfigKey& key : ConfigKeys()) {
    if (absl::StartsWith(key.path, prefix)) return true;
  }
  return false;
}

std::string UnknownKeyReason(absl::string_view path) {
  std::vector<std::string> paths;
  for (const ConfigKey& key : ConfigKeys()) paths.emplace_back(key.path);
  const std::string nearest = NearestName(path, paths);
  return nearest.empty() ? "unknown key" : absl::StrCat("unknown key, did you mean ", nearest, "?");
}

// Whether a quoted scalar has the wrong type for the key.
bool WantsPlainScalar(ConfigKind kind) {
  return kind != ConfigKind::kString && kind != ConfigKind::kPath && kind != ConfigKind::kChoice;
}

// Gathers values and mistakes from all sources.
class ConfigLoader {
 public:
  void ReadFile(const std::string& file) {
    file_ = file;
    const absl::StatusOr<std::string> text = ReadTextFile(file);
    if (!text.ok()) {
      errors_.emplace_back(text.status().message());
      return;
    }
    const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
    ResolvePath("store.path", folder);  // the default; others have none
    try {
      ReadYaml(*text, folder);
    } catch (const YAML::Exception& exception) {
      errors_.push_back(
          absl::StrCat(file_, ":", exception.mark.line + 1, ": not YAML: ", exception.msg));
    }
  }

  void ReadEnvironment(const std::vector<std::pair<std::string, std::string>>& environment) {
    for (const auto& [name, value] : environment) {
      if (!absl::StartsWith(name, kEnvironmentPrefix)) continue;
      const std::string path = absl::AsciiStrToLower(
          absl::StrReplaceAll(name.substr(kEnvironmentPrefix.size()), {{"__", "."}}));
      Override(path, value, name);
    }
  }

  void ReadOverrides(const std::vector<std::string>& overrides) {
    for (const std::string& text : overrides) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(text, absl::MaxSplits('=', 1));
      if (!absl::StrContains(text, "=")) {
        errors_.push_back(absl::StrCat("--set: ", text, ": not key=value"));
        continue;
      }
      Override(parts.first, parts.second, "--set");
    }
  }

  absl::StatusOr<Config> Finish() {
    // Values that could not be read would only cause errors that mislead.
    if (errors_.empty()) {
      CheckConfig(config_, [this](absl::string_view key, std::string reason) {
        const auto origin = origins_.find(std::string(key));
        AddError(origin == origins_.end() ? file_ : origin->second, key, reason);
      });
    }
    if (!errors_.empty()) return absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
    return config_;
  }

 private:
  void ReadYaml(const std::string& text, const std::filesystem::path& folder) {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      errors_.push_back(absl::StrCat(file_, ":", documents[1].Mark().line + 1,
                                     ": a second YAML document; only one is read"));
    }
    if (documents.empty() || documents[0].IsNull()) return;
    if (!documents[0].IsMap()) {
      errors_.push_back(absl::StrCat(file_, ":", documents[0].Mark().line + 1,
                                     ": not a mapping of keys to values"));
      return;
    }
    ReadMap(documents[0], "", folder);
  }

  // Aliases cannot make this endless: every level adds to the path, and the table of keys is
  // finite.
  void ReadMap(const YAML::Node& map, const std::string& prefix,
               const std::filesystem::path& folder) {
    std::map<std::string, int> first_lines;
    for (const auto& entry : map) {
      const YAML::Node& name_node = entry.first;
      const YAML::Node& value = entry.second;
      const int line = name_node.Mark().line + 1;
      const std::string label = absl::StrCat(file_, ":", line);
      if (!name_node.IsScalar()) {
        errors_.push_back(absl::StrCat(label, ": ", prefix, ": a key that is not a word"));
        continue;
      }
      const std::string path = prefix + name_node.Scalar();
      const auto [first, is_new] = first_lines.emplace(path, line);
      if (!is_new) {
        AddError(label, path, absl::StrCat("duplicate key, first in line ", first->second));
      } else if (const ConfigKey* key = FindConfigKey(path); key != nullptr) {
        ReadScalar(*key, value, label, folder);
      } else if (!IsSection(path)) {
        AddError(label, path, UnknownKeyReason(path));
      } else if (value.IsMap()) {
        ReadMap(value, path + ".", folder);
      } else if (!value.IsNull()) {
        AddError(label, path, "not a mapping of keys to values");
      }
    }
  }

  void ReadScalar(const ConfigKey& key, const YAML::Node& value, const std::string& label,
                  const std::filesystem::path& folder) {
    if (value.IsNull()) {
      AddError(label, key.path, absl::StrCat("has no value: ", DescribeRange(key)));
    } else if (!value.IsScalar()) {
      AddError(
          label, key.path,
          absl::StrCat("a ", value.IsMap() ? "mapping" : "list", ", not ", DescribeRange(key)));
    } else if (value.Tag() == "!" && WantsPlainScalar(key.kind)) {  // quoted
      AddError(label, key.path, absl::StrCat("a string in quotes, not ", DescribeRange(key)));
    } else {
      Set(key, value.Scalar(), label, folder);
    }
  }

  void Override(const std::string& path, const std::string& value, const std::string& label) {
    const ConfigKey* key = FindConfigKey(path);
    if (key == nullptr) {
      AddError(label, path, UnknownKeyReason(path));
      return;
    }
    Set(*key, value, label, std::filesystem::current_path());
  }

  void Set(const ConfigKey& key, const std::string& text, const std::string& label,
           const std::filesystem::path& folder) {
    origins_[std::string(key.path)] = label;
    const absl::Status status = SetConfigValue(key, text, config_);
    if (!status.ok()) {
      AddError(label, key.path, status.message());
    } else if (key.kind == ConfigKind::kPath) {
      ResolvePath(key.path, folder);
    }
  }

  void ResolvePath(absl::string_view path, const std::filesystem::path& folder) {
    std::string& value = std::get<std::string& (*)(Config&)>(FindConfigKey(path)->binding)(config_);
    if (!value.empty()) value = (folder / value).lexically_normal().string();
  }

  void AddError(absl::string_view label, absl::string_view path, absl::string_view reason) {
    errors_.push_back(absl::StrCat(label, ": ", path, ": ", reason));
  }

  Config config_;
  std::string file_;
  std::map<std::string, std::string> origins_;  // path -> where it was set last
  std::vector<std::string> errors_;
};

}  // namespace

int64_t DescriptorsNeeded(const Config& config) {
  // Beside the connections: the store, the metrics' listener, gRPC's own, the model.
  constexpr int64_t kOtherDescriptors = 256;
  const int64_t num_listeners = config.admin_listen.empty() ? 1 : 2;
  return 2 * num_listeners * config.rpc_limits.connections + kOtherDescriptors;
}

int64_t RowsInFlight(const Config& config, int64_t max_running_sequences) {
  if (config.rpc_limits.rows_in_flight != 0) return config.rpc_limits.rows_in_flight;
  return max_running_sequences + config.engine.max_queued_requests / 2;
}

absl::StatusOr<Config> LoadConfig(const ConfigSources& sources) {
  ConfigLoader loader;
  loader.ReadFile(sources.file);
  loader.ReadEnvironment(sources.environment);
  loader.ReadOverrides(sources.overrides);
  return loader.Finish();
}

std::string EffectiveConfigYaml(const Config& config) {
  YAML::Emitter emitter;
  emitter << YAML::BeginMap;
  // Keys of one section stand together in the table, so a section is closed when it changes.
  std::vector<std::string> open;
  for (const ConfigKey& key : ConfigKeys()) {
    std::vector<std::string> sections = absl::StrSplit(key.path, '.');
    const std::string name = sections.back();
    sections.pop_back();
    size_t common = 0;
    while (common < open.size() && common < sections.size() && open[common] == sections[common]) {
      ++common;
    }
    for (size_t i = open.size(); i > common; --i) emitter << YAML::EndMap;
    for (size_t i = common; i < sections.size(); ++i) {
      emitter << YAML::Key << sections[i] << YAML::Value << YAML::BeginMap;
    }
    open = std::move(sections);
    emitter << YAML::Key << name << YAML::Value << FormatConfigValue(key, config);
  }
  for (size_t i = 0; i < open.size(); ++i) emitter << YAML::EndMap;
  emitter << YAML::EndMap;
  return std::string(emitter.c_str()) + "\n";
}

}  // namespace moelight
