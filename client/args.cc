#include "client/args.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include "client/exit_code.h"

namespace moelight::client {
namespace {

const OptionSpec* FindLong(const std::vector<OptionSpec>& specs, absl::string_view name) {
  for (const OptionSpec& spec : specs) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

const OptionSpec* FindShort(const std::vector<OptionSpec>& specs, char name) {
  for (const OptionSpec& spec : specs) {
    if (spec.short_name == name) return &spec;
  }
  return nullptr;
}

// One argument that begins with a dash, taken apart.
struct Option {
  const OptionSpec* spec = nullptr;
  std::optional<std::string> value;  // given within the argument itself
};

absl::StatusOr<Option> ParseOption(const std::vector<OptionSpec>& specs, const std::string& arg) {
  Option option;
  if (absl::StartsWith(arg, "--")) {
    const size_t equals = arg.find('=');
    option.spec = FindLong(specs, absl::string_view(arg).substr(2, equals - 2));
    if (equals != std::string::npos) option.value = arg.substr(equals + 1);
  } else {
    option.spec = FindShort(specs, arg[1]);
    if (arg.size() > 2) option.value = arg.substr(2);
  }
  if (option.spec == nullptr) {
    return UsageError(absl::StrCat("unknown option ", arg));
  }
  if (option.spec->placeholder.empty() && option.value.has_value()) {
    return UsageError(absl::StrCat("option --", option.spec->name, " takes no value"));
  }
  return option;
}

}  // namespace

bool ParsedArgs::Has(absl::string_view name) const { return values_.contains(name); }

std::optional<std::string> ParsedArgs::Get(absl::string_view name) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return std::nullopt;
  return it->second.back();
}

std::vector<std::string> ParsedArgs::GetAll(absl::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

absl::StatusOr<int64_t> ParsedArgs::GetInt(absl::string_view name, int64_t fallback, int64_t min,
                                           int64_t max) const {
  const std::optional<std::string> text = Get(name);
  if (!text.has_value()) return fallback;
  int64_t value = 0;
  if (!absl::SimpleAtoi(*text, &value) || value < min || value > max) {
    return UsageError(absl::StrCat("--", name, " must be an integer from ", min, " to ", max,
                                   ", is \"", *text, "\""));
  }
  return value;
}

absl::StatusOr<int64_t> ParsedArgs::GetSeconds(absl::string_view name, int64_t max) const {
  const std::optional<std::string> text = Get(name);
  if (!text.has_value()) return 0;
  const std::pair<absl::string_view, int64_t> units[] = {
      {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 24 * 3600}};
  absl::string_view digits = *text;
  int64_t seconds_per_unit = 1;
  for (const auto& [unit, seconds] : units) {
    if (absl::ConsumeSuffix(&digits, unit)) {
      seconds_per_unit = seconds;
      break;
    }
  }
  int64_t value = 0;
  if (!absl::SimpleAtoi(digits, &value) || value < 1 || value > max / seconds_per_unit) {
    return UsageError(absl::StrCat("--", name, " must be a duration such as 90s, 15m, 12h or 7d, ",
                                   "at most ", max / (24 * 3600), "d, is \"", *text, "\""));
  }
  return value * seconds_per_unit;
}

absl::StatusOr<double> ParsedArgs::GetDouble(absl::string_view name, double fallback, double min,
                                             double max) const {
  const std::optional<std::string> text = Get(name);
  if (!text.has_value()) return fallback;
  double value = 0;
  if (!absl::SimpleAtod(*text, &value) || !(value >= min && value <= max)) {
    return UsageError(absl::StrCat("--", name, " must be a number from ", min, " to ", max,
                                   ", is \"", *text, "\""));
  }
  return value;
}

absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<OptionSpec>& specs,
                                     const std::vector<std::string>& args) {
  ParsedArgs parsed;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      parsed.positionals_.insert(parsed.positionals_.end(), args.begin() + i + 1, args.end());
      break;
    }
    // A single dash names standard input or output.
    if (arg.size() < 2 || arg[0] != '-') {
      parsed.positionals_.push_back(arg);
      continue;
    }
    absl::StatusOr<Option> option = ParseOption(specs, arg);
    if (!option.ok()) return option.status();
    if (!option->spec->placeholder.empty() && !option->value.has_value()) {
      if (++i == args.size()) {
        return UsageError(
            absl::StrCat("option ", arg, " needs a value: ", option->spec->placeholder));
      }
      option->value = args[i];
    }
    parsed.values_[option->spec->name].push_back(option->value.value_or(""));
  }
  return parsed;
}

std::string DescribeOptions(const std::vector<OptionSpec>& specs) {
  constexpr size_t kHelpColumn = 30;
  constexpr size_t kColumns = 98;
  std::string text;
  for (const OptionSpec& spec : specs) {
    std::string line =
        spec.short_name == '\0' ? "      " : absl::StrFormat("  -%c, ", spec.short_name);
    absl::StrAppend(&line, "--", spec.name, spec.placeholder.empty() ? "" : " ", spec.placeholder);
    if (line.size() + 2 > kHelpColumn) {
      absl::StrAppend(&text, line, "\n");
      line.clear();
    }
    line.resize(std::max(line.size(), kHelpColumn), ' ');
    for (absl::string_view word : absl::StrSplit(spec.help, ' ')) {
      if (line.size() + 1 + word.size() > kColumns) {
        absl::StrAppend(&text, line, "\n");
        line.assign(kHelpColumn, ' ');
      }
      absl::StrAppend(&line, line.size() == kHelpColumn ? "" : " ", word);
    }
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace moelight::client
