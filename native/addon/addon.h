/*
 * System calls for Node.js, as thin as they can be: integers and byte arrays in, one integer out (a result, or -errno).
 * Nothing here knows a protocol; what the bytes mean is the business of the TypeScript above.
 */
#ifndef HEDDLE_ADDON_H
#define HEDDLE_ADDON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of a Uint8Array argument. Valid only until the callback returns to JavaScript. */
struct bytes {
  uint8_t *data;
  size_t length;
};

/* Reads the arguments of one call. On the first bad one it throws a TypeError and `ok` becomes false. */
struct args {
  napi_env env;
  napi_value values[8];
  size_t count;
  size_t next;
  bool ok;
};

#define MAX_PATH_TEXT 4096

struct args args_of(napi_env env, napi_callback_info info);
int32_t arg_int(struct args *args);
uint32_t arg_uint(struct args *args);
struct bytes arg_bytes(struct args *args);
/* Also accepts null or undefined: then data is NULL and length 0. */
struct bytes arg_bytes_or_null(struct args *args);
void arg_text(struct args *args, char *text, size_t size);
napi_value arg_function(struct args *args);
napi_value arg_value(struct args *args);

napi_value int_value(napi_env env, int64_t value);

/* The result of a system call: the value itself, or -errno. */
static inline int64_t result_of(int64_t rc) {
  return rc < 0 ? -(int64_t)errno : rc;
}

/* Each file adds its functions to the exports. */
void add_function(napi_env env, napi_value exports, const char *name, napi_callback callback);
void register_file(napi_env env, napi_value exports);
void register_socket(napi_env env, napi_value exports);
void register_message(napi_env env, napi_value exports);
void register_batch(napi_env env, napi_value exports);
void register_namespace(napi_env env, napi_value exports);
void register_process(napi_env env, napi_value exports);
void register_poll(napi_env env, napi_value exports);
void register_work(napi_env env, napi_value exports);

/* Creates a network namespace on a thread of its own and bind-mounts it at `path`; 0 or -errno. */
int create_netns_at(const char *path);

#endif
