/*
 * The loop of a userspace tunnel as flannel's udp backend has it, for comparison: one packet for each system call, no batches, no offloads, no larger
 * buffers. Both directions are tried in turn until neither has anything more, then poll waits. Peers are searched from the first to the last.
 *
 *   relay DEVICE ADDRESS PORT {SUBNET LENGTH PEER}...
 *
 * DEVICE is a TUN device that is there. Ends on a signal.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PEERS = 64, MAX_PACKET = 65536 };

static struct peer {
  uint32_t subnet, mask;
  struct sockaddr_in address;
} peers[MAX_PEERS];
static int peer_count;

static char packet[MAX_PACKET];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static const struct sockaddr_in *find_peer(uint32_t destination) {
  for (int i = 0; i < peer_count; i++) {
    if ((destination & peers[i].mask) != peers[i].subnet) continue;
    if (i > 0) {
      struct peer hit = peers[i];
      peers[i] = peers[0];
      peers[0] = hit;
    }
    return &peers[0].address;
  }
  return NULL;
}

static bool one_hop_less(struct iphdr *header) {
  if (header->ttl <= 1) return false;
  header->ttl--;
  uint32_t check = header->check + htons(0x0100);
  header->check = (uint16_t)(check + (check >= 0xffff));
  return true;
}

static bool from_device(int device, int udp) {
  ssize_t length = read(device, packet, sizeof packet);
  if (length < 0) return false;
  struct iphdr *header = (struct iphdr *)packet;
  if ((size_t)length < sizeof *header || header->version != 4) return true;
  const struct sockaddr_in *to = find_peer(header->daddr);
  if (to == NULL || !one_hop_less(header)) return true;
  sendto(udp, packet, (size_t)length, 0, (const struct sockaddr *)to, sizeof *to);
  return true;
}

static bool from_peers(int device, int udp) {
  ssize_t length = recv(udp, packet, sizeof packet, MSG_DONTWAIT);
  if (length < 0) return false;
  struct iphdr *header = (struct iphdr *)packet;
  if ((size_t)length < sizeof *header || header->version != 4 || !one_hop_less(header)) return true;
  while (write(device, packet, (size_t)length) < 0 && errno == EAGAIN) continue;
  return true;
}

static int open_device(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (fd < 0) fail("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(fd, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
  return fd;
}

static struct sockaddr_in address_of(const char *text, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) fail(text);
  return address;
}

int main(int argc, char **argv) {
  if (argc < 7 || (argc - 4) % 3 != 0 || (argc - 4) / 3 > MAX_PEERS) {
    fprintf(stderr, "usage: relay DEVICE ADDRESS PORT {SUBNET LENGTH PEER}...\n");
    return 2;
  }
  int port = atoi(argv[3]);
  int device = open_device(argv[1]);
  int udp = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in own = address_of(argv[2], port);
  if (udp < 0 || bind(udp, (struct sockaddr *)&own, sizeof own) < 0) fail("socket");
  for (int i = 4; i < argc; i += 3) {
    int length = atoi(argv[i + 1]);
    uint32_t mask = length == 0 ? 0 : htonl(~0u << (32 - length));
    peers[peer_count++] = (struct peer){address_of(argv[i], 0).sin_addr.s_addr & mask, mask, address_of(argv[i + 2], port)};
  }
  struct pollfd fds[2] = {{.fd = device, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) fail("poll");
    for (bool more = true; more;) {
      more = from_device(device, udp);
      more |= from_peers(device, udp);
    }
  }
}
