// Lint rules for .proto files, over their descriptors: those of buf's STANDARD category by their
// names there, and COMMENTS: every service, method, message, field, enum and value has one.
#ifndef MOELIGHT_TESTS_PROTO_PROTO_LINT_H_
#define MOELIGHT_TESTS_PROTO_PROTO_LINT_H_

#include <string>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

namespace moelight {

// Violations in `file`, each "RULE: element: reason". `proto` is the same file as written, with
// source information for the comments.
std::vector<std::string> LintFile(const google::protobuf::FileDescriptor& file,
                                  const google::protobuf::FileDescriptorProto& proto);

// Violations that only show over several files of one module: packages, request and response types
// shared by methods.
std::vector<std::string> LintModule(
    const std::vector<const google::protobuf::FileDescriptor*>& files);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_PROTO_PROTO_LINT_H_
