// ConnectionListener: accepts connections for gRPC, within limits, whatever happens to descriptors.
//
// gRPC 1.51's own listener stops for good when accept fails for want of descriptors
// (CVE-2023-4785), and has no limit of connections. This one has: in all and per peer, an address
// of IPv4 or a /64 of IPv6. What is beyond is closed at once. Without a free descriptor it gives up
// one that it holds in reserve, accepts, closes, and takes the reserve again.
//
// A connection counts until gRPC or the peer has shut it down, which is seen on a duplicate of its
// descriptor; so each costs two.
//
// Threads: one of its own. Start and Stop are called from one thread.
// Owns: the listening sockets, the duplicates. Errors: Unavailable when the address cannot be
// taken.
#ifndef MOELIGHT_SERVER_CONNECTION_LISTENER_H_
#define MOELIGHT_SERVER_CONNECTION_LISTENER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

struct addrinfo;

namespace moelight {

struct ConnectionLimits {
  int32_t total = 1000;    // server.limits.connections
  int32_t per_peer = 250;  // server.limits.connections_per_peer
};

// Why a connection was closed at once: values of connections_refused_total's label.
inline constexpr absl::string_view kRefusedTotal = "total";
inline constexpr absl::string_view kRefusedPerPeer = "per_peer";
inline constexpr absl::string_view kRefusedDescriptors = "descriptors";

struct ConnectionListenerOptions {
  std::string address;  // HOST:PORT; port 0 takes a free one
  ConnectionLimits limits;
  // Takes a connected, non-blocking socket. Called on the listener's thread.
  std::function<void(int fd)> on_connection;
  std::function<void(absl::string_view reason)> on_refused;
};

// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int Release();
  void Close();

 private:
  int fd_ = -1;
};

class ConnectionListener {
 public:
  // Takes the address; nothing is accepted before Start.
  static absl::StatusOr<std::unique_ptr<ConnectionListener>> Bind(
      ConnectionListenerOptions options);
  ~ConnectionListener();

  void Start();
  // Closes the listening sockets. Connections stay with gRPC. Idempotent.
  void Stop();

  int port() const { return port_; }
  int64_t num_connections() const { return num_connections_.load(std::memory_order_relaxed); }
  // Thread-safe; connections beyond new limits stay until they end.
  void SetLimits(const ConnectionLimits& limits);

 private:
  struct Connection {
    Descriptor duplicate;
    std::string peer;
  };

  explicit ConnectionListener(ConnectionListenerOptions options);
  absl::Status Open();
  absl::Status Listen(const addrinfo& address);
  void Run();
  void AcceptAll(int listener);
  // Whether another attempt to accept makes sense at once.
  bool OnAcceptError(int listener, int error);
  void Admit(int fd, const std::string& peer);
  void Forget(int duplicate);

  const ConnectionListenerOptions options_;
  std::atomic<int32_t> max_total_;
  std::atomic<int32_t> max_per_peer_;
  std::vector<Descriptor> listeners_;
  Descriptor epoll_;
  Descriptor wake_;     // an eventfd, to end Run
  Descriptor reserve_;  // given up to accept and close when no other descriptor is free
  int port_ = 0;
  std::atomic<int64_t> num_connections_ = 0;
  absl::flat_hash_map<int, Connection> connections_;  // by duplicate; the thread's
  absl::flat_hash_map<std::string, int32_t> num_of_peer_;
  std::thread thread_;
};

// Raises this process's soft limit of open files to the hard one, and tells what it is then.
int64_t RaiseDescriptorLimit();

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONNECTION_LISTENER_H_
