#include "addon.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

/* open(path, flags, mode): O_CLOEXEC always. */
static napi_value js_open(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  char path[MAX_PATH_TEXT];
  arg_text(&args, path, sizeof path);
  int flags = arg_int(&args);
  int mode = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(open(path, flags | O_CLOEXEC, (mode_t)mode)));
}

static napi_value js_close(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(close(fd)));
}

static napi_value js_read(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes buffer = arg_bytes(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(read(fd, buffer.data, buffer.length)));
}

static napi_value js_write(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes buffer = arg_bytes(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(write(fd, buffer.data, buffer.length)));
}

/* ioctl(fd, request, argument): a byte array read and written in place, an unsigned integer for requests that take a value, or none. */
static napi_value js_ioctl(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  uint32_t request = arg_uint(&args);
  napi_valuetype type = napi_undefined;
  if (args.ok && args.next < args.count) napi_typeof(env, args.values[args.next], &type);
  if (type == napi_number) {
    unsigned long value = arg_uint(&args);
    if (!args.ok) return NULL;
    return int_value(env, result_of(ioctl(fd, (unsigned long)request, value)));
  }
  struct bytes argument = arg_bytes_or_null(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(ioctl(fd, (unsigned long)request, argument.data)));
}

/* flock(fd, operation): use LOCK_NB here; the waiting form is flockWait, on the thread pool. */
static napi_value js_flock(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int operation = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(flock(fd, operation)));
}

static napi_value js_mount(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  char source[MAX_PATH_TEXT], target[MAX_PATH_TEXT], type[64], data[MAX_PATH_TEXT];
  arg_text(&args, source, sizeof source);
  arg_text(&args, target, sizeof target);
  arg_text(&args, type, sizeof type);
  uint32_t flags = arg_uint(&args);
  arg_text(&args, data, sizeof data);
  if (!args.ok) return NULL;
  return int_value(env, result_of(mount(source, target, type, flags, data[0] == '\0' ? NULL : data)));
}

static napi_value js_umount(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  char target[MAX_PATH_TEXT];
  arg_text(&args, target, sizeof target);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(umount2(target, flags)));
}

void register_file(napi_env env, napi_value exports) {
  add_function(env, exports, "open", js_open);
  add_function(env, exports, "close", js_close);
  add_function(env, exports, "read", js_read);
  add_function(env, exports, "write", js_write);
  add_function(env, exports, "ioctl", js_ioctl);
  add_function(env, exports, "flock", js_flock);
  add_function(env, exports, "mount", js_mount);
  add_function(env, exports, "umount", js_umount);
}
