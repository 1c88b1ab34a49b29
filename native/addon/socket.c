#include "addon.h"

#include <linux/filter.h>
#include <sys/socket.h>

static napi_value js_socket(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int domain = arg_int(&args);
  int type = arg_int(&args);
  int protocol = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(socket(domain, type | SOCK_CLOEXEC, protocol)));
}

/* bind(fd, address) and connect(fd, address): the address is a whole struct sockaddr_*. */
static napi_value js_bind(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes address = arg_bytes(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(bind(fd, (struct sockaddr *)address.data, (socklen_t)address.length)));
}

static napi_value js_connect(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes address = arg_bytes(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(connect(fd, (struct sockaddr *)address.data, (socklen_t)address.length)));
}

static napi_value js_listen(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int backlog = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(listen(fd, backlog)));
}

static napi_value js_accept(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(accept4(fd, NULL, NULL, flags | SOCK_CLOEXEC)));
}

static napi_value js_shutdown(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int how = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(shutdown(fd, how)));
}

/* getsockname(fd, out): fills `out`, returns the address length. */
static napi_value js_getsockname(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes out = arg_bytes(&args);
  if (!args.ok) return NULL;
  socklen_t length = (socklen_t)out.length;
  int64_t rc = result_of(getsockname(fd, (struct sockaddr *)out.data, &length));
  return int_value(env, rc < 0 ? rc : (int64_t)length);
}

/* getsockopt(fd, level, name, out): fills `out`, returns the value's length. */
static napi_value js_getsockopt(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int level = arg_int(&args);
  int name = arg_int(&args);
  struct bytes out = arg_bytes(&args);
  if (!args.ok) return NULL;
  socklen_t length = (socklen_t)out.length;
  int64_t rc = result_of(getsockopt(fd, level, name, out.data, &length));
  return int_value(env, rc < 0 ? rc : (int64_t)length);
}

static napi_value js_setsockopt(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  int level = arg_int(&args);
  int name = arg_int(&args);
  struct bytes value = arg_bytes(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(setsockopt(fd, level, name, value.data, (socklen_t)value.length)));
}

/* attachFilter(fd, program): program is an array of struct sock_filter. */
static napi_value js_attach_filter(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes program = arg_bytes(&args);
  if (!args.ok) return NULL;
  struct sock_fprog filter = {
      .len = (unsigned short)(program.length / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)program.data,
  };
  return int_value(env, result_of(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)));
}

/* send(fd, bytes, flags, address?): sendto when there is an address. SIGPIPE never. */
static napi_value js_send(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes payload = arg_bytes(&args);
  int flags = arg_int(&args);
  struct bytes to = arg_bytes_or_null(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(sendto(fd, payload.data, payload.length, flags | MSG_NOSIGNAL,
                                         (struct sockaddr *)to.data, (socklen_t)to.length)));
}

/* recv(fd, buffer, flags): with MSG_TRUNC the result is the datagram's real length. */
static napi_value js_recv(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes buffer = arg_bytes(&args);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(recv(fd, buffer.data, buffer.length, flags)));
}

void register_socket(napi_env env, napi_value exports) {
  add_function(env, exports, "socket", js_socket);
  add_function(env, exports, "bind", js_bind);
  add_function(env, exports, "connect", js_connect);
  add_function(env, exports, "listen", js_listen);
  add_function(env, exports, "accept", js_accept);
  add_function(env, exports, "shutdown", js_shutdown);
  add_function(env, exports, "getsockname", js_getsockname);
  add_function(env, exports, "getsockopt", js_getsockopt);
  add_function(env, exports, "setsockopt", js_setsockopt);
  add_function(env, exports, "attachFilter", js_attach_filter);
  add_function(env, exports, "send", js_send);
  add_function(env, exports, "recv", js_recv);
}
