#include "tests/proto/proto_lint.h"

#include <algorithm>
#include <map>
#include <set>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <absl/strings/string_view.h>
#include <absl/strings/strip.h>

namespace moelight {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::EnumDescriptor;
using ::google::protobuf::EnumValueDescriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::FileDescriptorProto;
using ::google::protobuf::MethodDescriptor;
using ::google::protobuf::ServiceDescriptor;
using ::google::protobuf::SourceLocation;

bool IsPascalCase(absl::string_view text) {
  return !text.empty() && absl::ascii_isupper(text[0]) &&
         std::all_of(text.begin(), text.end(), absl::ascii_isalnum);
}

// Words of letters of one case and digits, with single underscores between them.
bool IsSnakeCase(absl::string_view text, bool (*is_letter)(unsigned char)) {
  if (text.empty() || !is_letter(text[0])) return false;
  for (absl::string_view word : absl::StrSplit(text, '_')) {
    if (word.empty()) return false;
    for (const char c : word) {
      if (!is_letter(c) && !absl::ascii_isdigit(c)) return false;
    }
  }
  return true;
}
bool IsLowerSnakeCase(absl::string_view text) { return IsSnakeCase(text, absl::ascii_islower); }
bool IsUpperSnakeCase(absl::string_view text) { return IsSnakeCase(text, absl::ascii_isupper); }

// Takes a number without leading zero off the front.
bool ConsumeNumber(absl::string_view& text) {
  if (text.empty() || text[0] < '1' || text[0] > '9') return false;
  while (!text.empty() && absl::ascii_isdigit(text[0])) text.remove_prefix(1);
  return true;
}

// "v1", "v2beta3".
bool IsVersion(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "v") || !ConsumeNumber(text)) return false;
  if (text.empty()) return true;
  const bool is_preview = absl::ConsumePrefix(&text, "alpha") || absl::ConsumePrefix(&text, "beta");
  return is_preview && ConsumeNumber(text) && text.empty();
}

// "BatchJob" -> "BATCH_JOB".
std::string UpperSnake(const std::string& pascal) {
  std::string result;
  for (size_t i = 0; i < pascal.size(); ++i) {
    if (i > 0 && absl::ascii_isupper(pascal[i]) && !absl::ascii_isupper(pascal[i - 1])) {
      result += '_';
    }
    result += absl::ascii_toupper(pascal[i]);
  }
  return result;
}

class FileLinter {
 public:
  FileLinter(const FileDescriptor& file, const FileDescriptorProto& proto)
      : file_(file), proto_(proto) {}

  std::vector<std::string> Run() {
    LintHeader();
    LintImports();
    for (int i = 0; i < file_.enum_type_count(); ++i) LintEnum(*file_.enum_type(i));
    for (int i = 0; i < file_.message_type_count(); ++i) LintMessage(*file_.message_type(i));
    for (int i = 0; i < file_.service_count(); ++i) LintService(*file_.service(i));
    return std::move(violations_);
  }

 private:
  void Expect(bool holds, const char* rule, const std::string& element, const std::string& reason) {
    if (!holds) violations_.push_back(absl::StrCat(rule, ": ", element, ": ", reason));
  }

  template <typename D>
  void ExpectComment(const D& descriptor) {
    SourceLocation location;
    const bool found = descriptor.GetSourceLocation(&location);
    Expect(found && !absl::StripAsciiWhitespace(location.leading_comments).empty(), "COMMENTS",
           descriptor.full_name(), "has no comment");
  }

  void LintHeader() {
    const std::string& name = file_.name();
    const std::string& package = file_.package();
    const size_t slash = name.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : name.substr(0, slash);
    const std::string base = name.substr(slash == std::string::npos ? 0 : slash + 1);
    Expect(proto_.syntax() == "proto3", "SYNTAX_SPECIFIED", name, "is not proto3");
    Expect(!package.empty(), "PACKAGE_DEFINED", name, "has no package");
    const std::vector<std::string> parts = absl::StrSplit(package, '.');
    Expect(std::all_of(parts.begin(), parts.end(), IsLowerSnakeCase), "PACKAGE_LOWER_SNAKE_CASE",
           name, "package " + package);
    Expect(absl::StrReplaceAll(package, {{".", "/"}}) == folder, "PACKAGE_DIRECTORY_MATCH", name,
           "package " + package + " does not match the folder");
    Expect(parts.size() > 1 && IsVersion(parts.back()), "PACKAGE_VERSION_SUFFIX", name,
           "package " + package);
    Expect(absl::EndsWith(base, ".proto") && IsLowerSnakeCase(absl::StripSuffix(base, ".proto")),
           "FILE_LOWER_SNAKE_CASE", name, "file name");
  }

  void LintImports() {
    Expect(proto_.public_dependency_size() == 0, "IMPORT_NO_PUBLIC", file_.name(),
           "imports publicly");
    Expect(proto_.weak_dependency_size() == 0, "IMPORT_NO_WEAK", file_.name(), "imports weakly");
    std::set<std::string> used;
    for (int i = 0; i < file_.message_type_count(); ++i) CollectUses(*file_.message_type(i), used);
    for (int i = 0; i < file_.service_count(); ++i) {
      for (int k = 0; k < file_.service(i)->method_count(); ++k) {
        used.insert(file_.service(i)->method(k)->input_type()->file()->name());
        used.insert(file_.service(i)->method(k)->output_type()->file()->name());
      }
    }
    for (int i = 0; i < file_.dependency_count(); ++i) {
      const std::string& import = file_.dependency(i)->name();
      Expect(used.contains(import), "IMPORT_USED", file_.name(), import + " is not used");
    }
  }

  void CollectUses(const Descriptor& message, std::set<std::string>& used) {
    for (int i = 0; i < message.field_count(); ++i) {
      const FieldDescriptor& field = *message.field(i);
      if (field.message_type() != nullptr) used.insert(field.message_type()->file()->name());
      if (field.enum_type() != nullptr) used.insert(field.enum_type()->file()->name());
    }
    for (int i = 0; i < message.nested_type_count(); ++i) {
      CollectUses(*message.nested_type(i), used);
    }
  }

  void LintEnum(const EnumDescriptor& type) {
    ExpectComment(type);
    Expect(IsPascalCase(type.name()), "ENUM_PASCAL_CASE", type.full_name(), "name");
    Expect(!type.options().allow_alias(), "ENUM_NO_ALLOW_ALIAS", type.full_name(), "has aliases");
    Expect(type.value(0)->number() == 0, "ENUM_FIRST_VALUE_ZERO", type.full_name(),
           "first value is not 0");
    const std::string prefix = UpperSnake(type.name()) + "_";
    for (int i = 0; i < type.value_count(); ++i) {
      const EnumValueDescriptor& value = *type.value(i);
      ExpectComment(value);
      Expect(IsUpperSnakeCase(value.name()), "ENUM_VALUE_UPPER_SNAKE_CASE", value.full_name(),
             "name");
      Expect(absl::StartsWith(value.name(), prefix), "ENUM_VALUE_PREFIX", value.full_name(),
             "does not start with " + prefix);
      if (value.number() != 0) continue;
      Expect(absl::EndsWith(value.name(), "_UNSPECIFIED"), "ENUM_ZERO_VALUE_SUFFIX",
             value.full_name(), "does not end with _UNSPECIFIED");
    }
  }

  void LintMessage(const Descriptor& message) {
    if (message.options().map_entry()) return;  // made by the compiler
    ExpectComment(message);
    Expect(IsPascalCase(message.name()), "MESSAGE_PASCAL_CASE", message.full_name(), "name");
    for (int i = 0; i < message.field_count(); ++i) {
      const FieldDescriptor& field = *message.field(i);
      ExpectComment(field);
      Expect(IsLowerSnakeCase(field.name()), "FIELD_LOWER_SNAKE_CASE", field.full_name(), "name");
      Expect(!field.is_required(), "FIELD_NOT_REQUIRED", field.full_name(), "is required");
    }
    for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
      ExpectComment(*message.oneof_decl(i));
      Expect(IsLowerSnakeCase(message.oneof_decl(i)->name()), "ONEOF_LOWER_SNAKE_CASE",
             message.oneof_decl(i)->full_name(), "name");
    }
    for (int i = 0; i < message.enum_type_count(); ++i) LintEnum(*message.enum_type(i));
    for (int i = 0; i < message.nested_type_count(); ++i) LintMessage(*message.nested_type(i));
  }

  void LintService(const ServiceDescriptor& service) {
    ExpectComment(service);
    Expect(IsPascalCase(service.name()), "SERVICE_PASCAL_CASE", service.full_name(), "name");
    Expect(absl::EndsWith(service.name(), "Service"), "SERVICE_SUFFIX", service.full_name(),
           "does not end with Service");
    for (int i = 0; i < service.method_count(); ++i) {
      const MethodDescriptor& method = *service.method(i);
      ExpectComment(method);
      Expect(IsPascalCase(method.name()), "RPC_PASCAL_CASE", method.full_name(), "name");
      ExpectStandardName(method, *method.input_type(), "Request", "RPC_REQUEST_STANDARD_NAME");
      ExpectStandardName(method, *method.output_type(), "Response", "RPC_RESPONSE_STANDARD_NAME");
    }
  }

  void ExpectStandardName(const MethodDescriptor& method, const Descriptor& type,
                          const std::string& suffix, const char* rule) {
    const std::string short_name = method.name() + suffix;
    const std::string long_name = method.service()->name() + short_name;
    Expect(type.name() == short_name || type.name() == long_name, rule, method.full_name(),
           type.name() + " is not " + short_name);
  }

  const FileDescriptor& file_;
  const FileDescriptorProto& proto_;
  std::vector<std::string> violations_;
};

std::string Folder(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? "." : name.substr(0, slash);
}

}  // namespace

std::vector<std::string> LintFile(const FileDescriptor& file, const FileDescriptorProto& proto) {
  return FileLinter(file, proto).Run();
}

std::vector<std::string> LintModule(const std::vector<const FileDescriptor*>& files) {
  std::vector<std::string> violations;
  std::map<std::string, std::string> package_of_folder, folder_of_package, user_of_type;
  for (const FileDescriptor* file : files) {
    const std::string folder = Folder(file->name());
    if (package_of_folder.emplace(folder, file->package()).first->second != file->package()) {
      violations.push_back("DIRECTORY_SAME_PACKAGE: " + file->name() + ": " + file->package());
    }
    if (folder_of_package.emplace(file->package(), folder).first->second != folder) {
      violations.push_back("PACKAGE_SAME_DIRECTORY: " + file->name() + ": " + folder);
    }
    for (int i = 0; i < file->service_count(); ++i) {
      for (int k = 0; k < file->service(i)->method_count(); ++k) {
        const MethodDescriptor& method = *file->service(i)->method(k);
        for (const Descriptor* type : {method.input_type(), method.output_type()}) {
          const auto [user, is_new] = user_of_type.emplace(type->full_name(), method.full_name());
          if (!is_new) {
            violations.push_back("RPC_REQUEST_RESPONSE_UNIQUE: " + method.full_name() + ": " +
                                 type->full_name() + " is used by " + user->second + " too");
          }
        }
      }
    }
  }
  return violations;
}

}  // namespace moelight
