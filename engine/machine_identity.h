// What machine this is: names and limits that the system tells, and a hash of what a profile of it
// depends on. Nothing is measured.
//
// Threads: any; UsableCpus() is about the caller, whom a ParallelRunner may have bound. Errors:
// what the system does not tell is left empty or 0.
#ifndef MOELIGHT_ENGINE_MACHINE_IDENTITY_H_
#define MOELIGHT_ENGINE_MACHINE_IDENTITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/strings/string_view.h>

namespace moelight {

std::string CpuModelName();      // "AMD EPYC 9655"; empty: unknown
int UsableCpus();                // that the calling thread may run on
int64_t PhysicalMemoryBytes();   // of the whole machine, free or not
std::string GpuDriverVersion();  // as the kernel's module tells it; empty: none is loaded
std::string UtcDate();           // "2026-11-22"

// Bytes that this process may lock in memory; -1: no limit, because none is set or because
// CAP_IPC_LOCK goes beyond it.
int64_t PinnableBytes();

// 16 hex digits: 64 bits of FNV-1a over `facts` in their order. Not against forgery, only to notice
// change.
std::string HashFacts(const std::vector<std::string>& facts);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MACHINE_IDENTITY_H_
