/* A closed-loop load generator: one thread, one epoll set, one request in flight on each connection.
 *
 *     loadgen HOST PORT CONNECTIONS REQUEST_FILE http
 *     loadgen HOST PORT CONNECTIONS REQUEST_FILE echo ANSWER_FILE OPENING_FILE
 *
 * It obeys lines on stdin and answers each with one line on stdout:
 *
 *     run SECONDS     send for that long, then wait for what is still in flight
 *                     -> "ran REQUESTS NANOSECONDS BAD"; BAD counts answers of HTTP/1.1 that are not 200 or differ in
 *                     their body, or echoes that are not ANSWER
 *     pace RATE SECONDS
 *                     send RATE requests a second, evenly, whether or not those before are answered; each on a
 *                     connection that is free, and late if there is none -> "paced REQUESTS NANOSECONDS BAD P50 P99 MAX";
 *                     the last three are nanoseconds from when a request was due to when its answer was there, so that a
 *                     server that keeps others waiting is not measured only while it does not
 *     hold N          open N more connections, one request on each, and leave them idle -> "held N"
 *     alive           -> "alive N", the idle connections the server has not closed
 *
 * Between two commands nothing is in flight: whoever reads the server's CPU time there reads a settled number that
 * belongs to exactly the requests counted. Fatal errors are one line on stderr and exit status 1.
 *
 * OPENING, if it is not empty, is what a connection begins with; the head of a response with status 101 must come back.
 *
 * Only answers framed by Content-Length (RFC 9112 section 6.2) are understood; every answer's head is parsed, since a
 * generator that trusted the first length would not notice a server that starts answering errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 2 << 20, EVENTS = 256, DRAIN_MS = 10000 };

struct connection {
    int fd;
    long long due;
    size_t have;
    char buffer[BUFFER];
};

static char request[BUFFER];
static size_t request_length;
static char body[BUFFER]; /* of the first answer: all others must equal it */
static size_t body_length;
static int body_known;
static int echo; /* an answer is `answer` */
static char answer[BUFFER];
static size_t answer_length;
static char opening[4096];
static size_t opening_length;
static struct sockaddr_in address;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void be_opened(int fd) {
    struct timeval limit = {DRAIN_MS / 1000, 0}, none = {0, 0};
    char head[4096];
    size_t have = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (send(fd, opening, opening_length, MSG_NOSIGNAL) != (ssize_t)opening_length) die("opening: %s", strerror(errno));
    do { /* byte by byte: what follows the head is an answer */
        if (have == sizeof head || recv(fd, head + have, 1, 0) != 1) die("the opening was not answered");
        have++;
    } while (have < 4 || memcmp(head + have - 4, "\r\n\r\n", 4) != 0);
    if (memcmp(head, "HTTP/1.1 101", 12) != 0) die("the opening was answered %.*s", 40, head);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
}

static int open_connection(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s (raise `ulimit -n` to hold more connections)", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect: %s", strerror(errno));
    if (opening_length) be_opened(fd);
    return fd;
}

static void send_request(int fd) {
    ssize_t sent = send(fd, request, request_length, MSG_NOSIGNAL);
    if (sent != (ssize_t)request_length) die("send: %s", sent < 0 ? strerror(errno) : "only a part was taken");
}

/* Length of the answer at the front of the buffer, 0 while incomplete. */
static size_t parse(const char *data, size_t have, int *bad) {
    const char *end = echo ? NULL : memmem(data, have, "\r\n\r\n", 4), *line;
    size_t head, length;
    char *after;
    if (echo) {
        *bad = have >= answer_length && memcmp(data, answer, answer_length) != 0;
        return have < answer_length ? 0 : answer_length;
    }
    if (end == NULL) {
        if (have == BUFFER) die("an answer's head is longer than %d bytes", BUFFER);
        return 0;
    }
    head = (size_t)(end + 4 - data);
    for (line = data; line < end;) {
        line = (const char *)memchr(line, '\n', (size_t)(end + 4 - line)) + 1;
        if (strncasecmp(line, "content-length:", 15) == 0) break;
    }
    if (line >= end) die("an answer has no Content-Length: %.*s", (int)(head - 4), data);
    length = strtoul(line + 15, &after, 10);
    if (*after != '\r' && *after != ' ') die("Content-Length is no number: %.*s", (int)(head - 4), data);
    if (head + length > BUFFER) die("an answer is longer than %d bytes", BUFFER);
    if (have < head + length) return 0;
    if (!body_known) {
        memcpy(body, data + head, length);
        body_length = length;
        body_known = 1;
    }
    *bad = have < 12 || memcmp(data, "HTTP/1.1 200", 12) != 0 || length != body_length ||
           memcmp(data + head, body, length) != 0;
    return head + length;
}

/* Read what is there; 1 when the answer is complete. */
static int receive(struct connection *c, int *bad) {
    size_t total;
    ssize_t got = recv(c->fd, c->buffer + c->have, BUFFER - c->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got < 0) die("recv: %s", strerror(errno));
    if (got == 0) die("the server closed a keep-alive connection");
    c->have += (size_t)got;
    total = parse(c->buffer, c->have, bad);
    if (total == 0) return 0;
    if (c->have > total) die("%zu bytes follow an answer nobody else asked for", c->have - total);
    c->have = 0;
    return 1;
}

static void run(struct connection *all, int count, int ep, double seconds) {
    struct epoll_event events[EVENTS];
    long long start = now(), end = start + (long long)(seconds * 1e9), t = start, requests = 0, wrong = 0;
    int in_flight = count, i, n, bad;
    for (i = 0; i < count; i++) send_request(all[i].fd);
    while (in_flight > 0) {
        n = epoll_wait(ep, events, EVENTS, DRAIN_MS);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) die("no answer for %d s with %d requests in flight", DRAIN_MS / 1000, in_flight);
        t = now();
        for (i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!receive(c, &bad)) continue;
            requests++;
            wrong += bad;
            if (t < end)
                send_request(c->fd);
            else
                in_flight--;
        }
    }
    printf("ran %lld %lld %lld\n", requests, t - start, wrong);
}

static int ascending(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static void pace(struct connection *all, int count, int ep, double rate, double seconds) {
    struct epoll_event events[EVENTS];
    struct connection **free_ones = malloc(sizeof *free_ones * (size_t)count);
    long long total = (long long)(rate * seconds), sent = 0, done = 0, wrong = 0, start, t, last;
    long long *taken = malloc(sizeof *taken * (size_t)(total > 0 ? total : 1));
    double interval = 1e9 / rate;
    int n, i, bad, left = 0;
    if (total < 1 || free_ones == NULL || taken == NULL) die("cannot make %lld requests", total);
    for (i = count; i > 0; i--) free_ones[left++] = &all[i - 1];
    start = last = t = now();
    while (done < total) {
        while (left > 0 && sent < total && start + (long long)(interval * (double)sent) <= t) {
            struct connection *c = free_ones[--left];
            c->due = start + (long long)(interval * (double)sent++);
            send_request(c->fd);
        }
        n = epoll_wait(ep, events, EVENTS, 0); /* a millisecond is too coarse to wait for the next one */
        t = now();
        if (n < 0 && errno == EINTR) continue;
        if (n > 0) last = t;
        if (t - last > DRAIN_MS * 1000000LL) die("no answer for %d s at %g requests/s", DRAIN_MS / 1000, rate);
        for (i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!receive(c, &bad)) continue;
            wrong += bad;
            taken[done++] = now() - c->due;
            free_ones[left++] = c;
        }
    }
    t = now() - start;
    qsort(taken, (size_t)done, sizeof *taken, ascending);
    printf("paced %lld %lld %lld %lld %lld %lld\n", done, t, wrong, taken[done / 2], taken[done * 99 / 100],
           taken[done - 1]);
    free(taken);
    free(free_ones);
}

static int *idle;
static int idle_count;

static void hold(int more) {
    static struct connection c;
    struct timeval limit = {DRAIN_MS / 1000, 0}; /* a server that takes no more connections must not hang us */
    int i, bad = 0;
    idle = realloc(idle, sizeof *idle * (size_t)(idle_count + more));
    if (idle == NULL) die("no memory for %d connections", more);
    for (i = 0; i < more; i++) {
        c.fd = open_connection();
        c.have = 0;
        setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        send_request(c.fd);
        errno = 0;
        while (!receive(&c, &bad))
            if (errno == EAGAIN) die("no answer on idle connection %d for %d s", idle_count, DRAIN_MS / 1000);
        if (bad) die("a wrong answer on idle connection %d", idle_count);
        idle[idle_count++] = c.fd;
    }
    printf("held %d\n", idle_count);
}

static void alive(void) {
    int i, n = 0;
    for (i = 0; i < idle_count; i++) {
        struct pollfd p = {idle[i], POLLIN | POLLRDHUP, 0};
        n += poll(&p, 1, 0) == 0; /* anything to report on an idle connection is its end */
    }
    printf("alive %d\n", n);
}

static size_t load(const char *path, char *into, size_t size) {
    FILE *file = fopen(path, "rb");
    size_t length;
    if (file == NULL) die("%s: %s", path, strerror(errno));
    length = fread(into, 1, size, file);
    fclose(file);
    return length;
}

int main(int argc, char **argv) {
    struct rlimit limit;
    struct connection *all;
    char line[64];
    int i, count, ep = epoll_create1(EPOLL_CLOEXEC);
    if (argc != 6 && argc != 8) die("usage: loadgen HOST PORT CONNECTIONS REQUEST_FILE http|echo ANSWER OPENING");
    echo = argc == 8;
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) die("HOST must be an IPv4 address, not %s", argv[1]);
    count = atoi(argv[3]);
    if (count < 1) die("CONNECTIONS must be at least 1, not %s", argv[3]);
    request_length = load(argv[4], request, sizeof request);
    if (echo) {
        answer_length = load(argv[6], answer, sizeof answer);
        opening_length = load(argv[7], opening, sizeof opening);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    all = calloc((size_t)count, sizeof *all);
    if (all == NULL) die("no memory for %d connections", count);
    for (i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].fd = open_connection();
        if (epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        double seconds;
        double rate;
        int more;
        if (sscanf(line, "run %lf", &seconds) == 1)
            run(all, count, ep, seconds);
        else if (sscanf(line, "pace %lf %lf", &rate, &seconds) == 2)
            pace(all, count, ep, rate, seconds);
        else if (sscanf(line, "hold %d", &more) == 1)
            hold(more);
        else if (strcmp(line, "alive\n") == 0)
            alive();
        else
            die("unknown command: %s", line);
    }
    return 0;
}
