#include "tests/e2e/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

// A port that was free a moment ago.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  socklen_t size = sizeof(address);
  CHECK_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

pid_t Spawn(const std::vector<std::string>& arguments, int output_fd) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  CHECK_GE(pid, 0);
  if (pid == 0) {
    dup2(output_fd, STDOUT_FILENO);
    dup2(output_fd, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  return pid;
}

}  // namespace

DaemonProcess::DaemonProcess(std::vector<std::string> settings) : settings_(std::move(settings)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "moelight-e2e-XXXXXX").string();
  CHECK(mkdtemp(pattern.data()) != nullptr);
  folder_ = pattern;
  address_ = absl::StrCat("127.0.0.1:", FreePort());
  admin_address_ = absl::StrCat("127.0.0.1:", FreePort());
}

DaemonProcess::~DaemonProcess() {
  if (pid_ > 0) Stop(SIGKILL);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

double DaemonProcess::Start() {
  CHECK_EQ(pid_, -1);
  std::vector<std::string> arguments = {absl::StrCat(MOELIGHT_BIN_DIR, "/moelightd"), "serve",
                                        "--config",
                                        absl::StrCat(MOELIGHT_SOURCE_DIR, "/config.yaml")};
  for (const std::string& setting :
       {absl::StrCat("server.listen=", address_),
        absl::StrCat("server.admin_listen=", admin_address_),
        absl::StrCat("store.path=", folder_, "/store"), std::string("metrics.listen=127.0.0.1:0"),
        std::string("engine.host_memory=1GiB")}) {
    arguments.insert(arguments.end(), {"--set", setting});
  }
  for (const std::string& setting : settings_) {
    arguments.insert(arguments.end(), {"--set", setting});
  }
  const int log = open(absl::StrCat(folder_, "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const auto begin = std::chrono::steady_clock::now();
  pid_ = Spawn(arguments, log);
  close(log);

  client::ClientOptions options;
  options.server = address_;
  options.admin_server = admin_address_;
  options.retry.first_contact_budget = absl::Seconds(60);
  options.retry.initial_backoff = absl::Milliseconds(5);
  options.retry.max_backoff = absl::Milliseconds(20);
  const auto info = (*client::Client::Create(options))->ServerInfo();
  CHECK(info.ok()) << info.status() << "; log in " << folder_;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int DaemonProcess::Stop(int signal) {
  CHECK_GT(pid_, 0);
  kill(pid_, signal);
  int status = 0;
  CHECK_EQ(waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  return status;
}

std::unique_ptr<client::Client> DaemonProcess::Connect() const {
  client::ClientOptions options;
  options.server = address_;
  options.admin_server = admin_address_;
  options.retry.first_contact_budget = absl::Seconds(60);
  return *client::Client::Create(options);
}

CommandResult RunCommand(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = arguments;
  command[0] = absl::StrCat(MOELIGHT_BIN_DIR, "/", command[0]);
  int pipe_fds[2];
  CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const pid_t pid = Spawn(command, pipe_fds[1]);
  close(pipe_fds[1]);
  CommandResult result;
  char buffer[4096];
  for (ssize_t n; (n = read(pipe_fds[0], buffer, sizeof(buffer))) > 0;) {
    result.output.append(buffer, n);
  }
  close(pipe_fds[0]);
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace moelight
