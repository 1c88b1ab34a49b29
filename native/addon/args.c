#include "addon.h"

#include <string.h>

struct args args_of(napi_env env, napi_callback_info info) {
  struct args args = {.env = env, .count = 8, .ok = true};
  if (napi_get_cb_info(env, info, &args.count, args.values, NULL, NULL) != napi_ok) args.ok = false;
  return args;
}

static void refuse(struct args *args, const char *expected) {
  if (args->ok) napi_throw_type_error(args->env, "ERR_INVALID_ARG_TYPE", expected);
  args->ok = false;
}

napi_value arg_value(struct args *args) {
  size_t index = args->next++;
  if (index < args->count && index < 8) return args->values[index];
  refuse(args, "too few arguments");
  return NULL;
}

int32_t arg_int(struct args *args) {
  int32_t value = 0;
  napi_value js = arg_value(args);
  if (args->ok && napi_get_value_int32(args->env, js, &value) != napi_ok) refuse(args, "expected an integer");
  return value;
}

uint32_t arg_uint(struct args *args) {
  uint32_t value = 0;
  napi_value js = arg_value(args);
  if (args->ok && napi_get_value_uint32(args->env, js, &value) != napi_ok) refuse(args, "expected an unsigned integer");
  return value;
}

struct bytes arg_bytes(struct args *args) {
  struct bytes bytes = {NULL, 0};
  napi_typedarray_type type;
  void *data = NULL;
  napi_value js = arg_value(args);
  if (!args->ok) return bytes;
  if (napi_get_typedarray_info(args->env, js, &type, &bytes.length, &data, NULL, NULL) != napi_ok ||
      type != napi_uint8_array) {
    refuse(args, "expected a Uint8Array");
    bytes.length = 0;
  }
  bytes.data = data;
  return bytes;
}

struct bytes arg_bytes_or_null(struct args *args) {
  struct bytes none = {NULL, 0};
  napi_valuetype type = napi_undefined;
  if (args->next >= args->count) {
    args->next++;
    return none;
  }
  if (napi_typeof(args->env, args->values[args->next], &type) != napi_ok) refuse(args, "unreadable argument");
  if (type == napi_null || type == napi_undefined) {
    args->next++;
    return none;
  }
  return arg_bytes(args);
}

void arg_text(struct args *args, char *text, size_t size) {
  size_t length = 0;
  napi_value js = arg_value(args);
  text[0] = '\0';
  if (!args->ok) return;
  if (napi_get_value_string_utf8(args->env, js, NULL, 0, &length) != napi_ok) {
    refuse(args, "expected a string");
    return;
  }
  /* A cut or NUL-split path would name another file: refuse it. */
  if (length >= size) {
    refuse(args, "string too long");
    return;
  }
  napi_get_value_string_utf8(args->env, js, text, size, &length);
  if (strlen(text) != length) refuse(args, "string contains NUL");
}

napi_value arg_function(struct args *args) {
  napi_valuetype type = napi_undefined;
  napi_value js = arg_value(args);
  if (!args->ok) return NULL;
  if (napi_typeof(args->env, js, &type) != napi_ok || type != napi_function) refuse(args, "expected a function");
  return js;
}

napi_value int_value(napi_env env, int64_t value) {
  napi_value js = NULL;
  napi_create_int64(env, value, &js);
  return js;
}

void add_function(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, name, function);
}
