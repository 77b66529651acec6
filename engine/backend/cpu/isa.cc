#include "engine/backend/cpu/isa.h"

#include <unistd.h>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <sys/syscall.h>

namespace moelight {
namespace {

// The builtin asks both the CPU and, for the state of the wide registers, the operating system.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasAvx512Bf16() {
  return HasAvx512() && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vnni");
}
bool HasAmxBf16() {
  if (!HasAvx512Bf16() || !__builtin_cpu_supports("amx-tile") ||
      !__builtin_cpu_supports("amx-bf16")) {
    return false;
  }
  // Linux keeps the 8 KiB of tile data for processes that ask, once for all their threads.
  constexpr int kReqXcompPerm = 0x1023;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kReqXcompPerm, kTileData) == 0;
}

}  // namespace

absl::Span<const CpuIsa> CpuIsas() {
  static constexpr CpuIsa kIsas[] = {
      {"avx2", "AVX2, FMA and F16C", HasAvx2, &kAvx2Kernels},
      {"avx512", "AVX-512 F, BW, DQ and VL", HasAvx512, &kAvx512Kernels},
      {"avx512_bf16", "AVX-512 F, BW, DQ, VL, VNNI and BF16", HasAvx512Bf16, &kAvx512Bf16Kernels},
      {"amx_bf16", "AMX tiles with BF16, AVX-512 F, BW, DQ, VL, VNNI and BF16", HasAmxBf16,
       &kAmxBf16Kernels},
  };
  return kIsas;
}

absl::StatusOr<const CpuIsa*> ChooseCpuIsa(absl::string_view name) {
  const absl::Span<const CpuIsa> isas = CpuIsas();
  if (name.empty()) {
    for (auto isa = isas.rbegin(); isa != isas.rend(); ++isa) {
      if (isa->supported()) return &*isa;
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the cpu backend needs at least ", isas.front().needs, ", which this machine lacks"));
  }
  const auto append_name = [](std::string* out, const CpuIsa& isa) {
    absl::StrAppend(out, isa.name, isa.supported() ? "" : " (not here)");
  };
  for (const CpuIsa& isa : isas) {
    if (isa.name != name) continue;
    if (isa.supported()) return &isa;
    return absl::InvalidArgumentError(absl::StrCat("isa \"", name, "\" needs ", isa.needs,
                                                   ", which this machine lacks; there are ",
                                                   absl::StrJoin(isas, ", ", append_name)));
  }
  return absl::InvalidArgumentError(absl::StrCat("isa \"", name, "\" is unknown; there are ",
                                                 absl::StrJoin(isas, ", ", append_name)));
}

}  // namespace moelight
