#include "server/hardware_file.h"

#include <map>
#include <utility>
#include <vector>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <yaml-cpp/yaml.h>

#include "engine/base/hardware_fields.h"
#include "engine/base/status_macros.h"
#include "server/config_values.h"
#include "server/text_file.h"

namespace moelight {
namespace {

// Enough for any section, any curve and for all mistakes that one wants to see at once. Aliases can
// make a small file very large.
constexpr size_t kMaxElements = 256;
constexpr size_t kMaxErrors = 20;

// Walks the fields beside the YAML nodes and gathers mistakes.
class Reader {
 public:
  explicit Reader(std::string source_name) : source_name_(std::move(source_name)) {}

  absl::StatusOr<HardwareProfile> Read(const std::string& text) {
    HardwareProfile profile;
    try {
      ReadDocument(text, profile);
    } catch (const YAML::Exception& exception) {
      errors_.push_back(
          absl::StrCat(source_name_, ":", exception.mark.line + 1, ": not YAML: ", exception.msg));
    }
    // Values that could not be read would only cause errors that mislead.
    if (errors_.empty()) CheckValues(profile);
    if (!errors_.empty()) return absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
    return profile;
  }

  // A field of the section that is being read.
  template <typename T>
  void Field(const char* name, T& value, const HardwareField& field) {
    known_.emplace_back(name);
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) return;
    const YAML::Node node = entry->second;
    const std::string outer = std::exchange(path_, Join(path_, name));
    if (node.IsNull()) {
      AddError("has no value");
    } else {
      ReadValue(node, value, field);
    }
    path_ = outer;
  }

 private:
  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : absl::StrCat(path, ".", name);
  }

  // With the line of the field, or of what it would be in.
  void AddError(absl::string_view reason) {
    if (errors_.size() >= kMaxErrors) return;
    std::string place = path_;
    while (!place.empty() && !lines_.contains(place)) {
      const size_t end = place.find_last_of(".[");
      place.resize(end == std::string::npos ? 0 : end);
    }
    errors_.push_back(absl::StrCat(source_name_, ":", lines_[place], ": ", path_,
                                   path_.empty() ? "" : ": ", reason));
  }

  void ReadDocument(const std::string& text, HardwareProfile& profile) {
    lines_[""] = 1;
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      lines_[""] = documents[1].Mark().line + 1;
      return AddError("a second YAML document; only one is read");
    }
    if (documents.empty() || documents[0].IsNull()) return AddError("empty");
    ReadValue(documents[0], profile, {""});
  }

  template <typename Section>
  requires std::is_class_v<Section>
  void ReadValue(const YAML::Node& node, Section& section, const HardwareField& /*field*/) {
    if (!node.IsMap()) return AddError("not a mapping of keys to values");
    if (node.size() > kMaxElements) {
      return AddError(absl::StrCat("a mapping of ", node.size(), " keys, limit ", kMaxElements));
    }
    auto outer_entries = std::exchange(entries_, {});
    auto outer_known = std::exchange(known_, {});
    for (const auto& entry : node) EnterKey(entry.first, entry.second);
    VisitFields(section, *this);
    for (const auto& [name, value] : entries_) CheckKnown(name);
    entries_ = std::move(outer_entries);
    known_ = std::move(outer_known);
  }

  void EnterKey(const YAML::Node& name, const YAML::Node& value) {
    if (!name.IsScalar()) return AddError("a key that is not a word");
    const std::string path = Join(path_, name.Scalar());
    const int line = name.Mark().line + 1;
    if (entries_.emplace(name.Scalar(), value).second) {
      lines_[path] = line;
    } else {
      const std::string outer = std::exchange(path_, path);
      const int first_line = std::exchange(lines_[path], line);
      AddError(absl::StrCat("duplicate key, first in line ", first_line));
      path_ = outer;
    }
  }

  void CheckKnown(const std::string& name) {
    for (const std::string& known : known_) {
      if (name == known) return;
    }
    const std::string nearest = NearestName(name, known_);
    const std::string outer = std::exchange(path_, Join(path_, name));
    AddError(nearest.empty() ? "unknown key"
                             : absl::StrCat("unknown key, did you mean ", nearest, "?"));
    path_ = outer;
  }

  // Calls `read(element)` for each, with the path set to it.
  template <typename ReadElement>
  void ReadList(const YAML::Node& node, absl::string_view of_what, ReadElement read) {
    if (!node.IsSequence()) return AddError(absl::StrCat("not a list of ", of_what));
    if (node.size() > kMaxElements) {
      return AddError(absl::StrCat("a list of ", node.size(), ", limit ", kMaxElements));
    }
    const std::string list = path_;
    for (size_t i = 0; i < node.size(); ++i) {
      path_ = absl::StrCat(list, "[", i, "]");
      lines_[path_] = node[i].Mark().line + 1;
      read(node[i]);
    }
    path_ = list;
  }

  template <typename Section>
  void ReadValue(const YAML::Node& node, std::vector<Section>& sections,
                 const HardwareField& field) {
    ReadList(node, "mappings", [&](const YAML::Node& element) {
      ReadValue(element, sections.emplace_back(), field);
    });
  }

  void ReadValue(const YAML::Node& node, RateCurve& curve, const HardwareField& field) {
    ReadList(node, "points [size, rate]", [&](const YAML::Node& element) {
      if (!element.IsSequence() || element.size() != 2) return AddError("not a [size, rate]");
      RateCurve::Point& point = curve.points.emplace_back();
      if (field.in_bytes) {
        int64_t bytes = 0;
        ReadMember("size", element[0], bytes, field);
        point.size = static_cast<double>(bytes);
      } else {
        ReadMember("size", element[0], point.size, field);
      }
      ReadMember("rate", element[1], point.rate, field);
    });
  }

  // A value that has a name, but no key in the file.
  template <typename T>
  void ReadMember(const char* name, const YAML::Node& node, T& value, const HardwareField& field) {
    const std::string outer = std::exchange(path_, Join(path_, name));
    lines_[path_] = node.Mark().line + 1;
    ReadValue(node, value, field);
    path_ = outer;
  }

  // Null for what is no plain scalar, which is told.
  const std::string* PlainScalar(const YAML::Node& node, absl::string_view expected) {
    if (node.IsScalar() && node.Tag() != "!") return &node.Scalar();  // "!": in quotes
    const char* const what = node.IsMap()        ? "a mapping"
                             : node.IsSequence() ? "a list"
                             : node.IsScalar()   ? "a string in quotes"
                                                 : "nothing";
    AddError(absl::StrCat(what, ", not ", expected));
    return nullptr;
  }

  void ReadValue(const YAML::Node& node, std::string& value, const HardwareField& /*field*/) {
    if (!node.IsScalar()) {
      return AddError(absl::StrCat("a ", node.IsMap() ? "mapping" : "list", ", not text"));
    }
    value = node.Scalar();
  }

  void ReadValue(const YAML::Node& node, double& value, const HardwareField& /*field*/) {
    const std::string* text = PlainScalar(node, "a number");
    if (text == nullptr || absl::SimpleAtod(*text, &value)) return;
    AddError(absl::StrCat("\"", *text, "\" is not a number"));
  }

  void ReadValue(const YAML::Node& node, int64_t& value, const HardwareField& field) {
    const std::string* text = PlainScalar(node, field.in_bytes ? "a size" : "a whole number");
    if (text == nullptr || absl::SimpleAtoi(*text, &value)) return;
    const absl::StatusOr<int64_t> parsed = field.in_bytes ? ParseSize(*text) : ParseInteger(*text);
    if (!parsed.ok()) return AddError(parsed.status().message());
    value = *parsed;
  }

  void ReadValue(const YAML::Node& node, int32_t& value, const HardwareField& field) {
    int64_t wide = value;
    ReadValue(node, wide, field);
    value = static_cast<int32_t>(wide);
    if (value != wide) AddError(absl::StrCat(wide, " is out of range"));
  }

  void CheckValues(const HardwareProfile& profile) {
    // Without it all of the section would be passed over in silence.
    if (lines_.contains("gpu") && !lines_.contains("gpu.count")) {
      path_ = "gpu.count";
      return AddError("missing");
    }
    const absl::Status status = ValidateHardwareProfile(profile);
    if (status.ok()) return;
    const std::string message(status.message());
    const size_t colon = message.find(": ");
    path_ = message.substr(0, colon);
    AddError(lines_.contains(path_) ? message.substr(colon + 2) : "missing");
  }

  const std::string source_name_;
  std::string path_;                           // of what is being read
  std::map<std::string, YAML::Node> entries_;  // of the section that is being read
  std::vector<std::string> known_;             // keys that this section may have
  std::map<std::string, int> lines_;           // of all paths that the file has
  std::vector<std::string> errors_;
};

}  // namespace

absl::StatusOr<HardwareProfile> ParseHardwareProfile(const std::string& text,
                                                     const std::string& source_name) {
  return Reader(source_name).Read(text);
}

absl::StatusOr<HardwareProfile> ReadHardwareProfile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  return ParseHardwareProfile(text, path);
}

}  // namespace moelight
