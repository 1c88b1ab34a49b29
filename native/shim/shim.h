/* The executable that a container runtime starts under each plugin's name. It hands the call to the agent over a unix socket and prints the answer;
 * without an agent it becomes the standalone program. The frames are described in src/agent/cni/protocol.ts. */
#ifndef HEDDLE_SHIM_H
#define HEDDLE_SHIM_H

#include <stddef.h>
#include <stdint.h>

enum {
  PROTOCOL_VERSION = 1,
  MAX_STDIN = 10 << 20,
  MAX_REPLY = 16 << 20,
};

/* Codes of the CNI specification that the shim itself can answer. */
enum { CODE_IO = 5, CODE_DECODING = 6, CODE_TRY_AGAIN = 11 };

/* Bytes that grow. Never freed: the process is about to end. */
struct buffer {
  char *bytes;
  size_t length;
  size_t capacity;
};

void append(struct buffer *to, const void *bytes, size_t length);
void append_text(struct buffer *to, const char *text);
/* Reads until end of file, `limit` bytes or `deadline`. 0, or -1 with errno (EFBIG, ETIMEDOUT). */
int read_all(int fd, struct buffer *to, size_t limit, int64_t deadline);
int write_all(int fd, const void *bytes, size_t length);

/* Monotonic milliseconds. */
int64_t now_ms(void);
/* 0 when fd is ready for `events`, -1 with errno ETIMEDOUT at the deadline. */
int wait_for(int fd, short events, int64_t deadline);

enum outcome {
  ANSWERED,  /* the reply is in *reply, and was understood */
  NO_AGENT,  /* nobody listens, or the agent says that the call is not for it: nothing was done */
  BROKEN,    /* the agent went away in the middle: what it did is unknown */
  LATE,      /* no answer before the deadline */
};

struct reply {
  int exit_code;
  const char *out, *err;
  size_t out_length, err_length;
};

enum outcome ask_agent(const char *type, const struct buffer *input, int64_t deadline, struct reply *reply);

/* Becomes the standalone program; returns only when there is none. */
void run_standalone(const char *type, const struct buffer *input);

/* Becomes the DHCP daemon, `heddle dhcp daemon` with these flags; returns only when the program is not there. */
void run_daemon(int count, char **flags);

#endif
