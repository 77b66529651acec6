// Dispatcher: moves rows of runnable jobs from the JobStore into the Engine and their results back.
//
// It keeps at most `max_rows_in_flight` rows in the engine, so the daemon's memory does not grow
// with the queue, and fetches ahead so that the engine never waits for the disk. A row is marked in
// flight, durably, before the engine sees it. Rows that were in flight at a crash are suspects and
// run apart from others: at most 32 together after one crash, alone after two. So at the third
// crash, when the store quarantines, only the guilty row was in flight.
//
// Threads: one thread of its own; store and engine callbacks only post to it. Start and destruction
// from main, Drain and num_rows_in_flight from any thread.
// Owns: the sinks of rows in flight. Borrows store, engine and logger.
// Errors: a row that the engine refuses or fails gets a failed result; the job goes on.
#ifndef MOELIGHT_SERVER_DISPATCHER_H_
#define MOELIGHT_SERVER_DISPATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/base/logger.h"
#include "engine/engine.h"
#include "server/client_weights.h"
#include "server/job_store.h"

namespace moelight {

struct DispatcherOptions {
  int64_t max_rows_in_flight = 1024;  // in the engine, waiting or running
  ClientWeights client_weights = {};
};

class Dispatcher {
 public:
  // Borrows all three; they must outlive it.
  static std::unique_ptr<Dispatcher> Start(const DispatcherOptions& options, JobStore& store,
                                           Engine& engine, Logger& logger);
  // Stops taking rows, cancels those in the engine without recording them (they run again after the
  // next start), waits up to 4 s for the engine to let go of them. Sinks that it still holds then
  // stay valid until their OnFinish.
  virtual ~Dispatcher() = default;

  virtual int64_t num_rows_in_flight() const = 0;  // thread-safe
  // Lets rows in the engine finish and takes no new ones; `drained` is called on the dispatcher's
  // thread when none is left and all results are on disk.
  virtual void Drain(std::function<void()> drained) = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_DISPATCHER_H_
