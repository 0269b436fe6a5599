/*
 * The floor under every figure: a relay in C that does nothing but hand a publisher's frame to a group's listeners.
 *
 *     floor PORT one      one send() for each delivery, as most servers do
 *     floor PORT joined   the frames of one turn of the loop joined: one send() for each listener
 *
 * It speaks as much of the protocol as the bench needs (auth_success, subscribe with one group, publish), stores
 * nothing, numbers nothing, checks no token and bounds no queue: what is left is what the kernel asks for.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define GROUPS 8192

typedef uint32_t u32;
typedef uint8_t u8;

struct conn { int fd; bool open; int group; char *in, *out; u32 in_len, in_cap, out_len, out_off, out_cap; };
struct group { char name[64]; struct conn **member; u32 n, cap; char *tick; u32 tick_len, tick_cap; bool dirty; };

static struct group groups[GROUPS];
static u32 n_groups, dirty[GROUPS], n_dirty;
static bool joined;
static int ep;

static void *more(void *p, size_t n) {
    p = realloc(p, n);
    if (!p) exit(3);
    return p;
}

/* RFC 3174, for Sec-WebSocket-Accept (RFC 6455 §4.2.2). */
static void sha1(const u8 *data, size_t len, u8 out[20]) {
    u32 h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    size_t blocks = (len + 8) / 64 + 1;
    u8 *m = calloc(blocks, 64);
    memcpy(m, data, len);
    m[len] = 0x80;
    for (int i = 0; i < 8; i++) m[blocks * 64 - 1 - (size_t)i] = (u8)((uint64_t)len * 8 >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        for (int i = 0; i < 16; i++) w[i] = (u32)m[b * 64 + (size_t)i * 4] << 24 | (u32)m[b * 64 + (size_t)i * 4 + 1] << 16 | (u32)m[b * 64 + (size_t)i * 4 + 2] << 8 | m[b * 64 + (size_t)i * 4 + 3];
        for (int i = 16; i < 80; i++) { u32 x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]; w[i] = x << 1 | x >> 31; }
        u32 a = h[0], c = h[1], d = h[2], e = h[3], f = h[4];
        for (int i = 0; i < 80; i++) {
            u32 k = i < 20 ? ((c & d) | (~c & e)) + 0x5a827999 : i < 40 ? (c ^ d ^ e) + 0x6ed9eba1 : i < 60 ? ((c & d) | (c & e) | (d & e)) + 0x8f1bbcdc : (c ^ d ^ e) + 0xca62c1d6;
            u32 t = (a << 5 | a >> 27) + k + f + w[i];
            f = e; e = d; d = c << 30 | c >> 2; c = a; a = t;
        }
        h[0] += a; h[1] += c; h[2] += d; h[3] += e; h[4] += f;
    }
    free(m);
    for (int i = 0; i < 20; i++) out[i] = (u8)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const u8 *in, char *out) {
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    u8 p[21] = {0};
    memcpy(p, in, 20);
    for (int i = 0, k = 0; i < 21; i += 3) {
        u32 v = (u32)p[i] << 16 | (u32)p[i + 1] << 8 | p[i + 2];
        for (int s = 18; s >= 0; s -= 6) out[k++] = abc[v >> s & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

static void leave(struct conn *c) {
    if (c->group >= 0) {
        struct group *g = &groups[c->group];
        for (u32 i = 0; i < g->n; i++)
            if (g->member[i] == c) { g->member[i] = g->member[--g->n]; break; }
    }
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void put(struct conn *c, const char *p, u32 n) {
    if (c->out_len == c->out_off) {
        ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k == (ssize_t)n) return;
        if (k < 0 && errno != EAGAIN) return;      /* the end of it is read soon */
        if (k > 0) { p += k; n -= (u32)k; }
        c->out_len = c->out_off = 0;
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    }
    if (c->out_len + n > c->out_cap) c->out = more(c->out, c->out_cap = (c->out_len + n) * 2);
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
}

static u32 head(u8 *at, u32 n) {
    at[0] = 0x81;
    if (n < 126) { at[1] = (u8)n; return 2; }
    if (n < 65536) { at[1] = 126; at[2] = (u8)(n >> 8); at[3] = (u8)n; return 4; }
    at[1] = 127;
    memset(at + 2, 0, 4);
    for (int i = 0; i < 4; i++) at[6 + i] = (u8)(n >> (24 - 8 * i));
    return 10;
}

static void put_text(struct conn *c, const char *text) {
    char f[512];
    u32 n = (u32)strlen(text), k = head((u8 *)f, n);
    memcpy(f + k, text, n);
    put(c, f, k + n);
}

static int group_of(const char *name, u32 n) {
    u32 hash = 2166136261u;
    for (u32 i = 0; i < n; i++) hash = (hash ^ (u8)name[i]) * 16777619u;
    for (u32 i = hash % GROUPS;; i = (i + 1) % GROUPS) {
        if (!groups[i].name[0]) {
            if (++n_groups >= GROUPS) exit(4);
            memcpy(groups[i].name, name, n);
            return (int)i;
        }
        if (!strncmp(groups[i].name, name, n) && !groups[i].name[n]) return (int)i;
    }
}

static void relay(struct group *g, const char *p, u32 n) {
    u8 h[10];
    u32 k = head(h, n);
    if (g->tick_len + k + n > g->tick_cap) g->tick = more(g->tick, g->tick_cap = (g->tick_len + k + n) * 2);
    memcpy(g->tick + g->tick_len, h, k);
    memcpy(g->tick + g->tick_len + k, p, n);
    g->tick_len += k + n;
    if (joined) {
        if (!g->dirty) { g->dirty = true; dirty[n_dirty++] = (u32)(g - groups); }
        return;
    }
    for (u32 i = 0; i < g->n; i++) put(g->member[i], g->tick, g->tick_len);
    g->tick_len = 0;
}

static const char *after(const char *p, u32 n, const char *what, u32 *left) {
    char *at = memmem(p, n, what, strlen(what));
    if (!at) return NULL;
    at += strlen(what);
    *left = n - (u32)(at - p);
    return at;
}

static void on_text(struct conn *c, const char *p, u32 n) {
    u32 left = 0;
    const char *at;
    if ((at = after(p, n, "\"group_ids\":[\"", &left))) {
        u32 k = (u32)strcspn(at, "\"");
        c->group = group_of(at, k < 63 ? k : 63);
        struct group *g = &groups[c->group];
        if (g->n == g->cap) g->member = more(g->member, sizeof *g->member * (g->cap = g->cap * 2 + 16));
        g->member[g->n++] = c;
        put_text(c, "{\"type\":\"subscribed\",\"data\":{},\"server_timestamp\":0}");
    } else if ((at = after(p, n, "\"publish\",\"group_id\":\"", &left))) {
        u32 k = (u32)strcspn(at, "\"");
        const char *event = after(at, left, "\"event\":", &n);
        if (event) relay(&groups[group_of(at, k < 63 ? k : 63)], event, n - 1);
    }
}

static bool on_bytes(struct conn *c) {
    u32 used = 0;
    if (!c->open) {
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4), key[128], accept[32], answer[256];
        if (!end) return true;
        u32 left;
        const char *at = after(c->in, c->in_len, "Sec-WebSocket-Key: ", &left);
        if (!at) return false;
        u32 k = (u32)strcspn(at, "\r");
        if (k > 60) return false;
        memcpy(key, at, k);
        strcpy(key + k, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        u8 digest[20];
        sha1((u8 *)key, strlen(key), digest);
        base64(digest, accept);
        int n = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
        put(c, answer, (u32)n);
        put_text(c, "{\"type\":\"auth_success\",\"data\":{},\"server_timestamp\":0}");
        used = (u32)(end - c->in) + 4;
        c->open = true;
    }
    while (c->in_len - used >= 6) {
        u8 *f = (u8 *)c->in + used;
        u32 n = f[1] & 127, k = 2;
        if (n == 127) return false;
        if (n == 126) { n = (u32)f[2] << 8 | f[3]; k = 4; }
        if (c->in_len - used < k + 4 + n) break;
        u8 *mask = f + k, *p = mask + 4;
        for (u32 i = 0; i < n; i++) p[i] ^= mask[i & 3];
        used += k + 4 + n;
        if ((f[0] & 15) == 8) return false;
        if ((f[0] & 15) == 1) on_text(c, (char *)p, n);
    }
    memmove(c->in, c->in + used, c->in_len - used);
    c->in_len -= used;
    return true;
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "floor PORT one|joined\n"); return 2; }
    joined = !strcmp(argv[2], "joined");
    signal(SIGPIPE, SIG_IGN);
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(0x7f000001)};
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) { perror("floor"); return 1; }
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, ready, 512, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (!c) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    c = calloc(1, sizeof *c);
                    c->fd = fd;
                    c->group = -1;
                    e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
                }
                continue;
            }
            if (ready[i].events & EPOLLOUT && c->out_len > c->out_off) {
                ssize_t k = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
                if (k > 0) c->out_off += (u32)k;
                if (c->out_off == c->out_len) {
                    c->out_len = c->out_off = 0;
                    e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
                }
            }
            if (!(ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            static char buf[READ_BYTES];
            ssize_t k = recv(c->fd, buf, sizeof buf, 0);
            if (k < 0 && errno == EAGAIN) continue;
            if (k <= 0) { leave(c); continue; }
            if (c->in_len + (u32)k > c->in_cap) c->in = more(c->in, c->in_cap = c->in_len + (u32)k);
            memcpy(c->in + c->in_len, buf, (size_t)k);
            c->in_len += (u32)k;
            if (!on_bytes(c)) { leave(c); continue; }
            if (!c->in_len) { free(c->in); c->in = NULL; c->in_cap = 0; }
        }
        for (u32 d = 0; d < n_dirty; d++) {
            struct group *g = &groups[dirty[d]];
            for (u32 i = 0; i < g->n; i++) put(g->member[i], g->tick, g->tick_len);
            g->tick_len = 0;
            g->dirty = false;
        }
        n_dirty = 0;
    }
}
