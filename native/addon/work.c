#include "addon.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* One call on libuv's thread pool. It owns every byte it uses: JavaScript memory may move while it runs. */
struct work {
  napi_async_work handle;
  napi_deferred deferred;
  int64_t (*run)(struct work *work);
  int64_t rc;
  int fd;
  int number; /* exchange: datagrams expected; flockWait: operation */
  uint32_t timeout_ms;
  uint8_t *input;
  size_t input_length;
  uint8_t *output;
  size_t output_size;
};

static void execute(napi_env env, void *data) {
  (void)env;
  struct work *work = data;
  work->rc = work->run(work);
}

/* Resolves with the integer, or for calls with an output buffer with { rc, bytes }. Never rejects. */
static void complete(napi_env env, napi_status status, void *data) {
  struct work *work = data;
  napi_value value = int_value(env, status == napi_ok ? work->rc : -ECANCELED);
  if (work->output_size > 0) {
    napi_value object, buffer, bytes;
    void *copy = NULL;
    size_t length = status == napi_ok && work->rc > 0 ? (size_t)work->rc : 0;
    napi_create_object(env, &object);
    napi_create_arraybuffer(env, length, &copy, &buffer);
    if (length > 0) memcpy(copy, work->output, length);
    napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &bytes);
    napi_set_named_property(env, object, "rc", value);
    napi_set_named_property(env, object, "bytes", bytes);
    value = object;
  }
  napi_resolve_deferred(env, work->deferred, value);
  napi_delete_async_work(env, work->handle);
  free(work->input);
  free(work->output);
  free(work);
}

static napi_value queue(napi_env env, struct work *work, const char *name) {
  napi_value promise = NULL, label;
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &label);
  napi_create_promise(env, &work->deferred, &promise);
  napi_create_async_work(env, NULL, label, execute, complete, work, &work->handle);
  napi_queue_async_work(env, work->handle);
  return promise;
}

static struct work *new_work(napi_env env, int64_t (*run)(struct work *), struct bytes input, size_t output_size) {
  struct work *work = calloc(1, sizeof *work);
  uint8_t *copy = malloc(input.length + 1);
  uint8_t *output = malloc(output_size + 1);
  if (work == NULL || copy == NULL || output == NULL) {
    free(work);
    free(copy);
    free(output);
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  if (input.length > 0) memcpy(copy, input.data, input.length);
  work->run = run;
  work->input = copy;
  work->input_length = input.length;
  work->output = output;
  work->output_size = output_size;
  return work;
}

static int64_t run_exchange(struct work *work) {
  size_t filled = 0;
  ssize_t rc;
  do rc = send(work->fd, work->input, work->input_length, MSG_NOSIGNAL);
  while (rc < 0 && errno == EINTR);
  if (rc < 0) return -errno;
  for (int i = 0; i < work->number; i++) {
    size_t room = work->output_size - filled;
    do rc = recv(work->fd, work->output + filled, room, MSG_TRUNC);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) return -errno;
    if ((size_t)rc > room) return -EMSGSIZE;
    filled += (size_t)rc;
  }
  return (int64_t)filled;
}

/*
 * exchange(fd, bytes, datagrams, size): sends, then receives that many datagrams into one array of at most `size` bytes.
 * The socket's SO_RCVTIMEO bounds it. Resolves with { rc, bytes }.
 */
static napi_value js_exchange(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes input = arg_bytes(&args);
  int datagrams = arg_int(&args);
  uint32_t size = arg_uint(&args);
  if (!args.ok) return NULL;
  struct work *work = new_work(env, run_exchange, input, size == 0 ? 1 : size);
  if (work == NULL) return NULL;
  work->fd = fd;
  work->number = datagrams;
  return queue(env, work, "heddle:exchange");
}

#define DEADLINE_SIGNAL (SIGRTMIN + 9)
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void on_deadline(int signal) { (void)signal; }

static void install_deadline_signal(void) {
  /* Without SA_RESTART, so that a blocked flock returns EINTR. */
  struct sigaction action = {.sa_handler = on_deadline};
  sigaction(DEADLINE_SIGNAL, &action, NULL);
}

/*
 * Waits for flock with a deadline. A timer signals this very thread when time is up, and again every 10 ms in case the
 * first signal came just before the system call. Blocking keeps the kernel's queue order against other programs, which
 * polling with LOCK_NB would lose.
 */
static int64_t run_flock(struct work *work) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install_deadline_signal);
  struct timespec start, now;
  timer_t timer;
  sigset_t set, old;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = DEADLINE_SIGNAL};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return -errno;
  sigemptyset(&set);
  sigaddset(&set, DEADLINE_SIGNAL);
  pthread_sigmask(SIG_UNBLOCK, &set, &old);
  struct itimerspec when = {.it_value = {work->timeout_ms / 1000, (long)(work->timeout_ms % 1000) * 1000000L + 1},
                            .it_interval = {0, 10000000L}};
  timer_settime(timer, 0, &when, NULL);
  clock_gettime(CLOCK_MONOTONIC, &start);
  int64_t rc;
  do {
    rc = flock(work->fd, work->number) == 0 ? 0 : -errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t elapsed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    if (rc == -EINTR && elapsed >= (int64_t)work->timeout_ms) rc = -ETIMEDOUT;
  } while (rc == -EINTR);
  timer_delete(timer);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return rc;
}

/* flockWait(fd, operation, timeoutMs): resolves with 0, -ETIMEDOUT or another -errno. Keep fd open until then. */
static napi_value js_flock_wait(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int operation = arg_int(&args);
  uint32_t timeout_ms = arg_uint(&args);
  if (!args.ok) return NULL;
  struct work *work = new_work(env, run_flock, (struct bytes){NULL, 0}, 0);
  if (work == NULL) return NULL;
  work->fd = fd;
  work->number = operation;
  work->timeout_ms = timeout_ms;
  return queue(env, work, "heddle:flock");
}

static int64_t run_create_netns(struct work *work) { return create_netns_at((const char *)work->input); }

/* createNetnsOnPool(path): like createNetns, without holding up the event loop. */
static napi_value js_create_netns_on_pool(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  char path[MAX_PATH_TEXT];
  arg_text(&args, path, sizeof path);
  if (!args.ok) return NULL;
  struct work *work = new_work(env, run_create_netns, (struct bytes){(uint8_t *)path, strlen(path) + 1}, 0);
  return work == NULL ? NULL : queue(env, work, "heddle:netns");
}

static int64_t run_rest(struct work *work) {
  struct timespec rest = {0, (long)work->timeout_ms * 1000000L};
  nanosleep(&rest, NULL);
  return syscall(SYS_gettid);
}

/* rest(ms): holds one pool thread that long (at most 999 ms) and resolves with its id; forces pool threads to exist. */
static napi_value js_rest(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  uint32_t ms = arg_uint(&args);
  if (!args.ok) return NULL;
  struct work *work = new_work(env, run_rest, (struct bytes){NULL, 0}, 0);
  if (work == NULL) return NULL;
  work->timeout_ms = ms > 999 ? 999 : ms;
  return queue(env, work, "heddle:rest");
}

void register_work(napi_env env, napi_value exports) {
  add_function(env, exports, "exchange", js_exchange);
  add_function(env, exports, "flockWait", js_flock_wait);
  add_function(env, exports, "createNetnsOnPool", js_create_netns_on_pool);
  add_function(env, exports, "rest", js_rest);
}
