// CHECK, CHECK_EQ/NE/LT/LE/GT/GE and DCHECK: for bugs in our own code, never for user input.
//
// A failed check prints the condition, the values and the streamed message, then aborts. Debian's
// Abseil (20220623) has no absl/log, hence this small set with its semantics.
#ifndef MOELIGHT_ENGINE_BASE_CHECK_H_
#define MOELIGHT_ENGINE_BASE_CHECK_H_

#include <sstream>

namespace moelight::internal {

// Collects the message and aborts at the end of the full expression.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives both arms of the conditional below the type void.
struct Voidify {
  void operator&(std::ostream&) {}
};

}  // namespace moelight::internal

#define CHECK(condition)                          \
  (condition) ? (void)0                           \
              : ::moelight::internal::Voidify() & \
                    ::moelight::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define MOELIGHT_CHECK_OP_(a, op, b) CHECK((a)op(b)) << "(" << (a) << " " #op " " << (b) << ") "
#define CHECK_EQ(a, b) MOELIGHT_CHECK_OP_(a, ==, b)
#define CHECK_NE(a, b) MOELIGHT_CHECK_OP_(a, !=, b)
#define CHECK_LT(a, b) MOELIGHT_CHECK_OP_(a, <, b)
#define CHECK_LE(a, b) MOELIGHT_CHECK_OP_(a, <=, b)
#define CHECK_GT(a, b) MOELIGHT_CHECK_OP_(a, >, b)
#define CHECK_GE(a, b) MOELIGHT_CHECK_OP_(a, >=, b)

#if !defined(NDEBUG) || defined(MOELIGHT_ASSERTIONS)
#define DCHECK(condition) CHECK(condition)
#else
#define DCHECK(condition) CHECK(true || (condition))
#endif

#endif  // MOELIGHT_ENGINE_BASE_CHECK_H_
