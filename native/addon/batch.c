#include "addon.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Many packets in one call. All of them lie in one array; tables of native 32-bit integers say where. Nothing is copied
 * and nothing is kept: every offset is checked against the array before the kernel sees it.
 */

enum { MAX_MESSAGES = 64, MAX_PARTS = 1024 };

/* A message to send or write: how many parts, and where its address and its control data lie. */
struct outgoing {
  int32_t parts, name, name_length, control, control_length;
};

/* A part of a message. */
struct range {
  int32_t offset, length;
};

/* A slot to receive into; the last three are filled in. */
struct incoming {
  int32_t offset, room, name, name_room, control, control_room;
  int32_t length, control_length, flags;
};

static bool inside(struct bytes bytes, int32_t offset, int32_t length) {
  return offset >= 0 && length >= 0 && (size_t)offset + (size_t)length <= bytes.length;
}

static napi_value refuse(napi_env env, const char *why) {
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", why);
  return NULL;
}

/* Reads the tables of `count` messages from number `first` on into `messages`; false when something lies outside. */
static bool gather(struct bytes bytes, struct bytes parts, struct bytes table, int32_t first, int32_t count,
                   struct mmsghdr *messages, struct iovec *vector) {
  if (first < 0 || count < 1 || count > MAX_MESSAGES) return false;
  if (((size_t)first + (size_t)count) * sizeof(struct outgoing) > table.length) return false;
  size_t part = 0, used = 0;
  for (int32_t i = 0; i < first + count; i++) {
    struct outgoing row;
    memcpy(&row, table.data + (size_t)i * sizeof row, sizeof row);
    if (row.parts < 0 || row.parts > MAX_PARTS) return false;
    if (i < first) {
      part += (size_t)row.parts;
      continue;
    }
    if (!inside(bytes, row.name, row.name_length) || !inside(bytes, row.control, row.control_length)) return false;
    if (used + (size_t)row.parts > MAX_PARTS || (part + (size_t)row.parts) * sizeof(struct range) > parts.length)
      return false;
    struct msghdr *message = &messages[i - first].msg_hdr;
    *message = (struct msghdr){
        .msg_name = row.name_length == 0 ? NULL : bytes.data + row.name,
        .msg_namelen = (socklen_t)row.name_length,
        .msg_iov = vector + used,
        .msg_iovlen = (size_t)row.parts,
        .msg_control = row.control_length == 0 ? NULL : bytes.data + row.control,
        .msg_controllen = (size_t)row.control_length,
    };
    for (int32_t j = 0; j < row.parts; j++, part++, used++) {
      struct range range;
      memcpy(&range, parts.data + part * sizeof range, sizeof range);
      if (!inside(bytes, range.offset, range.length)) return false;
      vector[used] = (struct iovec){bytes.data + range.offset, (size_t)range.length};
    }
  }
  return true;
}

/* sendMany(fd, bytes, parts, table, first, count, flags): like sendmmsg; how many were sent, or -errno of the first. */
static napi_value js_send_many(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes bytes = arg_bytes(&args);
  struct bytes parts = arg_bytes(&args);
  struct bytes table = arg_bytes(&args);
  int32_t first = arg_int(&args);
  int32_t count = arg_int(&args);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  struct mmsghdr messages[MAX_MESSAGES];
  struct iovec vector[MAX_PARTS];
  if (!gather(bytes, parts, table, first, count, messages, vector)) return refuse(env, "a message lies outside");
  return int_value(env, result_of(sendmmsg(fd, messages, (unsigned)count, flags | MSG_NOSIGNAL)));
}

/* writeMany(fd, bytes, parts, table, first, count): one writev for each; how many were written, or -errno of the first. */
static napi_value js_write_many(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes bytes = arg_bytes(&args);
  struct bytes parts = arg_bytes(&args);
  struct bytes table = arg_bytes(&args);
  int32_t first = arg_int(&args);
  int32_t count = arg_int(&args);
  if (!args.ok) return NULL;
  struct mmsghdr messages[MAX_MESSAGES];
  struct iovec vector[MAX_PARTS];
  if (!gather(bytes, parts, table, first, count, messages, vector)) return refuse(env, "a message lies outside");
  for (int32_t i = 0; i < count; i++) {
    ssize_t rc = writev(fd, messages[i].msg_hdr.msg_iov, (int)messages[i].msg_hdr.msg_iovlen);
    if (rc < 0) return int_value(env, i > 0 ? i : -errno);
  }
  return int_value(env, count);
}

/* recvMany(fd, bytes, table, count, flags): like recvmmsg; how many arrived, or -errno. */
static napi_value js_recv_many(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes bytes = arg_bytes(&args);
  struct bytes table = arg_bytes(&args);
  int32_t count = arg_int(&args);
  int flags = arg_int(&args);
  if (!args.ok) return NULL;
  if (count < 1 || count > MAX_MESSAGES || (size_t)count * sizeof(struct incoming) > table.length)
    return refuse(env, "the table is too short");
  struct mmsghdr messages[MAX_MESSAGES];
  struct iovec vector[MAX_MESSAGES];
  for (int32_t i = 0; i < count; i++) {
    struct incoming row;
    memcpy(&row, table.data + (size_t)i * sizeof row, sizeof row);
    if (!inside(bytes, row.offset, row.room) || !inside(bytes, row.name, row.name_room) ||
        !inside(bytes, row.control, row.control_room))
      return refuse(env, "a slot lies outside");
    vector[i] = (struct iovec){bytes.data + row.offset, (size_t)row.room};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = bytes.data + row.name,
        .msg_namelen = (socklen_t)row.name_room,
        .msg_iov = &vector[i],
        .msg_iovlen = 1,
        .msg_control = bytes.data + row.control,
        .msg_controllen = (size_t)row.control_room,
    };
  }
  int rc = recvmmsg(fd, messages, (unsigned)count, flags | MSG_CMSG_CLOEXEC, NULL);
  int64_t result = result_of(rc);
  for (int32_t i = 0; i < rc; i++) {
    int32_t out[3] = {(int32_t)messages[i].msg_len, (int32_t)messages[i].msg_hdr.msg_controllen,
                      messages[i].msg_hdr.msg_flags};
    memcpy(table.data + (size_t)i * sizeof(struct incoming) + offsetof(struct incoming, length), out, sizeof out);
  }
  return int_value(env, result);
}

/*
 * readMany(fd, bytes, start, room, found, count): reads until there is nothing more, each time up to `room` bytes to the next
 * multiple of 64 after what was read before. `found` receives struct range for each. How many, or -errno of the first.
 */
static napi_value js_read_many(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int fd = arg_int(&args);
  struct bytes bytes = arg_bytes(&args);
  int32_t start = arg_int(&args);
  int32_t room = arg_int(&args);
  struct bytes found = arg_bytes(&args);
  int32_t count = arg_int(&args);
  if (!args.ok) return NULL;
  if (count < 1 || room < 1 || (size_t)count * sizeof(struct range) > found.length)
    return refuse(env, "the table is too short");
  if (!inside(bytes, start, room)) return refuse(env, "no room for one packet");
  int32_t at = start, n = 0;
  while (n < count && inside(bytes, at, room)) {
    ssize_t rc = read(fd, bytes.data + at, (size_t)room);
    if (rc < 0) return int_value(env, n > 0 ? n : -errno);
    if (rc == 0) break;
    struct range range = {at, (int32_t)rc};
    memcpy(found.data + (size_t)n * sizeof range, &range, sizeof range);
    n++;
    at += ((int32_t)rc + 63) & ~63;
  }
  return int_value(env, n);
}

void register_batch(napi_env env, napi_value exports) {
  add_function(env, exports, "sendMany", js_send_many);
  add_function(env, exports, "writeMany", js_write_many);
  add_function(env, exports, "recvMany", js_recv_many);
  add_function(env, exports, "readMany", js_read_many);
}
