#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef HEDDLE_VERSION
#define HEDDLE_VERSION "unknown"
#endif

/* By this text the agent recognises a shim in CNI_PATH (src/cni/runtime/find.ts). */
static const char marker[] = "heddle-cni-shim-marker:5f1c0c1e";

#define VERSIONS "\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

/* Seconds that an answer may take, by verb. */
static int patience(const char *verb) {
  const char *chosen = getenv("HEDDLE_CNI_TIMEOUT");
  if (chosen && atoi(chosen) > 0) return atoi(chosen);
  if (strcmp(verb, "VERSION") == 0) return 3;
  if (strcmp(verb, "STATUS") == 0) return 10;
  if (strcmp(verb, "CHECK") == 0) return 30;
  return strcmp(verb, "GC") == 0 ? 120 : 60;
}

/* One error document on stdout. The texts are constants without characters that JSON would have to escape. */
static int fail(int code, const char *msg, const char *details) {
  char number[3] = {(char)('0' + code / 10), (char)('0' + code % 10), 0};
  struct buffer out = {0};
  append_text(&out, "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": ");
  append_text(&out, code < 10 ? number + 1 : number);
  append_text(&out, ",\n    \"msg\": \"");
  append_text(&out, msg);
  append_text(&out, "\",\n    \"details\": \"");
  append_text(&out, details);
  append_text(&out, "\"\n}\n");
  write_all(STDOUT_FILENO, out.bytes, out.length);
  return 1;
}

static int introduce(const char *type) {
  struct buffer out = {0};
  append_text(&out, "CNI plugin ");
  append_text(&out, type);
  append_text(&out, " (Heddle " HEDDLE_VERSION ")\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n");
  write_all(STDERR_FILENO, out.bytes, out.length);
  return 0;
}

static int without_agent(const char *verb, const char *type, const struct buffer *input) {
  run_standalone(type, input);
  /* A runtime may ask before anything is running or installed; every plugin of ours speaks these. */
  if (strcmp(verb, "VERSION") == 0) {
    const char text[] = "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" VERSIONS "]}\n";
    return write_all(STDOUT_FILENO, text, sizeof text - 1) ? 1 : 0;
  }
  return fail(CODE_TRY_AGAIN, "the Heddle agent is not running and the standalone program is not installed",
              "start the agent (its socket is /run/heddle/cni.sock, or HEDDLE_SOCKET), or install lib/cni.mjs and bin/node beside "
              "the directory of the plugins or in /usr/lib/heddle");
}

static int read_failure(void) {
  if (errno == EFBIG) return fail(CODE_DECODING, "the network configuration on stdin is larger than 10 MiB", "a configuration has a few kilobytes");
  if (errno == ETIMEDOUT) return fail(CODE_IO, "stdin was not closed in time", "a runtime writes the network configuration and closes stdin");
  return fail(CODE_IO, "stdin cannot be read", "a runtime gives the network configuration on stdin");
}

int main(int count, char **arguments) {
  signal(SIGPIPE, SIG_IGN);
  __asm__ volatile("" : : "r"(marker)); /* keeps the linker from dropping it */
  const char *name = count > 0 ? arguments[0] : "";
  const char *slash = strrchr(name, '/');
  const char *type = slash ? slash + 1 : name;
  /* The reference's executable is its own daemon, and units of systemd start it so. */
  if (strcmp(type, "dhcp") == 0 && count > 1 && strcmp(arguments[1], "daemon") == 0) {
    run_daemon(count - 2, arguments + 2);
    const char text[] = "dhcp daemon: lib/heddle.mjs and bin/node are neither beside the directory of the plugins nor in /usr/lib/heddle\n";
    write_all(STDERR_FILENO, text, sizeof text - 1);
    return 1;
  }
  const char *verb = getenv("CNI_COMMAND");
  if (!verb || !*verb) return introduce(type);

  int64_t deadline = now_ms() + (int64_t)patience(verb) * 1000;
  struct buffer input = {0};
  if (strcmp(verb, "VERSION") != 0 && read_all(STDIN_FILENO, &input, MAX_STDIN, deadline)) return read_failure();

  struct reply reply;
  switch (ask_agent(type, &input, deadline, &reply)) {
    case ANSWERED:
      write_all(STDERR_FILENO, reply.err, reply.err_length);
      if (write_all(STDOUT_FILENO, reply.out, reply.out_length)) return 1;
      return reply.exit_code;
    case NO_AGENT:
      return without_agent(verb, type, &input);
    case LATE:
      return fail(CODE_TRY_AGAIN, "the Heddle agent did not answer in time", "the runtime will try again; see the agent's log");
    case BROKEN:
      break;
  }
  /* What the agent had done of an ADD is unknown; the runtime's DEL cleans it up. The other verbs may be done twice. */
  if (strcmp(verb, "ADD") == 0)
    return fail(CODE_TRY_AGAIN, "the Heddle agent went away during ADD", "the runtime will call DEL and try again");
  return without_agent(verb, type, &input);
}
