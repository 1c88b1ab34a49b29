#include "addon.h"

#include <string.h>
#include <sys/socket.h>

/*
 * sendmsg(fd, payload, address?, control?, flags): `control` is a ready-made run of struct cmsghdr, or none.
 */
static napi_value js_sendmsg(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes payload = arg_bytes(&args);
  struct bytes to = arg_bytes_or_null(&args);
  struct bytes control = arg_bytes_or_null(&args);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  struct iovec part = {payload.data, payload.length};
  struct msghdr message = {.msg_name = to.data, .msg_namelen = (socklen_t)to.length, .msg_iov = &part,
                           .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = control.length};
  return int_value(env, result_of(sendmsg(fd, &message, flags | MSG_NOSIGNAL)));
}

/*
 * recvmsg(fd, payload, address?, control?, flags, lengths): fills the arrays. `lengths` is a Uint8Array over three
 * native 32-bit integers that receive the address length, the control length and msg_flags.
 * File descriptors that arrive are always close-on-exec.
 */
static napi_value js_recvmsg(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes payload = arg_bytes(&args);
  struct bytes from = arg_bytes_or_null(&args);
  struct bytes control = arg_bytes_or_null(&args);
  int flags = arg_int(&args);
  struct bytes lengths = arg_bytes(&args);
  if (!args.ok) return NULL;
  if (lengths.length < 3 * sizeof(int32_t)) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "lengths must hold 12 bytes");
    return NULL;
  }
  struct iovec part = {payload.data, payload.length};
  struct msghdr message = {.msg_name = from.data, .msg_namelen = (socklen_t)from.length, .msg_iov = &part,
                           .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = control.length};
  int64_t rc = result_of(recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC));
  int32_t out[3] = {0, 0, 0};
  if (rc >= 0) {
    out[0] = (int32_t)message.msg_namelen;
    out[1] = (int32_t)message.msg_controllen;
    out[2] = message.msg_flags;
  }
  memcpy(lengths.data, out, sizeof out);
  return int_value(env, rc);
}

void register_message(napi_env env, napi_value exports) {
  add_function(env, exports, "sendmsg", js_sendmsg);
  add_function(env, exports, "recvmsg", js_recvmsg);
}
