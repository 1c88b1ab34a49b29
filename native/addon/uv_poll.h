/*
 * The few functions of libuv's stable 1.x ABI that the watcher needs. `node-api-headers` does not carry uv.h, and the
 * node executable exports these symbols; handles are opaque and sized at run time, so no libuv structure is assumed.
 */
#ifndef HEDDLE_UV_POLL_H
#define HEDDLE_UV_POLL_H

#include <stddef.h>

struct uv_loop_s;
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_handle_s uv_handle_t;

#define UV_POLL 8 /* enum uv_handle_type, fixed since libuv 1.0 */

typedef void (*uv_poll_cb)(uv_poll_t *handle, int status, int events);
typedef void (*uv_close_cb)(uv_handle_t *handle);

size_t uv_handle_size(int type);
void *uv_handle_get_data(const uv_handle_t *handle);
void uv_handle_set_data(uv_handle_t *handle, void *data);
int uv_poll_init(struct uv_loop_s *loop, uv_poll_t *handle, int fd);
int uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb cb);
int uv_poll_stop(uv_poll_t *handle);
void uv_close(uv_handle_t *handle, uv_close_cb cb);
void uv_ref(uv_handle_t *handle);
void uv_unref(uv_handle_t *handle);

#endif
