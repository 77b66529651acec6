#include "engine/tokenizer/decoder.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace moelight {
namespace {

using nlohmann::json;

constexpr int64_t kMaxStrip = 64;  // characters, per end

// A step as configured. Two factories where it matters whether the text was fused before; an empty
// `on_text` means the type is only supported on tokens.
struct ConfiguredStep {
  DecoderStepFactory on_tokens;
  DecoderStepFactory on_text;
  bool fuses = false;  // the steps behind see one text
};

// A "Sequence" is flattened, hence a list.
using ConfiguredSteps = std::vector<ConfiguredStep>;

template <typename Step>
DecoderStepFactory MakeStep() {
  return [](DecoderStep* next) { return std::make_unique<Step>(next); };
}

absl::StatusOr<ConfiguredSteps> MakeByteLevel(const json&, const std::string&) {
  return ConfiguredSteps{{MakeStep<ByteLevelStep>(), nullptr, /*fuses=*/true}};
}

absl::StatusOr<ConfiguredSteps> MakeByteFallback(const json&, const std::string&) {
  return ConfiguredSteps{{MakeStep<ByteFallbackStep>(), nullptr}};
}

absl::StatusOr<ConfiguredSteps> MakeFuse(const json&, const std::string&) {
  return ConfiguredSteps{{MakeStep<PassStep>(), MakeStep<PassStep>(), /*fuses=*/true}};
}

absl::StatusOr<ConfiguredSteps> MakeReplace(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(TokenizerPattern pattern, TokenizerPattern::FromJson(config, section));
  ASSIGN_OR_RETURN(std::string content, StringField(config, section, "content", ""));
  const auto shared = std::make_shared<const TokenizerPattern>(std::move(pattern));
  return ConfiguredSteps{{[shared, content](DecoderStep* next) {
                            return std::make_unique<ReplaceStep>(shared, content, next);
                          },
                          nullptr}};
}

absl::StatusOr<ConfiguredSteps> MakeMetaspace(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(const std::string replacement, StringField(config, section, "replacement", "▁"));
  // Older files say add_prefix_space instead.
  ASSIGN_OR_RETURN(const bool prefix, BoolField(config, section, "add_prefix_space", true));
  ASSIGN_OR_RETURN(const std::string scheme,
                   StringField(config, section, "prepend_scheme", prefix ? "always" : "never"));
  if (replacement.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(section, ".replacement is empty"));
  }
  const bool drop_first = scheme != "never";
  return ConfiguredSteps{{[replacement, drop_first](DecoderStep* next) {
                            return std::make_unique<MetaspaceStep>(replacement, drop_first, next);
                          },
                          nullptr}};
}

absl::StatusOr<ConfiguredSteps> MakeStrip(const json& config, const std::string& section) {
  StripOptions options;
  ASSIGN_OR_RETURN(options.content, StringField(config, section, "content", ""));
  if (!IsOneCharacter(options.content)) {
    return absl::InvalidArgumentError(
        absl::StrCat(section, ".content \"", options.content, "\" is not one character"));
  }
  ASSIGN_OR_RETURN(const int64_t left, CountField(config, section, "start", kMaxStrip));
  ASSIGN_OR_RETURN(const int64_t right, CountField(config, section, "stop", kMaxStrip));
  options.left = static_cast<size_t>(left);
  options.right = static_cast<size_t>(right);
  return ConfiguredSteps{
      {[options](DecoderStep* next) { return std::make_unique<StripTokenStep>(options, next); },
       [options](DecoderStep* next) { return std::make_unique<StripTextStep>(options, next); }}};
}

absl::StatusOr<ConfiguredSteps> MakeSequence(const json& config, const std::string& section);

constexpr ComponentType<ConfiguredSteps> kTypes[] = {
    {"ByteLevel", MakeByteLevel}, {"Replace", MakeReplace}, {"ByteFallback", MakeByteFallback},
    {"Fuse", MakeFuse},           {"Strip", MakeStrip},     {"Metaspace", MakeMetaspace},
    {"Sequence", MakeSequence},
};

absl::StatusOr<ConfiguredSteps> MakeSequence(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(const auto lists, MakeComponents(kTypes, config, section, "decoders"));
  ConfiguredSteps steps;
  for (const ConfiguredSteps& list : lists) steps.insert(steps.end(), list.begin(), list.end());
  return steps;
}

// The end of the chain: collects the text.
class CollectStep : public DecoderStep {
 public:
  explicit CollectStep(std::string* out) : DecoderStep(nullptr), out_(out) {}
  void Push(absl::string_view text) override { out_->append(text.data(), text.size()); }
  void End() override {}

 private:
  std::string* const out_;
};

}  // namespace

void DecoderStream::Append(absl::string_view token, std::string* out) {
  steps_.front()->Push(token);
  out->append(buffer_);
  buffer_.clear();
}

void DecoderStream::Flush(std::string* out) {
  steps_.front()->End();
  out->append(buffer_);
  buffer_.clear();
}

absl::StatusOr<Decoder> Decoder::Create(const json& config) {
  Decoder decoder;
  if (config.is_null()) {
    decoder.factories_.push_back(MakeStep<SpaceStep>());
    return decoder;
  }
  ASSIGN_OR_RETURN(const ConfiguredSteps steps, MakeComponent(kTypes, config, "decoder"));
  bool fused = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    const DecoderStepFactory& factory = fused ? steps[i].on_text : steps[i].on_tokens;
    if (factory == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("decoder: step ", i,
                       " comes after the tokens were fused (by Fuse or ByteLevel), where "
                       "only Strip and Fuse are supported"));
    }
    decoder.factories_.push_back(factory);
    fused = fused || steps[i].fuses;
  }
  if (decoder.factories_.empty()) decoder.factories_.push_back(MakeStep<PassStep>());
  return decoder;
}

std::unique_ptr<DecoderStream> Decoder::NewStream() const {
  auto stream = std::make_unique<DecoderStream>();
  stream->text_ = std::make_unique<CollectStep>(&stream->buffer_);
  stream->steps_.resize(factories_.size());
  DecoderStep* next = stream->text_.get();
  for (size_t i = factories_.size(); i-- > 0;) {
    stream->steps_[i] = factories_[i](next);
    next = stream->steps_[i].get();
  }
  return stream;
}

}  // namespace moelight
