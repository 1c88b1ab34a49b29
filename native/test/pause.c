/*
 * The only program of a test's container image, and the first process of a test's machine.
 *
 *   pause                  keeps a pod's namespaces, and answers every TCP connection on port 8080 with the pod's host name; ends on SIGTERM
 *   pause --until-eof      first process of a PID namespace: takes in orphans, and ends, and with it all others, when standard input does
 *
 * In a container it is process 1, for which a signal without a handler has no effect.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORT = 8080, BACKLOG = 64 };

static void on_term(int number) {
  (void)number;
  _exit(0);
}

/* A socket for both families, or for IPv4 where the namespace has no IPv6. */
static int listening(void) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  const int on = 1;
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  if (fd >= 0 && bind(fd, (struct sockaddr *)&six, sizeof six) == 0 && listen(fd, BACKLOG) == 0) return fd;
  if (fd >= 0) close(fd);
  fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&four, sizeof four) == 0 && listen(fd, BACKLOG) == 0) return fd;
  close(fd);
  return -1;
}

static void serve(void) {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  int server = listening();
  while (server < 0) pause();
  for (;;) {
    int client = accept(server, NULL, NULL);
    if (client < 0) {
      if (errno != EINTR && errno != ECONNABORTED) sleep(1);
      continue;
    }
    send(client, name, strlen(name), MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
    /* The client closes first, so that the port is free at once; but nobody waits for one that never does. */
    struct timeval limit = {.tv_sec = 1};
    char rest;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (recv(client, &rest, 1, 0) > 0) {
    }
    close(client);
  }
}

int main(int count, char **arguments) {
  /* The kernel reaps the children of a process that ignores SIGCHLD. */
  signal(SIGCHLD, SIG_IGN);
  signal(SIGTERM, on_term);
  signal(SIGINT, on_term);
  if (count > 1 && strcmp(arguments[1], "--until-eof") == 0) {
    char rest;
    while (read(STDIN_FILENO, &rest, 1) != 0) {
    }
    return 0;
  }
  serve();
}
