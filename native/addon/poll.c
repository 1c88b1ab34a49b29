#include "addon.h"
#include "uv_poll.h"

#include <stdlib.h>

/*
 * A file descriptor watched by libuv. It lives until uv_close has called back, whichever comes first of pollClose, the
 * collection of its JavaScript handle, and the end of the environment.
 */
struct watcher {
  uv_poll_t *handle;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
  napi_async_cleanup_hook_handle hook;
  bool closing;
  bool collected;
  bool closed;
};

static void free_when_done(struct watcher *watcher) {
  if (watcher->closed && watcher->collected) free(watcher);
}

static void on_closed(uv_handle_t *handle) {
  struct watcher *watcher = uv_handle_get_data(handle);
  free(handle);
  watcher->handle = NULL;
  watcher->closed = true;
  if (watcher->hook != NULL) napi_remove_async_cleanup_hook(watcher->hook);
  free_when_done(watcher);
}

static void close_watcher(struct watcher *watcher) {
  if (watcher->closing) return;
  watcher->closing = true;
  if (watcher->callback != NULL) napi_delete_reference(watcher->env, watcher->callback);
  if (watcher->context != NULL) napi_async_destroy(watcher->env, watcher->context);
  watcher->callback = NULL;
  watcher->context = NULL;
  uv_close((uv_handle_t *)watcher->handle, on_closed);
}

static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  close_watcher(data);
}

static void on_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct watcher *watcher = data;
  watcher->collected = true;
  close_watcher(watcher);
  free_when_done(watcher);
}

static void on_event(uv_poll_t *handle, int status, int events) {
  struct watcher *watcher = uv_handle_get_data((uv_handle_t *)handle);
  napi_env env = watcher->env;
  napi_handle_scope scope;
  napi_value callback, receiver, result, arguments[2];
  if (watcher->closing || napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (napi_get_reference_value(env, watcher->callback, &callback) == napi_ok &&
      napi_get_global(env, &receiver) == napi_ok) {
    arguments[0] = int_value(env, status);
    arguments[1] = int_value(env, events);
    if (napi_make_callback(env, watcher->context, receiver, callback, 2, arguments, &result) == napi_pending_exception) {
      napi_value error;
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    }
  }
  napi_close_handle_scope(env, scope);
}

/* pollOpen(fd, callback(status, events)): a handle, or a negative errno. The watcher starts stopped. */
static napi_value js_poll_open(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  napi_value callback = arg_function(&args);
  struct uv_loop_s *loop;
  napi_value name, external;
  if (!args.ok || napi_get_uv_event_loop(env, &loop) != napi_ok) return NULL;
  struct watcher *watcher = calloc(1, sizeof *watcher);
  uv_poll_t *handle = calloc(1, uv_handle_size(UV_POLL));
  if (watcher == NULL || handle == NULL) {
    free(watcher);
    free(handle);
    return int_value(env, -ENOMEM);
  }
  int rc = uv_poll_init(loop, handle, fd);
  if (rc != 0) {
    free(watcher);
    free(handle);
    return int_value(env, rc);
  }
  uv_handle_set_data((uv_handle_t *)handle, watcher);
  watcher->handle = handle;
  watcher->env = env;
  napi_create_string_utf8(env, "heddle:poll", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &watcher->context);
  napi_create_reference(env, callback, 1, &watcher->callback);
  napi_add_async_cleanup_hook(env, on_environment_end, watcher, &watcher->hook);
  napi_create_external(env, watcher, on_collected, NULL, &external);
  return external;
}

static struct watcher *arg_watcher(struct args *args) {
  napi_value js = arg_value(args);
  void *data = NULL;
  if (args->ok && napi_get_value_external(args->env, js, &data) != napi_ok) {
    napi_throw_type_error(args->env, "ERR_INVALID_ARG_TYPE", "expected a watcher");
    args->ok = false;
  }
  return data;
}

/* pollStart(handle, events): 1 readable, 2 writable, 4 disconnect, 8 prioritized; 0 stops. */
static napi_value js_poll_start(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  struct watcher *watcher = arg_watcher(&args);
  int events = arg_int(&args);
  if (!args.ok) return NULL;
  if (watcher->closing) return int_value(env, -EBADF);
  return int_value(env, events == 0 ? uv_poll_stop(watcher->handle) : uv_poll_start(watcher->handle, events, on_event));
}

/* pollRef(handle, keepAlive): whether the watcher keeps the event loop running. */
static napi_value js_poll_ref(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  struct watcher *watcher = arg_watcher(&args);
  int keep_alive = arg_int(&args);
  if (!args.ok) return NULL;
  if (watcher->closing) return int_value(env, -EBADF);
  if (keep_alive != 0) uv_ref((uv_handle_t *)watcher->handle);
  else uv_unref((uv_handle_t *)watcher->handle);
  return int_value(env, 0);
}

/* pollClose(handle): stops at once; the descriptor may be closed right after. */
static napi_value js_poll_close(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  struct watcher *watcher = arg_watcher(&args);
  if (!args.ok) return NULL;
  close_watcher(watcher);
  return int_value(env, 0);
}

void register_poll(napi_env env, napi_value exports) {
  add_function(env, exports, "pollOpen", js_poll_open);
  add_function(env, exports, "pollStart", js_poll_start);
  add_function(env, exports, "pollRef", js_poll_ref);
  add_function(env, exports, "pollClose", js_poll_close);
}
