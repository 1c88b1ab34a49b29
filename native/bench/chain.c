/*
 * A container runtime without the cost of one: runs a chain of CNI plugins for attachments and prints how long each took. Both sides of a comparison
 * are timed by it, so what it costs itself (a posix_spawn and two pipes per plugin, which any runtime needs) is in both.
 *
 *   chain ADD|DEL NODE-NETNS CNI-PATH WORK-DIR PARALLEL TYPE[,TYPE...] {ID POD-NETNS}...
 *
 * WORK-DIR/ID.N is the configuration of plugin N, whose last character is `}`; prevResult is put in front of it. WORK-DIR/ID.result keeps the result of
 * ADD, which DEL hands back, as runtimes do. Prints `ID NANOSECONDS` per attachment and last `all NANOSECONDS`. A plugin that fails ends it all with code 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TYPES = 8, MAX_TEXT = 1 << 16, MAX_ENV = 256 };

static const char *verb, *cni_path, *work_dir;
static const char *types[MAX_TYPES];
static int type_count;

static struct shared {
  atomic_int next;
  atomic_int ready;
  atomic_int go;
  long long nanoseconds[];
} *shared;

static _Noreturn void fail(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("chain: ", stderr);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
  exit(1);
}

static long long now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static size_t read_fd(int fd, char *text) {
  size_t length = 0;
  for (;;) {
    ssize_t got = read(fd, text + length, MAX_TEXT - 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read: %s", strerror(errno));
    if (got == 0) break;
    length += (size_t)got;
    if (length == MAX_TEXT - 1) fail("more than %d bytes", MAX_TEXT);
  }
  text[length] = 0;
  return length;
}

static size_t read_file(const char *path, char *text) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("%s: %s", path, strerror(errno));
  size_t length = read_fd(fd, text);
  close(fd);
  while (length > 0 && strchr(" \t\r\n", text[length - 1])) length--;
  text[length] = 0;
  return length;
}

static void write_fd(int fd, const char *text, size_t length) {
  while (length > 0) {
    ssize_t put = write(fd, text, length);
    if (put < 0 && errno == EINTR) continue;
    // A plugin may answer without reading: its exit code tells more than this.
    if (put < 0 && errno == EPIPE) return;
    if (put < 0) fail("write: %s", strerror(errno));
    text += put;
    length -= (size_t)put;
  }
}

/* One plugin, from fork to the end of the process. Its stdout goes to `output`. */
static size_t run_plugin(const char *type, char *const envp[], const char *input, size_t length, char *output) {
  char file[4096];
  snprintf(file, sizeof file, "%s/%s", cni_path, type);
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe: %s", strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  char *const argv[] = {file, NULL};
  pid_t pid;
  int error = posix_spawn(&pid, file, &actions, NULL, argv, envp);
  if (error) fail("%s: %s", file, strerror(error));
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  write_fd(in[1], input, length);
  close(in[1]);
  size_t got = read_fd(out[0], output);
  close(out[0]);
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid: %s", strerror(errno));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("%s %s ended with status %d: %s", type, verb, status, output);
  while (got > 0 && strchr(" \t\r\n", output[got - 1])) got--;
  output[got] = 0;
  return got;
}

static long long attach(const char *id, const char *netns) {
  static char config[MAX_TYPES][MAX_TEXT], input[2 * MAX_TEXT], result[MAX_TEXT];
  static char settings[5][4096];
  char path[4096];
  int is_add = strcmp(verb, "ADD") == 0;
  for (int i = 0; i < type_count; i++) {
    snprintf(path, sizeof path, "%s/%s.%d", work_dir, id, i);
    size_t length = read_file(path, config[i]);
    if (length == 0 || config[i][length - 1] != '}') fail("%s does not end with }", path);
  }
  snprintf(path, sizeof path, "%s/%s.result", work_dir, id);
  size_t have = is_add ? 0 : read_file(path, result);

  snprintf(settings[0], sizeof *settings, "CNI_COMMAND=%s", verb);
  snprintf(settings[1], sizeof *settings, "CNI_CONTAINERID=%s", id);
  snprintf(settings[2], sizeof *settings, "CNI_NETNS=%s", netns);
  snprintf(settings[3], sizeof *settings, "CNI_PATH=%s", cni_path);
  strcpy(settings[4], "CNI_IFNAME=eth0");
  char *envp[MAX_ENV];
  int n = 0;
  for (char **item = environ; *item && n < MAX_ENV - 6; item++)
    if (strncmp(*item, "CNI_", 4) != 0) envp[n++] = *item;
  for (int i = 0; i < 5; i++) envp[n++] = settings[i];
  envp[n] = NULL;

  long long start = now();
  for (int step = 0; step < type_count; step++) {
    int i = is_add ? step : type_count - 1 - step;
    size_t length = strlen(config[i]);
    memcpy(input, config[i], length);
    if (have > 0) length += (size_t)sprintf(input + length - 1, ",\"prevResult\":%s}", result) - 1;
    if (is_add) have = run_plugin(types[i], envp, input, length, result);
    else {
      static char ignored[MAX_TEXT];
      run_plugin(types[i], envp, input, length, ignored);
    }
  }
  long long took = now() - start;

  if (is_add) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) fail("%s: %s", path, strerror(errno));
    write_fd(fd, result, have);
    close(fd);
  }
  return took;
}

static void work(char **attachments, int count) {
  atomic_fetch_add(&shared->ready, 1);
  while (!atomic_load(&shared->go)) sched_yield();
  for (int i; (i = atomic_fetch_add(&shared->next, 1)) < count;)
    shared->nanoseconds[i] = attach(attachments[2 * i], attachments[2 * i + 1]);
}

int main(int argc, char **argv) {
  if (argc < 9 || (argc - 7) % 2) fail("usage: chain ADD|DEL NODE-NETNS CNI-PATH WORK-DIR PARALLEL TYPES {ID POD-NETNS}...");
  verb = argv[1];
  cni_path = argv[3];
  work_dir = argv[4];
  int parallel = atoi(argv[5]);
  for (char *type = strtok(argv[6], ","); type && type_count < MAX_TYPES; type = strtok(NULL, ",")) types[type_count++] = type;
  char **attachments = argv + 7;
  int count = (argc - 7) / 2;
  signal(SIGPIPE, SIG_IGN);

  int netns = open(argv[2], O_RDONLY | O_CLOEXEC);
  if (netns < 0 || setns(netns, CLONE_NEWNET)) fail("%s: %s", argv[2], strerror(errno));

  size_t size = sizeof *shared + sizeof *shared->nanoseconds * (size_t)count;
  shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail("mmap: %s", strerror(errno));

  pid_t parent = getpid();
  for (int i = 0; i < parallel; i++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork: %s", strerror(errno));
    if (pid == 0) {
      // Whoever stops the parent stops the workers.
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      work(attachments, count);
      _exit(0);
    }
  }
  while (atomic_load(&shared->ready) < parallel) usleep(100);
  long long start = now();
  atomic_store(&shared->go, 1);
  int failed = 0;
  for (int i = 0; i < parallel; i++) {
    int status;
    while (wait(&status) < 0 && errno == EINTR) {}
    if (status != 0) failed = 1;
  }
  long long took = now() - start;
  if (failed) return 1;
  for (int i = 0; i < count; i++) printf("%s %lld\n", attachments[2 * i], shared->nanoseconds[i]);
  printf("all %lld\n", took);
  return 0;
}
