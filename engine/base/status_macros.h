// RETURN_IF_ERROR and ASSIGN_OR_RETURN: early return for absl::Status and absl::StatusOr<T>.
#ifndef MOELIGHT_ENGINE_BASE_STATUS_MACROS_H_
#define MOELIGHT_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#define MOELIGHT_CONCAT_INNER_(x, y) x##y
#define MOELIGHT_CONCAT_(x, y) MOELIGHT_CONCAT_INNER_(x, y)

#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  MOELIGHT_ASSIGN_OR_RETURN_IMPL_(MOELIGHT_CONCAT_(status_or_, __LINE__), lhs, expr)

#define MOELIGHT_ASSIGN_OR_RETURN_IMPL_(status_or, lhs, expr) \
  auto status_or = (expr);                                    \
  if (!status_or.ok()) return status_or.status();             \
  lhs = *std::move(status_or)

#endif  // MOELIGHT_ENGINE_BASE_STATUS_MACROS_H_
