#include "engine/tokenizer/unicode_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>
#include <pcre2.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/unicode_regex_syntax.h"

namespace moelight {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
// Backtracking steps of one search. A class repeated over a text of n characters takes a few n, so
// this leaves room for tens of megabytes and still ends within a second.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;  // only the interpreter uses it

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

std::string Pcre2Message(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct UnicodeRegex::Impl {
  struct CodeDeleter {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  struct ContextDeleter {
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };

  // The number of captures plus one, or a negative PCRE2 code.
  int Search(absl::string_view text, size_t start, pcre2_match_data* data) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int found = pcre2_match(code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, data,
                                  context.get());
    if (found != PCRE2_ERROR_JIT_STACKLIMIT) return found;
    // The interpreter keeps its state on the heap, up to the limit set above.
    return pcre2_match(code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data, context.get());
  }

  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, ContextDeleter> context;
};

UnicodeRegex::UnicodeRegex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UnicodeRegex::~UnicodeRegex() = default;

absl::StatusOr<std::unique_ptr<UnicodeRegex>> UnicodeRegex::Compile(absl::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("regex has ", pattern.size(), " bytes, limit ", kMaxPatternBytes));
  }
  ASSIGN_OR_RETURN(const std::string translated, TranslateOnigurumaPattern(pattern));
  // Oniguruma's ^ and $ always match at lines.
  constexpr uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK;
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto impl = std::make_unique<Impl>();
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 kOptions, &error, &offset, nullptr));
  if (impl->code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regex \"", translated, "\" at offset ", offset, ": ", Pcre2Message(error)));
  }
  // Without JIT (a platform that lacks it) the interpreter gives the same matches.
  (void)pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE);
  impl->context.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(impl->context.get(), kMatchLimit);
  pcre2_set_heap_limit(impl->context.get(), kHeapLimitKib);
  return std::unique_ptr<UnicodeRegex>(new UnicodeRegex(std::move(impl)));
}

absl::Status UnicodeRegex::FindAll(absl::string_view text, std::vector<ByteSpan>* matches) const {
  std::string substituted;
  if (SubstituteForRegex(text, &substituted)) text = substituted;
  const MatchData data(pcre2_match_data_create(1, nullptr));
  size_t start = 0;
  size_t last_end = std::string::npos;  // of the last match
  while (start <= text.size()) {
    const int found = impl_->Search(text, start, data.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("regex search at byte ", start, ": ", Pcre2Message(found)));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    if (range[0] >= range[1] && range[1] == last_end) {
      start += start < text.size() ? Utf8Length(text[start]) : 1;
      continue;
    }
    if (range[0] > range[1]) {  // \K could do this, and Compile() refuses it
      return absl::InternalError("regex match ends before it begins");
    }
    matches->push_back({range[0], range[1]});
    start = last_end = range[1];
  }
  return absl::OkStatus();
}

}  // namespace moelight
