#include "engine/model/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

using Json = nlohmann::json;

constexpr int64_t kLengthBytes = 8;  // of the header length
constexpr absl::string_view kMetadataKey = "__metadata__";

struct DTypeBits {
  absl::string_view name;
  int bits;
};
// Every dtype of the format, so that a file that also holds others than we compute with is read.
constexpr DTypeBits kDTypes[] = {
    {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

int BitsOf(absl::string_view dtype) {
  for (const DTypeBits& known : kDTypes) {
    if (known.name == dtype) return known.bits;
  }
  return 0;
}

// One header under way; every error carries the file and the tensor.
class HeaderParser {
 public:
  HeaderParser(absl::string_view source_name, int64_t data_begin, int64_t data_bytes)
      : source_name_(source_name), data_begin_(data_begin), data_bytes_(data_bytes) {}

  absl::StatusOr<TensorMap> Parse(const Json& header) {
    if (!header.is_object()) return Broken("header must be a JSON object");
    TensorMap tensors;
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadataKey) {
        RETURN_IF_ERROR(CheckMetadata(value));
        continue;
      }
      ASSIGN_OR_RETURN(TensorInfo info, ParseTensor(name, value));
      tensors.emplace(name, std::move(info));
    }
    RETURN_IF_ERROR(CheckCoverage(tensors));
    return tensors;
  }

 private:
  absl::Status Broken(absl::string_view rule) const {
    return absl::InvalidArgumentError(absl::StrCat(source_name_, ": ", rule));
  }
  absl::Status BrokenTensor(absl::string_view name, absl::string_view rule) const {
    return Broken(
        absl::StrCat("tensor \"", absl::Utf8SafeCHexEscape(name.substr(0, 200)), "\": ", rule));
  }

  absl::Status CheckMetadata(const Json& value) const {
    const bool strings =
        value.is_object() &&
        std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); });
    return strings ? absl::OkStatus() : Broken("__metadata__ must map strings to strings");
  }

  // A list of integers >= 0, or false.
  static bool ReadSizes(const Json& tensor, const char* field, std::vector<int64_t>& sizes) {
    const auto it = tensor.find(field);
    if (it == tensor.end() || !it->is_array()) return false;
    for (const Json& size : *it) {
      // The parser makes every integer >= 0 unsigned.
      if (!size.is_number_unsigned()) return false;
      const uint64_t value = size.get<uint64_t>();
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
      sizes.push_back(static_cast<int64_t>(value));
    }
    return true;
  }

  // Bytes of a tensor of `shape`, or an error if there is no such number.
  absl::StatusOr<int64_t> BytesOf(absl::string_view name, const TensorInfo& info, int bits) const {
    int64_t total_bits = bits;
    for (const int64_t dim : info.shape) {
      if (__builtin_mul_overflow(total_bits, dim, &total_bits)) {
        return BrokenTensor(name, absl::StrCat("shape ", info.ShapeString(), " overflows 64 bits"));
      }
    }
    if (total_bits % 8 != 0) {
      return BrokenTensor(
          name, absl::StrCat("shape ", info.ShapeString(), " is not a whole number of bytes"));
    }
    return total_bits / 8;
  }

  absl::StatusOr<TensorInfo> ParseTensor(absl::string_view name, const Json& value) const {
    if (!value.is_object()) return BrokenTensor(name, "must be a JSON object");
    const auto dtype = value.find("dtype");
    if (dtype == value.end() || !dtype->is_string()) {
      return BrokenTensor(name, "dtype must be a string");
    }
    TensorInfo info;
    info.dtype = dtype->get<std::string>();
    const int bits = BitsOf(info.dtype);
    if (bits == 0) {
      return BrokenTensor(
          name, absl::StrCat("dtype \"", absl::Utf8SafeCHexEscape(info.dtype.substr(0, 40)),
                             "\" is not one of the format's"));
    }
    if (!ReadSizes(value, "shape", info.shape)) {
      return BrokenTensor(name, "shape must be a list of integers from 0 to 2^63-1");
    }
    std::vector<int64_t> offsets;
    if (!ReadSizes(value, "data_offsets", offsets) || offsets.size() != 2) {
      return BrokenTensor(name, "data_offsets must be two integers from 0 to 2^63-1");
    }
    const std::string range = absl::StrCat("data_offsets [", absl::StrJoin(offsets, ", "), ")");
    if (offsets[0] > offsets[1])
      return BrokenTensor(name, absl::StrCat(range, " end before begin"));
    if (offsets[1] > data_bytes_) {
      return BrokenTensor(name, absl::StrCat(range, " pass the end of the data, ", data_bytes_,
                                             " bytes; the file is truncated or wrong"));
    }
    ASSIGN_OR_RETURN(info.bytes, BytesOf(name, info, bits));
    if (info.bytes != offsets[1] - offsets[0]) {
      return BrokenTensor(name,
                          absl::StrCat(range, " are ", offsets[1] - offsets[0], " bytes, but ",
                                       info.ShapeString(), " takes ", info.bytes));
    }
    info.begin = data_begin_ + offsets[0];
    return info;
  }

  // The tensors, in order of offset, must follow one another from the first data byte to the last.
  absl::Status CheckCoverage(const TensorMap& tensors) const {
    std::vector<const TensorMap::value_type*> order;
    order.reserve(tensors.size());
    for (const auto& entry : tensors) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return std::pair(a->second.begin, a->second.bytes) <
             std::pair(b->second.begin, b->second.bytes);
    });
    int64_t end = data_begin_;
    absl::string_view previous = "";
    for (const auto* entry : order) {
      const int64_t gap = entry->second.begin - end;
      if (gap < 0) {
        return BrokenTensor(entry->first, absl::StrCat("overlaps tensor \"", previous, "\""));
      }
      if (gap > 0) {
        return BrokenTensor(entry->first, absl::StrCat("follows a hole of ", gap, " bytes"));
      }
      end += entry->second.bytes;
      previous = entry->first;
    }
    if (end != data_begin_ + data_bytes_) {
      return Broken(
          absl::StrCat("the last ", data_begin_ + data_bytes_ - end, " bytes belong to no tensor"));
    }
    return absl::OkStatus();
  }

  const absl::string_view source_name_;
  const int64_t data_begin_;
  const int64_t data_bytes_;
};

}  // namespace

std::string TensorInfo::ShapeString() const {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "] ", dtype);
}

absl::StatusOr<TensorMap> ParseSafetensorsHeader(absl::string_view json,
                                                 absl::string_view source_name, int64_t data_begin,
                                                 int64_t data_bytes) {
  // The format wants the object at once; the parser would also take white space or a BOM.
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": header must begin with '{'"));
  }
  // {"name": {"shape": [...]}} is three deep.
  const JsonLimits limits = {
      .max_depth = 3, .max_bytes = kMaxSafetensorsHeaderBytes, .unique_keys = true};
  ASSIGN_OR_RETURN(const Json header, ParseJson(json, source_name, limits));
  return HeaderParser(source_name, data_begin, data_bytes).Parse(header);
}

absl::StatusOr<TensorMap> ReadSafetensorsHeader(const File& file) {
  const int64_t rest = file.size() - kLengthBytes;
  if (rest < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": ", file.size(), " bytes, too short for a safetensors header length"));
  }
  std::array<std::byte, kLengthBytes> prefix = {};
  RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(prefix)));
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i)
    length = length << 8 | static_cast<uint64_t>(prefix[i]);
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": header length ", length,
                                                   ", limit ", kMaxSafetensorsHeaderBytes));
  }
  const int64_t header_bytes = static_cast<int64_t>(length);
  if (header_bytes > rest) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": header length ", length,
                                                   " passes the end of the file, which has ", rest,
                                                   " more bytes"));
  }
  std::string json(static_cast<size_t>(header_bytes), '\0');
  RETURN_IF_ERROR(
      file.ReadAt(kLengthBytes, {reinterpret_cast<std::byte*>(json.data()), json.size()}));
  return ParseSafetensorsHeader(json, file.path(), kLengthBytes + header_bytes,
                                rest - header_bytes);
}

}  // namespace moelight
