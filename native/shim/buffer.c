#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Nothing can be done without memory, except to say so in the form that a runtime understands. */
static void out_of_memory(void) {
  static const char text[] = "{\"cniVersion\":\"1.1.0\",\"code\":11,\"msg\":\"out of memory\"}\n";
  write_all(STDOUT_FILENO, text, sizeof text - 1);
  _exit(1);
}

void append(struct buffer *to, const void *bytes, size_t length) {
  if (length == 0) return;
  if (to->capacity - to->length < length) {
    size_t capacity = to->capacity ? to->capacity : 16384;
    while (capacity - to->length < length) capacity *= 2;
    char *grown = realloc(to->bytes, capacity);
    if (!grown) out_of_memory();
    to->bytes = grown;
    to->capacity = capacity;
  }
  memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
}

void append_text(struct buffer *to, const char *text) { append(to, text, strlen(text)); }

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int wait_for(int fd, short events, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    struct pollfd item = {.fd = fd, .events = events};
    int ready = poll(&item, 1, left > 0 ? (int)left : 0);
    if (ready > 0) return 0;
    if (ready == 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    if (errno != EINTR) return -1;
  }
}

int read_all(int fd, struct buffer *to, size_t limit, int64_t deadline) {
  char chunk[65536];
  for (;;) {
    if (wait_for(fd, POLLIN, deadline)) return -1;
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return -1;
    }
    if (to->length + (size_t)got > limit) {
      errno = EFBIG;
      return -1;
    }
    append(to, chunk, (size_t)got);
  }
}

int write_all(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t put = write(fd, at, length);
    if (put < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    at += put;
    length -= (size_t)put;
  }
  return 0;
}
