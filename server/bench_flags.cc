#include "server/bench_flags.h"

#include <algorithm>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include "engine/base/status_macros.h"
#include "server/config_values.h"

namespace moelight {
namespace {

// Stores the text of a flag's value where it belongs; one overload for each kind.
class Setter {
 public:
  Setter(const BenchFlag& flag, const std::string& text) : flag_(flag), text_(text) {}

  absl::Status operator()(bool*) const {
    return absl::InvalidArgumentError(absl::StrCat(flag_.name, " takes no value"));
  }
  absl::Status operator()(std::string* value) const {
    *value = text_;
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string>* values) const {
    values->push_back(text_);
    return absl::OkStatus();
  }
  absl::Status operator()(int64_t* value) const {
    if (ParseNumber(text_, value)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        flag_.name, ": \"", text_, "\" is not a number of ", flag_.min, " to ", flag_.max));
  }
  absl::Status operator()(BenchSize* size) const {
    const absl::StatusOr<int64_t> bytes = ParseSize(text_);
    if (bytes.ok() && *bytes >= flag_.min && *bytes <= flag_.max) {
      size->bytes = *bytes;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(flag_.name, ": \"", text_,
                                                   "\" is not a size of ", FormatSize(flag_.min),
                                                   " to ", FormatSize(flag_.max)));
  }
  absl::Status operator()(BenchNumbers* numbers) const {
    std::vector<int64_t> values;
    bool is_good = true;
    for (absl::string_view part : absl::StrSplit(text_, numbers->separator)) {
      values.push_back(0);
      is_good = is_good && ParseNumber(part, &values.back());
    }
    if (is_good && (numbers->count == 0 || values.size() == numbers->count)) {
      numbers->values = std::move(values);
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        flag_.name, ": \"", text_, "\" is not ",
        numbers->count == 0 ? "a list of" : absl::StrCat(numbers->count), " numbers of ", flag_.min,
        " to ", flag_.max, " with \"", std::string(1, numbers->separator), "\" between"));
  }

 private:
  bool ParseNumber(absl::string_view text, int64_t* value) const {
    return absl::SimpleAtoi(text, value) && *value >= flag_.min && *value <= flag_.max;
  }

  const BenchFlag& flag_;
  const std::string& text_;
};

}  // namespace

absl::Status ParseBenchFlags(absl::string_view command, absl::Span<const std::string> args,
                             absl::Span<const BenchFlag> flags) {
  for (size_t i = 0; i < args.size(); ++i) {
    const size_t equals = args[i].find('=');
    const bool has_value = equals != std::string::npos;
    const std::string name = args[i].substr(0, equals);
    const auto flag = std::find_if(flags.begin(), flags.end(),
                                   [&name](const BenchFlag& row) { return row.name == name; });
    if (flag == flags.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown argument \"", name, "\" of ", command));
    }
    if (bool* const* is_set = std::get_if<bool*>(&flag->value); is_set != nullptr && !has_value) {
      **is_set = true;
      continue;
    }
    if (!has_value && i + 1 == args.size()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
    }
    const std::string text = has_value ? args[i].substr(equals + 1) : args[++i];
    RETURN_IF_ERROR(std::visit(Setter(*flag, text), flag->value));
  }
  return absl::OkStatus();
}

}  // namespace moelight
