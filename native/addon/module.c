#include "addon.h"

NAPI_MODULE_INIT() {
  register_file(env, exports);
  register_socket(env, exports);
  register_message(env, exports);
  register_batch(env, exports);
  register_namespace(env, exports);
  register_process(env, exports);
  register_poll(env, exports);
  register_work(env, exports);
  return exports;
}
