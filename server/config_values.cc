#include "server/config_values.h"

#include <algorithm>
#include <limits>

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>
#include <arpa/inet.h>

namespace moelight {
namespace {

struct Unit {
  absl::string_view name;
  int64_t factor;
};

// Largest first, which is the order in which formatting tries them.
constexpr Unit kSizeUnits[] = {
    {"TiB", 1LL << 40}, {"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}, {"B", 1}};
constexpr Unit kDurationUnits[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};

// "16GiB" by the table. Plain 0 needs no unit.
absl::StatusOr<int64_t> ParseWithUnit(absl::string_view text, absl::Span<const Unit> units,
                                      absl::string_view expected) {
  if (text == "0") return 0;
  const size_t num_digits =
      std::find_if_not(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }) -
      text.begin();
  int64_t number = 0;
  if (num_digits > 0 && absl::SimpleAtoi(text.substr(0, num_digits), &number)) {
    for (const Unit& unit : units) {
      if (text.substr(num_digits) != unit.name) continue;
      if (number > std::numeric_limits<int64_t>::max() / unit.factor) {
        return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is too large"));
      }
      return number * unit.factor;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ", expected));
}

std::string FormatWithUnit(int64_t value, absl::Span<const Unit> units) {
  if (value == 0) return "0";
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) return absl::StrCat(value / unit.factor, unit.name);
  }
  return absl::StrCat(value);
}

// Levenshtein distance, one row of the table at a time.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not true or false"));
}

absl::StatusOr<int64_t> ParseInteger(absl::string_view text) {
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number"));
}

absl::StatusOr<int64_t> ParseSize(absl::string_view text) {
  return ParseWithUnit(text, kSizeUnits, "a size such as 16GiB, 512MiB, 64KiB or 100B");
}

absl::StatusOr<int64_t> ParseDuration(absl::string_view text) {
  return ParseWithUnit(text, kDurationUnits, "a duration such as 30s, 15m, 12h or 7d");
}

std::string FormatSize(int64_t bytes) { return FormatWithUnit(bytes, kSizeUnits); }
std::string FormatDuration(int64_t seconds) { return FormatWithUnit(seconds, kDurationUnits); }

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  HostPort address;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not HOST:PORT with a port of 0 to 65535"));
  }
  absl::string_view host = text.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ":")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not HOST:PORT; write an IPv6 address as [::1]:50051"));
  }
  address.host = std::string(host);
  return address;
}

bool IsLoopback(const HostPort& address) {
  if (address.host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates) {
  // A third of the name may be wrong: more is a guess, not a typing error.
  size_t best_distance = name.size() / 3 + 1;
  std::string best;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(name, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

}  // namespace moelight
