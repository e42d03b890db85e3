// Preloaded into Debian's adbd, which has no Android around it. Gives it
//   * properties from files (its own libbase keeps them in an empty map of the process),
//   * a listening address: it knows only "any address", and opens an AF_VSOCK port that no network namespace confines,
//   * the socket over which Android asks "Allow USB debugging?".
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace {

constexpr const char* kRuntimeProperties = "/data/property/runtime.prop";
constexpr const char* kBuildProperties = "/system/build.prop";

// The last line of a file that sets the key wins, as with setprop.
bool ReadProperty(const char* path, const std::string& key, std::string* value) {
  std::ifstream file(path);
  const std::string prefix = key + "=";
  bool found = false;
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, prefix.size(), prefix) == 0) {
      *value = line.substr(prefix.size());
      found = true;
    }
  }
  return found;
}

// The preload is for adbd alone, not for the programs that it starts.
__attribute__((constructor)) void HidePreload() { unsetenv("LD_PRELOAD"); }

}  // namespace

namespace android {
namespace base {

std::string GetProperty(const std::string& key, const std::string& default_value) {
  std::string value;
  if (ReadProperty(kRuntimeProperties, key, &value) || ReadProperty(kBuildProperties, key, &value)) {
    return value.empty() ? default_value : value;
  }
  return default_value;
}

bool SetProperty(const std::string& key, const std::string& value) {
  std::ofstream file(kRuntimeProperties, std::ios::app);
  file << key << '=' << value << '\n';
  return file.good();
}

}  // namespace base
}  // namespace android

extern "C" int bind(int fd, const struct sockaddr* address, socklen_t length) {
  using Bind = int (*)(int, const struct sockaddr*, socklen_t);
  static const Bind real_bind = reinterpret_cast<Bind>(dlsym(RTLD_NEXT, "bind"));
  const char* wanted = getenv("ADBD_BIND");
  if (wanted == nullptr) wanted = "127.0.0.1";
  if (address->sa_family == AF_VSOCK) {
    errno = EAFNOSUPPORT;
    return -1;
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 confined = *reinterpret_cast<const sockaddr_in6*>(address);
    if (IN6_IS_ADDR_UNSPECIFIED(&confined.sin6_addr)) {
      inet_pton(AF_INET6, (std::string("::ffff:") + wanted).c_str(), &confined.sin6_addr);
    }
    return real_bind(fd, reinterpret_cast<sockaddr*>(&confined), sizeof confined);
  }
  if (address->sa_family == AF_INET) {
    sockaddr_in confined = *reinterpret_cast<const sockaddr_in*>(address);
    if (confined.sin_addr.s_addr == INADDR_ANY) inet_pton(AF_INET, wanted, &confined.sin_addr);
    return real_bind(fd, reinterpret_cast<sockaddr*>(&confined), sizeof confined);
  }
  return real_bind(fd, address, length);
}

// A SEQPACKET socket in a folder that the host sees: adbd sends "PK<key>", the answer is "OK" or "NO".
extern "C" int android_get_control_socket(const char* name) {
  static int fd = -1;
  if (fd >= 0) return fd;
  fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/run/state/%s.sock", name);
  unlink(address.sun_path);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    fd = -1;
  }
  return fd;
}
