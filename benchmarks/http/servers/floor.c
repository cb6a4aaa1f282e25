/* The floor of any HTTP server on this machine: epoll, one recv and one send for each request, no parsing.
 *
 *     floor PORT ANSWER_FILE
 *
 * Whatever arrives is taken for one whole request and answered with the file's bytes. What is left is the cost of the
 * kernel's TCP: a server cannot be cheaper without asking the kernel for something else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    static char answer[32768], buffer[32768];
    size_t length;
    int one = 1, i, n, ep = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (file == NULL) {
        fputs("usage: floor PORT ANSWER_FILE\n", stderr);
        return 1;
    }
    length = fread(answer, 1, sizeof answer, file);
    fclose(file);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 4096), "listen");
    event.data.fd = listener;
    check(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    for (;;) {
        n = epoll_wait(ep, events, EVENTS, -1);
        for (i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = fd;
                check(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
            } else if (recv(fd, buffer, sizeof buffer, 0) <= 0 || send(fd, answer, length, MSG_NOSIGNAL) < 0) {
                close(fd);
            }
        }
    }
}
