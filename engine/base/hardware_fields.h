// The table of fields of a HardwareProfile: name in the YAML form, meaning, range. Validation, the
// reader, the writer and its legend all walk it, so a new field is one row here.
//
// A visitor has `template <typename T> void Field(const char* name, T& value, const HardwareField&
// field)`, where T is std::string, int32_t, int64_t, double, RateCurve, a section (a struct that
// VisitFields() takes) or a std::vector of sections.
#ifndef MOELIGHT_ENGINE_BASE_HARDWARE_FIELDS_H_
#define MOELIGHT_ENGINE_BASE_HARDWARE_FIELDS_H_

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "engine/base/hardware_profile.h"

namespace moelight {

enum class FieldNeed : uint8_t {
  kAlways,   // not empty; a number is positive
  kWithGpu,  // the same if the machine has a GPU
  kNever,
};

struct HardwareField {
  const char* doc;  // with the unit; empty: the fields within say it
  FieldNeed need = FieldNeed::kAlways;
  double min = 0;
  double max = 0;         // of numbers; of a curve: its rates
  bool in_bytes = false;  // a number of bytes, or a curve by bytes: may be written 16GiB
};

// Beyond anything that is built, so that a slip of the keyboard by a few zeros is found and sums of
// such figures stay finite.
inline constexpr double kMaxHardwareRate = 1e18;  // bytes or operations per second
inline constexpr double kMaxHardwareBytes = 1e15;
inline constexpr double kMaxHardwareMicros = 1e6;
inline constexpr double kMaxHardwareWatts = 1e5;
inline constexpr double kMaxHardwareSpread =
    1e9;  // a turn of a microsecond may be late by any time

// T or const T: the reader writes fields, the others only look at them.
template <typename MaybeConst, typename T>
concept Either = std::same_as<std::remove_const_t<MaybeConst>, T>;

template <Either<RateCurve::Point> Point, typename Visitor>
void VisitFields(Point& point, Visitor& visitor) {
  visitor.Field("size", point.size, {"", FieldNeed::kAlways, 0, kMaxHardwareBytes});
  visitor.Field("rate", point.rate, {"", FieldNeed::kAlways, 0, kMaxHardwareRate});
}

template <Either<ExpertRateCurve> Curve, typename Visitor>
void VisitFields(Curve& curve, Visitor& visitor) {
  constexpr FieldNeed kAlways = FieldNeed::kAlways;
  visitor.Field("hidden_size", curve.hidden_size, {"of the experts", kAlways, 1, 1 << 20});
  visitor.Field("intermediate_size", curve.intermediate_size,
                {"of the experts", kAlways, 1, 1 << 20});
  visitor.Field("flops_per_s", curve.flops_per_s,
                {"by tokens per expert", kAlways, 0, kMaxHardwareRate});
}

template <Either<HostAttentionRate> Rate, typename Visitor>
void VisitFields(Rate& rate, Visitor& visitor) {
  constexpr FieldNeed kAlways = FieldNeed::kAlways;
  visitor.Field("kv_format", rate.kv_format, {"of the KV cache: bf16, f16, int8", kAlways});
  visitor.Field("group_size", rate.group_size, {"query heads per KV head", kAlways, 1, 1024});
  visitor.Field("bytes_per_s", rate.bytes_per_s,
                {"K and V read by decode attention, by context", kAlways, 0, kMaxHardwareRate});
}

template <Either<HostProfile> Host, typename Visitor>
void VisitFields(Host& host, Visitor& visitor) {
  constexpr FieldNeed kAlways = FieldNeed::kAlways;
  constexpr FieldNeed kNever = FieldNeed::kNever;
  visitor.Field("name", host.name, {"processors", kAlways});
  visitor.Field("num_threads", host.num_threads,
                {"compute threads that the rates are for", kAlways, 1, 4096});
  visitor.Field("memory_bytes", host.memory_bytes,
                {"that an engine may take", kAlways, 1, kMaxHardwareBytes, true});
  visitor.Field("pinnable_bytes", host.pinnable_bytes,
                {"limit on locked memory; -1: none", kNever, -1, kMaxHardwareBytes, true});
  visitor.Field("read_bytes_per_s", host.read_bytes_per_s,
                {"memory read in order by all threads", kAlways, 0, kMaxHardwareRate});
  visitor.Field("read_bytes_per_s_by_threads", host.read_bytes_per_s_by_threads,
                {"the same, by number of threads", kNever, 0, kMaxHardwareRate});
  visitor.Field("shared_bytes_per_s", host.shared_bytes_per_s,
                {"memory read by kernels and copies together", kAlways, 0, kMaxHardwareRate});
  visitor.Field("peak_flops_per_s", host.peak_flops_per_s,
                {"widest multiply-adds, all threads", kAlways, 0, kMaxHardwareRate});
  visitor.Field("attention", host.attention, {""});
  visitor.Field("experts", host.experts, {""});
  visitor.Field(
      "sample_bytes_per_s", host.sample_bytes_per_s,
      {"logits looked through by the sampler on one thread", kAlways, 0, kMaxHardwareRate});
  visitor.Field("spread", host.spread,
                {"how far turns lie apart, of their median, at worst", FieldNeed::kNever, 0,
                 kMaxHardwareSpread});
}

template <Either<GpuProfile> Gpu, typename Visitor>
void VisitFields(Gpu& gpu, Visitor& visitor) {
  constexpr FieldNeed kWithGpu = FieldNeed::kWithGpu;
  visitor.Field("name", gpu.name, {"one GPU", kWithGpu});
  visitor.Field("count", gpu.count, {"GPUs, which are alike; 0: none", FieldNeed::kNever, 0, 64});
  visitor.Field("memory_bytes", gpu.memory_bytes,
                {"that an engine may take", kWithGpu, 0, kMaxHardwareBytes, true});
  visitor.Field("memory_bytes_per_s", gpu.memory_bytes_per_s,
                {"read by kernels", kWithGpu, 0, kMaxHardwareRate});
  visitor.Field("launch_us", gpu.launch_us,
                {"from the start of one small op to the next", kWithGpu, 0, kMaxHardwareMicros});
  visitor.Field("matmul_flops_per_s", gpu.matmul_flops_per_s,
                {"dense products, by rows", kWithGpu, 0, kMaxHardwareRate});
  visitor.Field("experts", gpu.experts, {"", kWithGpu});
  visitor.Field("attention_flops_per_s", gpu.attention_flops_per_s,
                {"of prompts", kWithGpu, 0, kMaxHardwareRate});
  visitor.Field("spread", gpu.spread,
                {"how far turns lie apart, of their median, at worst", FieldNeed::kNever, 0,
                 kMaxHardwareSpread});
}

template <Either<LinkProfile> Link, typename Visitor>
void VisitFields(Link& link, Visitor& visitor) {
  constexpr FieldNeed kWithGpu = FieldNeed::kWithGpu;
  visitor.Field("h2d_bytes_per_s", link.h2d_bytes_per_s,
                {"host to device, by bytes of one copy", kWithGpu, 0, kMaxHardwareRate, true});
  visitor.Field("d2h_bytes_per_s", link.d2h_bytes_per_s,
                {"device to host, by bytes of one copy", kWithGpu, 0, kMaxHardwareRate, true});
  visitor.Field("both_bytes_per_s", link.both_bytes_per_s,
                {"both directions at once, in sum", kWithGpu, 0, kMaxHardwareRate});
  visitor.Field("latency_us", link.latency_us,
                {"of a small copy", kWithGpu, 0, kMaxHardwareMicros});
  visitor.Field("spread", link.spread,
                {"how far turns lie apart, of their median, at worst", FieldNeed::kNever, 0,
                 kMaxHardwareSpread});
}

template <Either<PowerProfile> Power, typename Visitor>
void VisitFields(Power& power, Visitor& visitor) {
  constexpr FieldNeed kNever = FieldNeed::kNever;
  visitor.Field("idle_watts", power.idle_watts,
                {"the whole box with nothing to do", kNever, 0, kMaxHardwareWatts});
  visitor.Field("gpu_watts", power.gpu_watts,
                {"more while a GPU computes, each", kNever, 0, kMaxHardwareWatts});
  visitor.Field("cpu_watts", power.cpu_watts,
                {"more while the compute threads work", kNever, 0, kMaxHardwareWatts});
  visitor.Field("link_watts", power.link_watts,
                {"more while copies run, each link", kNever, 0, kMaxHardwareWatts});
}

template <Either<HardwareProfile> Profile, typename Visitor>
void VisitFields(Profile& profile, Visitor& visitor) {
  visitor.Field("name", profile.name, {"the machine", FieldNeed::kAlways});
  visitor.Field("source", profile.source, {"where the figures are from", FieldNeed::kAlways});
  visitor.Field("fingerprint", profile.fingerprint,
                {"of the machine that was probed; empty: none was", FieldNeed::kNever});
  visitor.Field("host", profile.host, {""});
  visitor.Field("gpu", profile.gpu, {""});
  visitor.Field("link", profile.link, {""});
  visitor.Field("power", profile.power, {""});
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_HARDWARE_FIELDS_H_
