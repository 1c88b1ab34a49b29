/*
 * The floor under an ADD of bridge + host-local + portmap: one process that makes the system calls such an ADD needs, and nothing else. No JSON,
 * no checks, no looking for what is there already. It runs as a plugin of chain.c, so that its process start is counted.
 *
 *   records       for each of the two plugins: flock of a file of its own, a new file with what DEL needs; a second one in its place where there are rules; unlink
 *   reservation   flock, create, write, fdatasync, link, unlink, fsync of the folder, note of the last address
 *   host          RTM_GETLINK of the bridge; RTM_NEWLINK of the pair, its far end in the pod, with master, with it RTM_SETLINK for alias, hairpin, accept_redirects, addrgenmode; two sysctls
 *   pod           RTM_GETLINK for index and MAC address; RTM_SETLINK with arp_notify, RTM_NEWADDR, RTM_SETLINK up, RTM_NEWROUTE of the default route in one
 *   host          RTM_GETADDR of the bridge; RTM_GETNETCONF; RTM_SETLINK up and RTM_DELNEIGH in one; RTM_GETLINK until the port forwards
 *   host port     one nf_tables transaction of NFT_MSG_NEWSETELEM for three sets; RTM_GETROUTE to the pod; RTM_GETLINK for route_localnet
 *
 * stdin: {"address":"10.88.0.5","number":5,"directory":"/…","records":"/…"}. The bridge cni0 and the table `inet wire` are there before. DEL undoes it, for the next round.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/netconf.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPER_UP = 6, FORWARDING = 3, MTU = 1450, FIRST_HOST_PORT = 20000 };

static _Noreturn void fail(const char *what) {
  printf("{\"code\":999,\"msg\":\"wire: %s: %s\"}\n", what, strerror(errno));
  exit(1);
}

/* Messages are put one behind the other, and sent as one datagram. */
static char out[8192], in[65536];
static size_t end;
static uint32_t sequence;

static struct nlmsghdr *begin(uint16_t type, uint16_t flags, const void *header, size_t size) {
  struct nlmsghdr *message = (void *)(out + end);
  *message = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = ++sequence};
  memcpy(NLMSG_DATA(message), header, size);
  end += NLMSG_LENGTH(NLMSG_ALIGN(size));
  return message;
}

static void finish(struct nlmsghdr *message) { message->nlmsg_len = (uint32_t)(out + end - (char *)message); }

static struct nlattr *put(uint16_t type, const void *data, size_t size) {
  struct nlattr *attribute = (void *)(out + end);
  *attribute = (struct nlattr){.nla_type = type, .nla_len = (uint16_t)(NLA_HDRLEN + size)};
  if (size) memcpy((char *)attribute + NLA_HDRLEN, data, size);
  end += NLA_ALIGN(NLA_HDRLEN + size);
  return attribute;
}

static void put_text(uint16_t type, const char *text) { put(type, text, strlen(text) + 1); }
static void put_u32(uint16_t type, uint32_t value) { put(type, &value, sizeof value); }
static void put_u8(uint16_t type, uint8_t value) { put(type, &value, sizeof value); }
static void close_nest(struct nlattr *nest) { nest->nla_len = (uint16_t)(out + end - (char *)nest); }

static int open_netlink(int protocol) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) fail("socket");
  return fd;
}

/* Sends what was put and waits for as many acknowledgements. */
static void flush(int fd, int answers, int ignored, const char *what) {
  if (send(fd, out, end, 0) < 0) fail(what);
  end = 0;
  while (answers > 0) {
    ssize_t got = recv(fd, in, sizeof in, 0);
    if (got < 0) fail(what);
    for (struct nlmsghdr *m = (void *)in; NLMSG_OK(m, (size_t)got); m = NLMSG_NEXT(m, got)) {
      if (m->nlmsg_type != NLMSG_ERROR) continue;
      int error = -((struct nlmsgerr *)NLMSG_DATA(m))->error;
      errno = error;
      if (error && error != ignored) fail(what);
      answers--;
    }
  }
}

/* A request with one answer, which lies in `in`. */
static struct nlmsghdr *ask(int fd, const char *what) {
  if (send(fd, out, end, 0) < 0) fail(what);
  end = 0;
  ssize_t got = recv(fd, in, sizeof in, 0);
  struct nlmsghdr *m = (void *)in;
  if (got < 0 || !NLMSG_OK(m, (size_t)got)) fail(what);
  if (m->nlmsg_type == NLMSG_ERROR) {
    errno = -((struct nlmsgerr *)NLMSG_DATA(m))->error;
    fail(what);
  }
  return m;
}

static struct nlmsghdr *get_link(int fd, const char *name) {
  struct ifinfomsg header = {0};
  struct nlmsghdr *m = begin(RTM_GETLINK, 0, &header, sizeof header);
  put_text(IFLA_IFNAME, name);
  finish(m);
  return ask(fd, name);
}

static int index_of(struct nlmsghdr *link) { return ((struct ifinfomsg *)NLMSG_DATA(link))->ifi_index; }

static int is_forwarding(struct nlmsghdr *link) {
  int up = 0, forwards = 0;
  size_t left = link->nlmsg_len - NLMSG_LENGTH(sizeof(struct ifinfomsg));
  for (struct rtattr *a = IFLA_RTA(NLMSG_DATA(link)); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    if (a->rta_type == IFLA_OPERSTATE) up = *(uint8_t *)RTA_DATA(a) == OPER_UP;
    if ((a->rta_type & NLA_TYPE_MASK) != IFLA_LINKINFO) continue;
    size_t inner = RTA_PAYLOAD(a);
    for (struct rtattr *b = RTA_DATA(a); RTA_OK(b, inner); b = RTA_NEXT(b, inner)) {
      if ((b->rta_type & NLA_TYPE_MASK) != IFLA_INFO_SLAVE_DATA) continue;
      size_t deep = RTA_PAYLOAD(b);
      for (struct rtattr *c = RTA_DATA(b); RTA_OK(c, deep); c = RTA_NEXT(c, deep))
        if (c->rta_type == IFLA_BRPORT_STATE) forwards = *(uint8_t *)RTA_DATA(c) == FORWARDING;
    }
  }
  return up && forwards;
}

static void set_sysctl(const char *value, const char *format, const char *device) {
  char path[256];
  snprintf(path, sizeof path, format, device);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, value, strlen(value)) < 0) fail(path);
  close(fd);
}

/* What is remembered of an attachment: 600 bytes, as ours are. */
static void write_record(const char *path, int flags) {
  static char content[600];
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
  if (fd < 0 || write(fd, content, sizeof content) < 0) fail(path);
  close(fd);
}

static int lock_record(char *path, size_t size, const char *directory, const char *plugin, const char *id) {
  snprintf(path, size, "%s/%s-%s", directory, plugin, id);
  char lock[320];
  snprintf(lock, sizeof lock, "%s.lock", path);
  int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  struct stat held, named;
  if (fd < 0 || flock(fd, LOCK_EX) || fstat(fd, &held) || stat(lock, &named)) fail(lock);
  return fd;
}

static void unlock_record(const char *path, int fd) {
  char lock[320];
  snprintf(lock, sizeof lock, "%s.lock", path);
  unlink(lock);
  close(fd);
}

static void replace_record(const char *path) {
  char fresh[320];
  snprintf(fresh, sizeof fresh, "%s.tmp", path);
  write_record(fresh, O_EXCL);
  if (rename(fresh, path)) fail(path);
}

static void reserve(int directory, const char *address, const char *owner) {
  int lock = openat(directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0 || flock(lock, LOCK_EX)) fail("lock");
  int fd = openat(directory, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, owner, strlen(owner)) < 0 || fdatasync(fd)) fail(".new");
  close(fd);
  if (linkat(directory, ".new", directory, address, 0)) fail(address);
  unlinkat(directory, ".new", 0);
  if (fsync(directory)) fail("fsync");
  fd = openat(directory, "last_reserved_ip.0", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, address, strlen(address)) < 0) fail("last_reserved_ip.0");
  close(fd);
  close(lock);
}

static void inet_setting(const struct ifinfomsg *header, const char *name, uint16_t key, uint32_t value, uint16_t flags) {
  struct nlmsghdr *m = begin(RTM_SETLINK, flags, header, sizeof *header);
  if (name) put_text(IFLA_IFNAME, name);
  struct nlattr *families = put(IFLA_AF_SPEC | NLA_F_NESTED, NULL, 0);
  struct nlattr *inet = put(AF_INET | NLA_F_NESTED, NULL, 0);
  struct nlattr *conf = put(IFLA_INET_CONF | NLA_F_NESTED, NULL, 0);
  put_u32(key, value);
  close_nest(conf);
  close_nest(inet);
  close_nest(families);
  finish(m);
}

static void make_veth(int fd, const char *name, int bridge, int netns, const char *alias) {
  struct ifinfomsg header = {0};
  struct nlmsghdr *m = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &header, sizeof header);
  put_text(IFLA_IFNAME, name);
  put_u32(IFLA_MTU, MTU);
  put_u32(IFLA_MASTER, (uint32_t)bridge);
  struct nlattr *info = put(IFLA_LINKINFO | NLA_F_NESTED, NULL, 0);
  put_text(IFLA_INFO_KIND, "veth");
  struct nlattr *data = put(IFLA_INFO_DATA | NLA_F_NESTED, NULL, 0);
  struct nlattr *peer = put(VETH_INFO_PEER | NLA_F_NESTED, &header, sizeof header);
  put_text(IFLA_IFNAME, "eth0");
  put_u32(IFLA_MTU, MTU);
  put_u32(IFLA_NET_NS_FD, (uint32_t)netns);
  close_nest(peer);
  close_nest(data);
  close_nest(info);
  finish(m);
  m = begin(RTM_SETLINK, 0, &header, sizeof header);
  put_text(IFLA_IFNAME, name);
  put_text(IFLA_IFALIAS, alias);
  finish(m);
  m = begin(RTM_NEWLINK, 0, &header, sizeof header);
  put_text(IFLA_IFNAME, name);
  info = put(IFLA_LINKINFO | NLA_F_NESTED, NULL, 0);
  put_text(IFLA_INFO_SLAVE_KIND, "bridge");
  data = put(IFLA_INFO_SLAVE_DATA | NLA_F_NESTED, NULL, 0);
  put_u8(IFLA_BRPORT_MODE, 1);
  close_nest(data);
  close_nest(info);
  finish(m);
  inet_setting(&header, name, IPV4_DEVCONF_ACCEPT_REDIRECTS, 0, 0);
  m = begin(RTM_SETLINK, NLM_F_ACK, &header, sizeof header);
  put_text(IFLA_IFNAME, name);
  info = put(IFLA_AF_SPEC | NLA_F_NESTED, NULL, 0);
  data = put(AF_INET6 | NLA_F_NESTED, NULL, 0);
  put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  close_nest(data);
  close_nest(info);
  finish(m);
  flush(fd, 1, 0, "veth");
}

static void configure_pod(int fd, struct in_addr address, struct in_addr gateway) {
  int index = index_of(get_link(fd, "eth0"));
  struct ifaddrmsg addr = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = (uint32_t)index};
  struct ifinfomsg eth0 = {.ifi_index = index};
  inet_setting(&eth0, NULL, IPV4_DEVCONF_ARP_NOTIFY, 1, 0);
  struct nlmsghdr *m = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &addr, sizeof addr);
  put(IFA_LOCAL, &address, sizeof address);
  put(IFA_ADDRESS, &address, sizeof address);
  finish(m);
  struct ifinfomsg up = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  finish(begin(RTM_SETLINK, 0, &up, sizeof up));
  struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST};
  m = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, &route, sizeof route);
  put(RTA_GATEWAY, &gateway, sizeof gateway);
  put_u32(RTA_OIF, (uint32_t)index);
  finish(m);
  flush(fd, 1, 0, "address and route");
}

static void bring_up_port(int fd, const char *name, int bridge, struct in_addr address) {
  struct ifaddrmsg addr = {.ifa_family = AF_INET, .ifa_index = (uint32_t)bridge};
  struct nlmsghdr *m = begin(RTM_GETADDR, NLM_F_DUMP, &addr, sizeof addr);
  finish(m);
  if (send(fd, out, end, 0) < 0) fail("RTM_GETADDR");
  end = 0;
  for (int done = 0; !done;) {
    ssize_t got = recv(fd, in, sizeof in, 0);
    if (got < 0) fail("RTM_GETADDR");
    for (m = (void *)in; NLMSG_OK(m, (size_t)got); m = NLMSG_NEXT(m, got)) done |= m->nlmsg_type == NLMSG_DONE;
  }
  struct netconfmsg conf = {.ncm_family = AF_INET};
  m = begin(RTM_GETNETCONF, 0, &conf, sizeof conf);
  put_u32(NETCONFA_IFINDEX, (uint32_t)NETCONFA_IFINDEX_ALL);
  finish(m);
  ask(fd, "RTM_GETNETCONF");
  struct ifinfomsg up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  m = begin(RTM_SETLINK, 0, &up, sizeof up);
  put_text(IFLA_IFNAME, name);
  finish(m);
  struct ndmsg neigh = {.ndm_family = AF_INET, .ndm_ifindex = bridge};
  m = begin(RTM_DELNEIGH, NLM_F_ACK, &neigh, sizeof neigh);
  put(NDA_DST, &address, sizeof address);
  finish(m);
  flush(fd, 1, ENOENT, "port and neighbour");
  while (!is_forwarding(get_link(fd, name))) sched_yield();
}

static void put_value(uint16_t type, const void *bytes, size_t size) {
  struct nlattr *outer = put(type | NLA_F_NESTED, NULL, 0);
  put(NFTA_DATA_VALUE, bytes, size);
  close_nest(outer);
}

static void element(const char *set, uint16_t type, const uint32_t *key, const uint32_t *last, size_t words, const uint32_t *data) {
  struct nfgenmsg header = {.nfgen_family = NFPROTO_INET};
  uint16_t flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;
  struct nlmsghdr *m = begin((uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags | NLM_F_ACK, &header, sizeof header);
  put_text(NFTA_SET_ELEM_LIST_TABLE, "wire");
  put_text(NFTA_SET_ELEM_LIST_SET, set);
  struct nlattr *list = put(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, NULL, 0);
  struct nlattr *item = put(NFTA_LIST_ELEM | NLA_F_NESTED, NULL, 0);
  put_value(NFTA_SET_ELEM_KEY, key, words * 4);
  if (last) put_value(NFTA_SET_ELEM_KEY_END, last, words * 4);
  if (data && type == NFT_MSG_NEWSETELEM) put_value(NFTA_SET_ELEM_DATA, data, 8);
  close_nest(item);
  close_nest(list);
  finish(m);
}

/* Every part of a concatenated key takes whole words, in network order. */
static void host_port(uint16_t type, struct in_addr address, int number) {
  uint32_t protocol = htonl(IPPROTO_TCP << 24);
  uint32_t outside = htonl((uint32_t)(FIRST_HOST_PORT + number) << 16), inside = htonl(80 << 16);
  struct nfgenmsg border = {.res_id = htons(NFNL_SUBSYS_NFTABLES)};
  finish(begin(NFNL_MSG_BATCH_BEGIN, 0, &border, sizeof border));
  uint32_t subnet = htonl(ntohl(address.s_addr) & 0xffff0000), broadcast = htonl(ntohl(address.s_addr) | 0xffff);
  element("near4", type, (uint32_t[]){subnet, address.s_addr}, (uint32_t[]){broadcast, address.s_addr}, 2, NULL);
  element("snat4", type, (uint32_t[]){protocol, outside, address.s_addr, inside}, NULL, 4, NULL);
  element("any4", type, (uint32_t[]){protocol, outside}, NULL, 2, (uint32_t[]){address.s_addr, inside});
  finish(begin(NFNL_MSG_BATCH_END, 0, &border, sizeof border));
  int fd = open_netlink(NETLINK_NETFILTER);
  flush(fd, 3, 0, "elements");
  close(fd);
}

int main(void) {
  static char input[65536];
  size_t length = 0;
  for (ssize_t got; (got = read(0, input + length, sizeof input - 1 - length)) > 0;) length += (size_t)got;
  char text[64], directory[256], records[256], record[300], *at;
  int number;
  if (!(at = strstr(input, "\"address\":\"")) || sscanf(at, "\"address\":\"%63[^\"]", text) != 1 ||
      !(at = strstr(input, "\"number\":")) || sscanf(at, "\"number\":%d", &number) != 1 ||
      !(at = strstr(input, "\"directory\":\"")) || sscanf(at, "\"directory\":\"%255[^\"]", directory) != 1 ||
      !(at = strstr(input, "\"records\":\"")) || sscanf(at, "\"records\":\"%255[^\"]", records) != 1)
    fail("stdin");
  struct in_addr address, gateway;
  inet_pton(AF_INET, text, &address);
  inet_pton(AF_INET, "10.88.0.1", &gateway);
  char name[IFNAMSIZ];
  snprintf(name, sizeof name, "wire%d", number);
  int store = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (store < 0) fail(directory);
  int host = open_netlink(NETLINK_ROUTE);

  if (strcmp(getenv("CNI_COMMAND"), "DEL") == 0) {
    struct ifinfomsg header = {0};
    struct nlmsghdr *m = begin(RTM_DELLINK, NLM_F_ACK, &header, sizeof header);
    put_text(IFLA_IFNAME, name);
    finish(m);
    flush(host, 1, 0, "RTM_DELLINK");
    host_port(NFT_MSG_DELSETELEM, address, number);
    unlinkat(store, text, 0);
    for (int i = 0; i < 2; i++) {
      snprintf(record, sizeof record, "%s/%s-%s", records, i ? "portmap" : "bridge", getenv("CNI_CONTAINERID"));
      unlink(record);
    }
    return 0;
  }

  const char *id = getenv("CNI_CONTAINERID");
  int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  int netns = open(getenv("CNI_NETNS"), O_RDONLY | O_CLOEXEC);
  if (home < 0 || netns < 0) fail("netns");
  int lock = lock_record(record, sizeof record, records, "bridge", id);
  write_record(record, O_EXCL);
  reserve(store, text, id);
  int bridge = index_of(get_link(host, "cni0"));
  make_veth(host, name, bridge, netns, id);
  set_sysctl("0", "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
  set_sysctl("0", "/proc/sys/net/ipv6/conf/%s/accept_redirects", name);
  if (setns(netns, CLONE_NEWNET)) fail("setns");
  int pod = open_netlink(NETLINK_ROUTE);
  if (setns(home, CLONE_NEWNET)) fail("setns");
  configure_pod(pod, address, gateway);
  bring_up_port(host, name, bridge, address);
  unlock_record(record, lock);
  lock = lock_record(record, sizeof record, records, "portmap", id);
  write_record(record, O_EXCL);
  host_port(NFT_MSG_NEWSETELEM, address, number);
  struct rtmsg route = {.rtm_family = AF_INET, .rtm_dst_len = 32};
  struct nlmsghdr *m = begin(RTM_GETROUTE, 0, &route, sizeof route);
  put(RTA_DST, &address, sizeof address);
  finish(m);
  ask(host, "RTM_GETROUTE");
  get_link(host, "cni0");
  replace_record(record);
  unlock_record(record, lock);
  printf("{\"ips\":[{\"address\":\"%s/16\"}]}\n", text);
  return 0;
}
