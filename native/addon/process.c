#include "addon.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static napi_value js_gettid(napi_env env, napi_callback_info info) {
  (void)info;
  return int_value(env, syscall(SYS_gettid));
}

/* prctl(option, argument): the options that take one integer (PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS …). */
static napi_value js_prctl(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  int option = arg_int(&args);
  uint32_t argument = arg_uint(&args);
  if (!args.ok) return NULL;
  return int_value(env, result_of(prctl(option, (unsigned long)argument, 0UL, 0UL, 0UL)));
}

/*
 * capSet(low, high): effective and permitted become exactly these bits, inheritable becomes empty. Capabilities
 * belong to a thread and the kernel lets a thread change only itself, so pool threads keep theirs: drop before they
 * start.
 */
static napi_value js_cap_set(napi_env env, napi_callback_info info) {
  struct args args = args_of(env, info);
  uint32_t low = arg_uint(&args);
  uint32_t high = arg_uint(&args);
  if (!args.ok) return NULL;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{low, low, 0}, {high, high, 0}};
  return int_value(env, result_of(syscall(SYS_capset, &header, data)));
}

void register_process(napi_env env, napi_value exports) {
  add_function(env, exports, "gettid", js_gettid);
  add_function(env, exports, "prctl", js_prctl);
  add_function(env, exports, "capSet", js_cap_set);
}
