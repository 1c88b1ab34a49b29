#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;

static const char *const passed_on[] = {"CNI_", "TRACEPARENT=", "TRACESTATE=", "BAGGAGE="};

static void decimal(struct buffer *to, unsigned long long value) {
  char digits[24];
  char *at = digits + sizeof digits;
  do {
    *--at = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  append(to, at, (size_t)(digits + sizeof digits - at));
}

/* `KEY=device:inode` of what the path leads to from here, if it leads anywhere. */
static void identity(struct buffer *to, const char *key, const char *path) {
  struct stat found;
  if (stat(path, &found)) return;
  append_text(to, key);
  decimal(to, (unsigned long long)found.st_dev);
  append_text(to, ":");
  decimal(to, (unsigned long long)found.st_ino);
  append(to, "", 1);
}

/* Strings `KEY=VALUE`, each with its NUL, and an empty one behind them. The HEDDLE_ ones say who calls, so that the agent can tell whether it
 * stands in the same network namespace and finds the same container, and what relative paths and /proc/self mean. */
static void append_environment(struct buffer *frame, const char *type) {
  for (char **item = environ; *item; item++) {
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
      if (strncmp(*item, passed_on[i], strlen(passed_on[i])) == 0) append(frame, *item, strlen(*item) + 1);
    }
  }
  append_text(frame, "HEDDLE_TYPE=");
  append(frame, type, strlen(type) + 1);
  append_text(frame, "HEDDLE_PID=");
  decimal(frame, (unsigned long long)getpid());
  append(frame, "", 1);
  char directory[PATH_MAX];
  if (getcwd(directory, sizeof directory)) {
    append_text(frame, "HEDDLE_CWD=");
    append(frame, directory, strlen(directory) + 1);
  }
  identity(frame, "HEDDLE_NETNS=", "/proc/self/ns/net");
  const char *target = getenv("CNI_NETNS");
  if (target && *target) identity(frame, "HEDDLE_TARGET=", target);
  append(frame, "", 1);
}

/* A connected socket, or -1 with errno. On a unix socket SO_SNDTIMEO bounds the wait for a place in the backlog, too. */
static int connect_agent(int64_t deadline) {
  const char *path = getenv("HEDDLE_SOCKET");
  if (!path || !*path) path = "/run/heddle/cni.sock";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int64_t left = deadline - now_ms();
  struct timeval limit = {.tv_sec = left > 1000 ? left / 1000 : 1};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  int result;
  do result = connect(fd, (struct sockaddr *)&address, sizeof address);
  while (result < 0 && errno == EINTR);
  if (result == 0) return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

static int send_all(int fd, const struct buffer *from) {
  size_t sent = 0;
  while (sent < from->length) {
    ssize_t put = send(fd, from->bytes + sent, from->length - sent, MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    sent += (size_t)put;
  }
  return 0;
}

static uint32_t be32(const char *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return ntohl(value);
}

/* version, kind, exit code, length of stderr, stderr, stdout */
static enum outcome understand(const struct buffer *frame, struct reply *reply) {
  enum { HEAD = 4 + 1 + 1 + 1 + 4 };
  if (frame->length < HEAD || be32(frame->bytes) != frame->length - 4) return BROKEN;
  if (frame->bytes[4] != PROTOCOL_VERSION) return BROKEN;
  if (frame->bytes[5] != 0) return NO_AGENT;
  uint32_t err_length = be32(frame->bytes + 7);
  if (err_length > frame->length - HEAD) return BROKEN;
  reply->exit_code = (unsigned char)frame->bytes[6];
  reply->err = frame->bytes + HEAD;
  reply->err_length = err_length;
  reply->out = reply->err + err_length;
  reply->out_length = frame->length - HEAD - err_length;
  return ANSWERED;
}

enum outcome ask_agent(const char *type, const struct buffer *input, int64_t deadline, struct reply *reply) {
  /* The frame is ready before the agent hears of it, and lies there when it looks. */
  struct buffer frame = {0};
  const char head[5] = {0, 0, 0, 0, PROTOCOL_VERSION};
  append(&frame, head, sizeof head);
  append_environment(&frame, type);
  append(&frame, input->bytes, input->length);
  uint32_t length = htonl((uint32_t)(frame.length - 4));
  memcpy(frame.bytes, &length, sizeof length);
  int fd = connect_agent(deadline);
  if (fd < 0) return errno == EAGAIN ? LATE : NO_AGENT;
  /* An agent that refuses a call may answer before it has read it all. */
  if (send_all(fd, &frame) && errno == EAGAIN) return LATE;
  struct buffer answer = {0};
  if (read_all(fd, &answer, MAX_REPLY, deadline)) return errno == ETIMEDOUT ? LATE : BROKEN;
  close(fd);
  return understand(&answer, reply);
}
