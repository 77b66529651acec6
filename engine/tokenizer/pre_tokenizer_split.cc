#include "engine/tokenizer/pre_tokenizer_split.h"

#include <algorithm>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

namespace moelight {
namespace {

// Joins a delimiter to the piece before it, unless that piece ends in a delimiter itself.
std::vector<ByteSpan> MergeWithPrevious(const std::vector<SplitPart>& parts) {
  std::vector<ByteSpan> pieces;
  bool after_delimiter = false;
  for (const SplitPart& part : parts) {
    if (part.is_delimiter && !after_delimiter && !pieces.empty()) {
      pieces.back().end = part.end;
    } else {
      pieces.push_back({part.begin, part.end});
    }
    after_delimiter = part.is_delimiter;
  }
  return pieces;
}

std::vector<ByteSpan> MergeWithNext(const std::vector<SplitPart>& parts) {
  std::vector<ByteSpan> pieces;
  bool before_delimiter = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->is_delimiter && !before_delimiter && !pieces.empty()) {
      pieces.back().begin = part->begin;
    } else {
      pieces.push_back({part->begin, part->end});
    }
    before_delimiter = part->is_delimiter;
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<ByteSpan> JoinContiguous(const std::vector<SplitPart>& parts) {
  std::vector<ByteSpan> pieces;
  bool after_delimiter = false;
  for (const SplitPart& part : parts) {
    if (part.is_delimiter == after_delimiter && !pieces.empty()) {
      pieces.back().end = part.end;
    } else {
      pieces.push_back({part.begin, part.end});
    }
    after_delimiter = part.is_delimiter;
  }
  return pieces;
}

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(absl::string_view name,
                                                 const std::string& section) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(
      absl::StrCat(section, ".behavior \"", name,
                   "\" is not supported; supported: Removed, Isolated, MergedWithPrevious, "
                   "MergedWithNext, Contiguous"));
}

std::vector<SplitPart> PartsFromMatches(const std::vector<ByteSpan>& matches, size_t size,
                                        bool invert) {
  std::vector<SplitPart> parts;
  parts.reserve(matches.size() + 1);
  size_t done = 0;
  for (const ByteSpan& match : matches) {
    if (done != match.begin) parts.push_back({done, match.begin, invert});
    parts.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done != size) parts.push_back({done, size, invert});
  return parts;
}

std::vector<ByteSpan> SplitPieces(const std::vector<SplitPart>& parts, SplitBehavior behavior) {
  if (behavior == SplitBehavior::kMergedWithPrevious) return MergeWithPrevious(parts);
  if (behavior == SplitBehavior::kMergedWithNext) return MergeWithNext(parts);
  if (behavior == SplitBehavior::kContiguous) return JoinContiguous(parts);
  std::vector<ByteSpan> pieces;
  pieces.reserve(parts.size());
  for (const SplitPart& part : parts) {
    if (part.is_delimiter && behavior == SplitBehavior::kRemoved) continue;
    pieces.push_back({part.begin, part.end});
  }
  return pieces;
}

}  // namespace moelight
