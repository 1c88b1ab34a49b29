#include "addon.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

/* setns(fd, type): moves the calling thread. The caller must be synchronous until it has moved back. */
static napi_value js_setns(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int type = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(setns(fd, type)));
}

struct creation {
  const char *path;
  int rc;
};

static void *create_on_own_thread(void *pointer) {
  struct creation *creation = pointer;
  creation->rc = 0;
  if (unshare(CLONE_NEWNET) != 0 || mount("/proc/thread-self/ns/net", creation->path, "none", MS_BIND, NULL) != 0)
    creation->rc = -errno;
  return NULL;
}

/*
 * The thread that calls unshare must never run JavaScript or pool work afterwards, so it is a fresh one that ends here;
 * the bind mount keeps the namespace alive. The file at `path` must exist.
 */
int create_netns_at(const char *path) {
  struct creation creation = {path, 0};
  pthread_t thread;
  int rc = pthread_create(&thread, NULL, create_on_own_thread, &creation);
  if (rc != 0) return -rc;
  rc = pthread_join(thread, NULL);
  return rc != 0 ? -rc : creation.rc;
}

static napi_value js_create_netns(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  char path[MAX_PATH_TEXT];
  arg_text(&args, path, sizeof path);
  if (!args.ok) return NULL;
  return int_value(env, create_netns_at(path));
}

void register_namespace(napi_env env, napi_value exports) {
  add_function(env, exports, "setns", js_setns);
  add_function(env, exports, "createNetns", js_create_netns);
}
