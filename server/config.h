// Config: everything config.yaml says, checked; and how it is read.
//
// Sources, later ones win: the defaults here, the file, the environment (MOELIGHT__SERVER__LISTEN
// for server.listen: dots become double underscores, letters upper case), --set key=value.
// The keys themselves are the table in config_keys.cc.
//
// Threads: plain values and pure functions; the environment is passed in, not read.
// Errors: InvalidArgument with one line per mistake, "config.yaml:LINE: key.path: reason".
#ifndef MOELIGHT_SERVER_CONFIG_H_
#define MOELIGHT_SERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/base/logger.h"
#include "engine/engine.h"
#include "server/job_store.h"

namespace moelight {

struct TlsOptions {
  std::string cert;       // PEM file, chain of the server
  std::string key;        // PEM file
  std::string client_ca;  // PEM file; set: clients must show a certificate signed by it
};

// Limits of the RPC layer. The store's own stand in JobStoreLimits.
struct RpcLimits {
  int64_t message_bytes = 4 << 20;     // one request message
  int64_t memory_bytes = 256 << 20;    // of gRPC's own buffers, all connections
  int32_t connections = 1000;          // at once, of each listener
  int32_t connections_per_peer = 250;  // of those, from one address
  int32_t concurrent_streams = 100;    // calls per connection
  int64_t stream_buffer = 4 << 20;     // unsent output of one Generate call, output of a ModelInfer
  int32_t infer_rows = 64;             // prompts of one ModelInfer call
  int64_t append_buffer = 24 << 20;    // rows received and not yet on disk, all calls
  int32_t append_messages = 4;         // the same, in messages of one call
  int64_t results_message = 512 << 10;  // one message of ReadBatchResults
  int32_t rows_in_flight = 0;           // rows of jobs in the engine; 0: see RowsInFlight()
};

struct Config {
  std::string listen = "127.0.0.1:50051";
  std::string admin_listen = "127.0.0.1:50052";  // empty: no AdminService
  std::string tenants_file;                      // see tenants.h; empty: nobody is asked
  bool allow_insecure = false;  // listen on other addresses than loopback without TLS
  TlsOptions tls;
  RpcLimits rpc_limits;
  std::string client_weights;  // as ClientWeights::Parse() reads it

  std::string store_path = "moelight-data";
  int64_t store_retention_seconds = 7 * 24 * 3600;
  JobStoreLimits store_limits;

  std::string metrics_listen = "127.0.0.1:9464";  // empty: no metrics are served

  EngineOptions engine;
  std::string hardware_profile;  // file; empty: see hardware_cache.h
  // Read so that what it cannot be is refused with the reason; the engine has no choice here yet.
  std::string weight_format = "auto";

  std::string log_level = "info";
  std::string log_format = "text";
};

// server.limits.rows_in_flight, or its default: a full batch of `max_running_sequences` and half of
// the engine's queue, so that the engine never runs dry and interactive requests always find room.
int64_t RowsInFlight(const Config& config, int64_t max_running_sequences);

// Descriptors that the daemon may need: two for each connection of each listener, and its own.
int64_t DescriptorsNeeded(const Config& config);

struct ConfigSources {
  std::string file;                                              // config.yaml
  std::vector<std::pair<std::string, std::string>> environment;  // name, value; others are ignored
  std::vector<std::string> overrides;                            // "key.path=value"
};

// Reads and checks everything. Relative paths in the file are relative to the file's folder, those
// from the environment and --set to the working directory; the result has them resolved.
absl::StatusOr<Config> LoadConfig(const ConfigSources& sources);

// All keys with the values in force, as YAML that LoadConfig accepts.
std::string EffectiveConfigYaml(const Config& config);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONFIG_H_
