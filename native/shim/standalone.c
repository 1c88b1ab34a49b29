#define _GNU_SOURCE
#include "shim.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

#define INSTALLED "/usr/lib/heddle"

static int join_path(char *to, const char *directory, const char *name) {
  size_t a = strlen(directory), b = strlen(name);
  if (a + b >= PATH_MAX) return -1;
  memcpy(to, directory, a);
  memcpy(to + a, name, b + 1);
  return 0;
}

/* The directory above the one that this executable lies in: dist/ of a build, /opt/cni of an installation. */
static int own_prefix(char *to) {
  ssize_t length = readlink("/proc/self/exe", to, PATH_MAX - 1);
  if (length <= 0) return -1;
  to[length] = 0;
  for (int i = 0; i < 2; i++) {
    char *slash = strrchr(to, '/');
    if (!slash) return -1;
    *slash = 0;
  }
  return 0;
}

/* `name` under one of the two prefixes, if it is there. */
static const char *find(char *to, const char *prefix, const char *name, int mode) {
  if (prefix && join_path(to, prefix, name) == 0 && access(to, mode) == 0) return to;
  if (join_path(to, INSTALLED, name) == 0 && access(to, mode) == 0) return to;
  return NULL;
}

/* stdin was read already; the next program gets it again. */
static int restore_stdin(const struct buffer *input) {
  int fd = memfd_create("cni-stdin", 0);
  if (fd < 0 || write_all(fd, input->bytes, input->length) || lseek(fd, 0, SEEK_SET) < 0) return -1;
  return dup2(fd, STDIN_FILENO) < 0 ? -1 : 0;
}

/* Node.js keeps compiled code beside the program, which saves about a third of what its start costs. Whoever may write there owns the program anyway. */
static void keep_compiled(const char *program) {
  char folder[PATH_MAX];
  if (join_path(folder, program, "") < 0) return;
  char *slash = strrchr(folder, '/');
  if (!slash || slash + sizeof "/cache" > folder + PATH_MAX) return;
  strcpy(slash, "/cache");
  setenv("NODE_COMPILE_CACHE", folder, 0);
  setenv("NODE_COMPILE_CACHE_PORTABLE", "1", 0);
}

void run_daemon(int count, char **flags) {
  char prefix_space[PATH_MAX], program_space[PATH_MAX], node_space[PATH_MAX];
  const char *prefix = own_prefix(prefix_space) == 0 ? prefix_space : NULL;
  const char *program = find(program_space, prefix, "/lib/heddle.mjs", R_OK);
  const char *node = getenv("HEDDLE_NODE");
  if (!node || !*node) node = find(node_space, prefix, "/bin/node", X_OK);
  char **arguments = calloc((size_t)count + 6, sizeof *arguments);
  if (!program || !node || !arguments) return;
  unsetenv("NODE_OPTIONS");
  keep_compiled(program);
  int at = 0;
  arguments[at++] = "node";
  arguments[at++] = "--disable-warning=ExperimentalWarning";
  arguments[at++] = (char *)program;
  arguments[at++] = "dhcp";
  arguments[at++] = "daemon";
  for (int i = 0; i < count; i++) arguments[at++] = flags[i];
  execve(node, arguments, environ);
}

void run_standalone(const char *type, const struct buffer *input) {
  char prefix_space[PATH_MAX], program_space[PATH_MAX], node_space[PATH_MAX];
  const char *prefix = own_prefix(prefix_space) == 0 ? prefix_space : NULL;
  const char *program = find(program_space, prefix, "/lib/cni.mjs", R_OK);
  const char *node = getenv("HEDDLE_NODE");
  if (!node || !*node) node = find(node_space, prefix, "/bin/node", X_OK);
  if (!program || !node || restore_stdin(input)) return;
  /* Options meant for another program of the runtime's must not change this one. */
  unsetenv("NODE_OPTIONS");
  keep_compiled(program);
  char *const arguments[] = {"node", (char *)program, (char *)type, NULL};
  execve(node, arguments, environ);
}
