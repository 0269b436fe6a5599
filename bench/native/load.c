/*
 * The load side of the bench: many WebSocket listeners and a few publishers in one thread on epoll.
 *
 * It is driven by lines on standard input and answers with one JSON object a line on standard output
 * (the words are listed at `command()`).  Everything that is sent is prepared before the clock runs: a template is
 * copied nowhere, only the twelve digits of its event's number are written into it.  Client frames are masked with
 * the key 0 (RFC 6455 §5.3 asks for a key, not for which), so masking costs nothing.
 *
 * An event is recognised on arrival by the text MARK and the twelve digits after it, which stand inside the opaque
 * payload; the place of the last hit is tried first, so a frame costs a compare and not a search.
 *
 * Linux only (epoll, timerfd).  It never decodes JSON and never checks UTF-8: it measures, it does not judge.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MARK "OrbitalBench"
#define MARK_LEN 12
#define DIGITS 12
#define RING (1u << 21)                 /* events remembered; far more than can be in flight */
#define READ_BYTES (512 * 1024)         /* one recv: the knee lies near 256 KiB, above it nothing is won */
#define CARRY_ROOM (4 * 1024 * 1024)    /* longest unfinished frame or HTTP answer that is kept */
#define FIFO (1u << 14)                 /* unanswered frames of one publisher */
#define BUCKETS (64 * 32)
#define NO_EVENT UINT32_MAX

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

enum kind { LISTENER, PUBLISHER_WS, PUBLISHER_HTTP, BATCH_HTTP };
enum state { CLOSED, CONNECTING, HANDSHAKE, SETUP, READY, FAILED };

struct conn {
    int fd;
    u8 kind, state, greeted, stalled, binary, raw, want_out;
    int group;
    u32 received, steps, got, fifo_head, fifo_tail, event, source;
    u64 started_ns;
    char *head, **step;
    u32 head_len, *step_len;
    char *carry, *out;
    u32 carry_len, carry_cap, out_len, out_off, out_cap;
    u32 *fifo;
};

struct template { char *bytes; u32 len, digits_at; int group, publisher; };
struct event { u64 at_ns; u32 number; int left; u8 waiting, measured, open; };
struct hist { u64 n, sum, max, bucket[BUCKETS]; };

static int ep = -1, timer_fd = -1;
static struct sockaddr_in target, control;   /* control: where publishers that speak no WebSocket send lines to */
static int sources = 1;
static struct conn **conns, **https;
static u32 n_conns, n_https, idle_head, idle_tail, *idle_ring;   /* free connections, the longest free first, lest a server's keep-alive end them */
static struct conn **publishers;
static u32 n_publishers;
static struct template *templates;
static u32 n_templates, next_publisher;
static int *members;                    /* group → ready listeners that read */
static int n_groups;
static struct event *ring;
static char *buf;
static bool answers;                    /* the publish path answers each event */
static bool many_marks;                 /* a frame may hold several events (NATS, MQTT) */

/* one run */
static bool running, in_window, closed_loop;
static u32 next_number, last_number, in_flight, backlog_head, backlog_tail, *backlog;
static u64 deliveries, bytes_in, frames_in, answered, finished, errors, extra, pings, reads, cuts;
static u64 opening, ready_total, failed_total, full_total;
static u32 want;
static struct hist h_each, h_last, h_answer, h_full;
static char first_error[512];
static u32 mark_hint;
static u64 loop_now, busy_ns;
static bool spin, spinning;             /* never sleep while the clock runs */

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static void die(const char *format, ...) {
    va_list list;
    va_start(list, format);
    printf("{\"ev\":\"fatal\",\"message\":\"");
    vprintf(format, list);
    printf("\"}\n");
    fflush(stdout);
    va_end(list);
    exit(1);
}

static void *grab(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) die("out of memory");
    return p;
}

/* Histograms: 32 steps for each power of two, so a figure is right to 3 %. */
static void hist_add(struct hist *h, u64 v) {
    int shift = v < 32 ? 0 : 63 - __builtin_clzll(v) - 5;
    u32 at = v < 32 ? (u32)v : (u32)(shift * 32 + 32 + (int)((v >> shift) & 31));
    if (at >= BUCKETS) at = BUCKETS - 1;
    h->bucket[at]++;
    h->n++;
    h->sum += v;
    if (v > h->max) h->max = v;
}

static u64 hist_value(u32 at) {
    if (at < 32) return at;
    u32 shift = (at - 32) / 32;
    return ((u64)(32 + (at - 32) % 32) << shift) + ((1ull << shift) >> 1);
}

static double hist_at(struct hist *h, double q) {
    u64 need = (u64)(q * (double)h->n + 0.999999), seen = 0;
    if (!h->n) return 0;
    for (u32 i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= need) return (double)hist_value(i);
    }
    return (double)h->max;
}

static void hist_print(const char *name, struct hist *h, bool whole) {
    printf(",\"%s\":{\"n\":%llu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f", name,
           (unsigned long long)h->n, h->n ? (double)h->sum / (double)h->n / 1e3 : 0, hist_at(h, .5) / 1e3, hist_at(h, .9) / 1e3,
           hist_at(h, .99) / 1e3, hist_at(h, .999) / 1e3, (double)h->max / 1e3);
    if (whole) {
        bool first = true;
        printf(",\"hist\":[");
        for (u32 i = 0; i < BUCKETS; i++)
            if (h->bucket[i]) {
                printf("%s[%.2f,%llu]", first ? "" : ",", (double)hist_value(i) / 1e3, (unsigned long long)h->bucket[i]);
                first = false;
            }
        printf("]");
    }
    printf("}");
}

static void note_error(const char *text, u32 len) {
    errors++;
    if (first_error[0]) return;
    u32 k = 0;
    for (u32 i = 0; i < len && k < sizeof first_error - 1; i++)
        first_error[k++] = (text[i] == '"' || text[i] == '\\' || (u8)text[i] < 32 || (u8)text[i] > 126) ? '\'' : text[i];
    first_error[k] = 0;
}

/* Sockets */
static void watch(struct conn *c, u32 events, bool add) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(ep, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &e);
}

static void finish_setup(struct conn *c);
static void idle_http(struct conn *c);

static void close_conn(struct conn *c, bool failed, bool reset) {
    if (c->fd < 0) return;
    if (reset) {
        struct linger l = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    }
    close(c->fd);
    c->fd = -1;
    if (c->state == READY && c->kind == LISTENER && !c->stalled && c->group >= 0) members[c->group]--;
    if (c->state == READY && c->kind == LISTENER) ready_total--;
    if (c->state != READY && c->state != CLOSED && c->state != FAILED) opening--;
    c->state = failed ? FAILED : CLOSED;
    if (failed) failed_total++;
    free(c->carry);
    c->carry = NULL;
    c->carry_len = c->carry_cap = 0;
    c->out_len = c->out_off = 0;
}

static void send_bytes(struct conn *c, const char *data, u32 len) {
    if (c->fd < 0) return;
    if (c->out_len == c->out_off) {
        ssize_t k = send(c->fd, data, len, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN) {
            note_error("send failed", 11);
            return;
        }
        if (k < 0) k = 0;
        data += k;
        len -= (u32)k;
        c->out_len = c->out_off = 0;
    }
    if (!len) return;
    if (c->out_len + len > c->out_cap) {
        c->out_cap = (c->out_len + len) * 2;
        c->out = realloc(c->out, c->out_cap);
        if (!c->out) die("out of memory");
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    if (!c->want_out) {
        c->want_out = 1;
        watch(c, EPOLLIN | EPOLLOUT, false);
    }
}

static u32 frame_head(u8 *at, u8 opcode, u32 len) {
    u32 k = 0;
    at[k++] = (u8)(0x80 | opcode);
    if (len < 126) at[k++] = (u8)(0x80 | len);
    else if (len < 65536) { at[k++] = 0x80 | 126; at[k++] = (u8)(len >> 8); at[k++] = (u8)len; }
    else { at[k++] = 0x80 | 127; for (int i = 7; i >= 0; i--) at[k++] = (u8)((u64)len >> (8 * i)); }
    memset(at + k, 0, 4);               /* the mask key 0 leaves the payload as it is */
    return k + 4;
}

static void send_frame(struct conn *c, u8 opcode, const char *data, u32 len) {
    char *p = malloc(len + 14);
    if (!p) die("out of memory");
    u32 k = frame_head((u8 *)p, opcode, len);
    memcpy(p + k, data, len);
    send_bytes(c, p, k + len);
    free(p);
}

static bool open_conn(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) { note_error("no more descriptors", 19); c->state = FAILED; failed_total++; return false; }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->stalled) {
        int small = 4096;               /* a reader that stopped must not hide megabytes in its own kernel */
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    if (sources > 1) {
        /* An address of its own for each block of listeners: one pair of addresses has 28,232 ports. */
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001u + c->source % (u32)sources)};
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) note_error("bind failed", 11);
    }
    c->state = CONNECTING;
    c->received = c->got = 0;
    c->want_out = 0;
    c->fifo_head = c->fifo_tail = 0;
    c->started_ns = now_ns();
    opening++;
    if (connect(c->fd, (struct sockaddr *)(c->raw ? &control : &target), sizeof target) && errno != EINPROGRESS) {
        note_error("connect failed", 14);
        close_conn(c, true, false);
        return false;
    }
    watch(c, EPOLLOUT | EPOLLIN, true);
    return true;
}

static void advance(struct conn *c) {
    /* Setup is a dialogue: the server's frames and our prepared ones take turns. */
    u32 due = c->received + (c->greeted ? 0 : 1);
    if (due >= 1 && due <= c->steps) send_frame(c, c->binary ? 2 : 1, c->step[due - 1], c->step_len[due - 1]);
    if (due > c->steps) finish_setup(c);
}

static void finish_setup(struct conn *c) {
    c->state = READY;
    opening--;
    if (c->kind == LISTENER) {
        ready_total++;
        if (c->group >= 0 && !c->stalled) members[c->group]++;
        if (c->stalled) epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
        if (!want) hist_add(&h_full, now_ns() - c->started_ns);
    } else if (c->kind == PUBLISHER_HTTP || c->kind == BATCH_HTTP) idle_http(c);
}

/* Publishing */
static void publish_on(struct conn *c, struct template *t, u32 number) {
    char digits[DIGITS + 1];
    snprintf(digits, sizeof digits, "%012u", number);
    memcpy(t->bytes + t->digits_at, digits, DIGITS);
    if (c->kind == PUBLISHER_HTTP) c->event = number;
    else if (answers) c->fifo[c->fifo_tail++ % FIFO] = number;
    send_bytes(c, t->bytes, t->len);
}

static void launch(u64 at_ns) {
    u32 number = next_number++;
    struct template *t = &templates[number % n_templates];
    struct event *e = &ring[number % RING];
    if (e->open) extra++;               /* so old that its place is taken: counted as missing in the end */
    *e = (struct event){.at_ns = at_ns, .number = number, .left = t->group >= 0 ? members[t->group] : 0,
                        .waiting = answers, .measured = in_window, .open = 1};
    in_flight++;
    if (n_https) {
        if (idle_head == idle_tail) {
            backlog[backlog_tail++ % RING] = number;
            return;
        }
        publish_on(https[idle_ring[idle_head++ % n_https]], t, number);
        return;
    }
    struct conn *c = t->publisher >= 0 ? publishers[(u32)t->publisher % n_publishers] : publishers[next_publisher++ % n_publishers];
    publish_on(c, t, number);
}

static void event_closed(struct event *e) {
    if (!e->open || e->left > 0 || e->waiting) return;
    e->open = 0;
    in_flight--;
    if (in_window) finished++;
    if (closed_loop && running && next_number < last_number) launch(now_ns());
}

static void event_answered(u32 number) {
    struct event *e = &ring[number % RING];
    if (e->number != number || !e->open) return;
    if (in_window) answered++;
    if (e->measured) hist_add(&h_answer, now_ns() - e->at_ns);
    e->waiting = 0;
    event_closed(e);
}

static void event_refused(u32 number) {
    struct event *e = &ring[number % RING];
    if (e->number != number || !e->open) return;
    e->waiting = 0;
    e->left = 0;
    event_closed(e);
}

static void event_delivered(struct conn *c, u32 number) {
    if (in_window) deliveries++;
    if (want && c->kind == LISTENER) {
        if (++c->got == want) { full_total++; hist_add(&h_full, loop_now - c->started_ns); }
        return;
    }
    struct event *e = &ring[number % RING];
    if (e->number != number || !e->open) return;
    if (e->left <= 0) { extra++; return; }
    if (e->measured) hist_add(&h_each, loop_now - e->at_ns);
    if (--e->left == 0) {
        if (e->measured) hist_add(&h_last, loop_now - e->at_ns);
        event_closed(e);
    }
}

static void idle_http(struct conn *c) {
    for (u32 i = 0; i < n_https; i++)
        if (https[i] == c) {            /* only at setup: afterwards `source` says where it stands */
            c->source = i;
            idle_ring[idle_tail++ % n_https] = i;
            return;
        }
}

/* Incoming frames */
static u32 number_at(const char *p) {
    u32 v = 0;
    for (int i = 0; i < DIGITS; i++) v = v * 10 + (u32)(p[i] - '0');
    return v;
}

static void take_payload(struct conn *c, char *p, u32 len) {
    if (in_window) frames_in++;
    /* Heartbeats of the kinds of server that are measured, in any state. */
    if (len < 160) {
        if (len == 1 && p[0] == '2') { pings++; send_frame(c, 1, "3", 1); return; }
        if (len > 14 && p[0] == '{' && memmem(p, len, "\"type\":\"ping\"", 13)) {
            static const char pong[] = "{\"type\":\"pong\",\"data\":{\"client_time\":1700000000000},\"timestamp\":1700000000000}";
            pings++;
            send_frame(c, 1, pong, sizeof pong - 1);
            return;
        }
        if (len == 6 && !memcmp(p, "PING\r\n", 6)) { pings++; send_frame(c, 2, "PONG\r\n", 6); return; }
    }
    if (c->state == SETUP) {
        c->received++;
        if (len > 16 && memmem(p, len < 64 ? len : 64, "\"type\":\"error\"", 14)) {
            note_error(p, len);
            close_conn(c, true, true);
            return;
        }
        advance(c);
        return;
    }
    char *end = p + len, *at = p;
    if (len >= mark_hint + MARK_LEN + DIGITS && !memcmp(p + mark_hint, MARK, MARK_LEN)) at = p + mark_hint;
    else {
        at = memmem(p, len, MARK, MARK_LEN);
        if (at) mark_hint = (u32)(at - p);
    }
    if (at) {
        while (at && at + MARK_LEN + DIGITS <= end) {
            if (c->kind == LISTENER) event_delivered(c, number_at(at + MARK_LEN));
            if (!many_marks) return;
            at += MARK_LEN + DIGITS;
            at = memmem(at, (size_t)(end - at), MARK, MARK_LEN);
        }
        return;
    }
    if (c->kind == PUBLISHER_WS && answers && c->fifo_head != c->fifo_tail) {
        u32 number = c->fifo[c->fifo_head++ % FIFO];
        if (memmem(p, len < 64 ? len : 64, "\"type\":\"error\"", 14)) { note_error(p, len); event_refused(number); }
        else event_answered(number);
        return;
    }
    if (len > 16 && memmem(p, len < 64 ? len : 64, "\"type\":\"error\"", 14)) note_error(p, len);
}

/* Parse all whole frames of [p, p + n); the number of bytes used. */
static u32 take_frames(struct conn *c, char *p, u32 n) {
    u32 used = 0;
    while (n - used >= 2 && c->fd >= 0) {
        u8 *f = (u8 *)p + used;
        u64 len = f[1] & 127;
        u32 head = 2;
        if (len == 126) {
            if (n - used < 4) break;
            len = (u64)f[2] << 8 | f[3];
            head = 4;
        } else if (len == 127) {
            if (n - used < 10) break;
            len = 0;
            for (int i = 0; i < 8; i++) len = len << 8 | f[2 + i];
            head = 10;
        }
        if (len > CARRY_ROOM) die("a frame of %llu bytes", (unsigned long long)len);
        if (n - used < head + len) break;
        used += head + (u32)len;
        char *payload = (char *)f + head;
        switch (f[0] & 15) {
        case 0: case 1: case 2:
            take_payload(c, payload, (u32)len);
            break;
        case 8: {
            u32 code = len >= 2 ? (u32)((u8)payload[0] << 8 | (u8)payload[1]) : 1005;
            char text[200];
            snprintf(text, sizeof text, "closed by the server with %u %.*s", code, len > 2 ? (int)(len - 2 > 100 ? 100 : len - 2) : 0, payload + 2);
            note_error(text, (u32)strlen(text));
            cuts++;
            close_conn(c, c->state != READY, false);
            return used;
        }
        case 9:
            pings++;
            send_frame(c, 10, payload, (u32)len);
            break;
        default:
            break;
        }
    }
    return used;
}

/* HTTP answers: one at a time on a connection. */
static FILE *batch_out;
static struct template *batch;
static u32 n_batch, batch_next, batch_done;
static char **batch_body;
static u32 *batch_status;

static void batch_send(struct conn *c) {
    if (batch_next >= n_batch) return;
    c->event = batch_next++;
    send_bytes(c, batch[c->event].bytes, batch[c->event].len);
}

static u32 take_answer(struct conn *c, char *p, u32 n) {
    char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    u32 head = (u32)(end - p) + 4, body = 0, used;
    char *cl = NULL;
    bool chunked = false;
    for (char *line = p; line && line < end; line = memmem(line, (size_t)(end - line), "\r\n", 2)) {
        if (*line == '\r') line += 2;
        if (!strncasecmp(line, "content-length:", 15)) cl = line + 15;
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) chunked = true;
    }
    if (chunked) {
        char *last = memmem(p + head - 2, n - head + 2, "\r\n0\r\n\r\n", 7);
        if (!last) return 0;
        used = (u32)(last - p) + 7;
        body = used - head;
    } else {
        body = cl ? (u32)strtoul(cl, NULL, 10) : 0;
        if (n < head + body) return 0;
        used = head + body;
    }
    u32 status = (u32)strtoul(p + 9, NULL, 10);
    if (c->kind == BATCH_HTTP) {
        batch_status[c->event] = status;
        if (status >= 400) note_error(p + head, body);
        if (batch_out) batch_body[c->event] = strndup(p + head, body);
        batch_done++;
        batch_send(c);
        return used;
    }
    u32 number = c->event;
    c->event = NO_EVENT;
    if (backlog_head != backlog_tail) {
        u32 next = backlog[backlog_head++ % RING];
        publish_on(c, &templates[next % n_templates], next);
    } else idle_ring[idle_tail++ % n_https] = c->source;
    if (number == NO_EVENT) return used;
    if (status >= 300) { note_error(p, head + body < 400 ? head + body : 400); event_refused(number); }
    else event_answered(number);
    return used;
}

static void take(struct conn *c, char *p, u32 n) {
    u32 used = 0;
    if (c->state == HANDSHAKE) {
        char *end = memmem(p, n, "\r\n\r\n", 4);
        if (!end) goto keep;
        if (n < 12 || memcmp(p + 9, "101", 3)) {
            note_error(p, n < 400 ? n : 400);
            close_conn(c, true, false);
            return;
        }
        used = (u32)(end - p) + 4;
        c->state = SETUP;
        if (!c->greeted) advance(c);
        else if (!c->steps && c->greeted == 2) finish_setup(c);
    }
    if (c->kind == PUBLISHER_HTTP || c->kind == BATCH_HTTP) {
        for (u32 k; used < n && (k = take_answer(c, p + used, n - used)) > 0;) used += k;
    } else used += take_frames(c, p + used, n - used);
keep:
    if (c->fd < 0) return;
    u32 rest = n - used;
    if (rest > CARRY_ROOM) die("an unfinished frame of %u bytes", rest);
    if (rest > c->carry_cap) {
        free(c->carry);
        c->carry = malloc(rest + 256);
        if (!c->carry) die("out of memory");
        c->carry_cap = rest + 256;
    }
    if (rest) memcpy(c->carry, p + used, rest);
    c->carry_len = rest;
}

static void on_ready(struct conn *c, u32 events) {
    if (c->state == CONNECTING) {
        int failure = 0;
        socklen_t size = sizeof failure;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure) {
            const char *why = strerror(failure);
            note_error(why, (u32)strlen(why));
            close_conn(c, true, false);
            return;
        }
        watch(c, EPOLLIN, false);
        if (c->kind == PUBLISHER_HTTP || c->kind == BATCH_HTTP || c->raw) { finish_setup(c); return; }
        c->state = HANDSHAKE;
        send_bytes(c, c->head, c->head_len);
        return;
    }
    if (events & EPOLLOUT && c->out_len > c->out_off) {
        ssize_t k = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (k > 0) c->out_off += (u32)k;
        if (c->out_off == c->out_len) {
            c->out_len = c->out_off = 0;
            c->want_out = 0;
            watch(c, EPOLLIN, false);
        }
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    if (c->carry_len) memcpy(buf, c->carry, c->carry_len);
    ssize_t k = recv(c->fd, buf + c->carry_len, READ_BYTES, 0);
    if (k < 0 && errno == EAGAIN) return;
    if (k <= 0) {
        const char *why = k < 0 ? strerror(errno) : "ended by the server without a close frame";
        note_error(why, (u32)strlen(why));
        cuts++;
        if (c->kind == PUBLISHER_HTTP && c->event != NO_EVENT) event_refused(c->event);
        close_conn(c, c->state != READY, false);
        return;
    }
    loop_now = now_ns();
    if (in_window) { bytes_in += (u64)k; reads++; }
    take(c, buf, c->carry_len + (u32)k);
}

static void turn(int wait_ms) {
    struct epoll_event ready[512];
    int n = epoll_wait(ep, ready, 512, spinning ? 0 : wait_ms);
    if (n <= 0) return;
    u64 began = now_ns();
    for (int i = 0; i < n; i++) {
        if (ready[i].data.ptr == NULL) {
            u64 ticks;
            if (read(timer_fd, &ticks, 8) < 0) continue;
            continue;
        }
        struct conn *c = ready[i].data.ptr;
        if (c->fd >= 0) on_ready(c, ready[i].events);
    }
    busy_ns += now_ns() - began;
}

/* CPU time used; of a load side that never sleeps, the time in which there was something to do. */
static double cpu_s(void) {
    if (spinning) return (double)busy_ns / 1e9;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6 + (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6;
}

static void zero_counts(void) {
    deliveries = bytes_in = frames_in = answered = finished = errors = extra = pings = reads = cuts = 0;
    memset(&h_each, 0, sizeof h_each);
    memset(&h_last, 0, sizeof h_last);
    memset(&h_answer, 0, sizeof h_answer);
    first_error[0] = 0;
}

static void say_counts(const char *ev, double seconds, double cpu) {
    printf("{\"ev\":\"%s\",\"seconds\":%.4f,\"load_cpu\":%.4f,\"deliveries\":%llu,\"frames\":%llu,\"bytes\":%llu,\"reads\":%llu,\"events\":%llu,\"answers\":%llu,"
           "\"errors\":%llu,\"extra\":%llu,\"pings\":%llu,\"cuts\":%llu,\"in_flight\":%u,\"error\":\"%s\"",
           ev, seconds, cpu, (unsigned long long)deliveries, (unsigned long long)frames_in, (unsigned long long)bytes_in, (unsigned long long)reads,
           (unsigned long long)finished, (unsigned long long)answered, (unsigned long long)errors, (unsigned long long)extra,
           (unsigned long long)pings, (unsigned long long)cuts, in_flight, first_error);
}

static void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

static void arm(u64 at_ns) {
    struct itimerspec t = {.it_value = {(time_t)(at_ns / 1000000000ull), (long)(at_ns % 1000000000ull)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static volatile sig_atomic_t stop_requested;

static void on_signal(int number) {
    (void)number;
    stop_requested = 1;
}

/* run closed W | run open RATE | run count N: exactly N events, 64 at a time, as long as it takes */
static void run(bool closed, bool counted, double amount, double warm_s, double window_s, double drain_s) {
    if (!n_templates || !(n_https || n_publishers)) die("nothing to publish with");
    zero_counts();
    memset(ring, 0, sizeof *ring * RING);
    next_number = 0;
    next_publisher = 0;
    in_flight = 0;
    backlog_head = backlog_tail = 0;
    running = true;
    spinning = spin;
    in_window = false;
    closed_loop = closed || counted;
    last_number = counted ? (u32)amount : UINT32_MAX;
    stop_requested = 0;
    want = 0;
    u64 start = now_ns(), begin = start + (u64)(warm_s * 1e9), end = begin + (u64)(window_s * 1e9), last_word = start;
    double cpu_begin = 0;
    u64 begun = 0, ended, step = closed_loop ? 0 : (u64)(1e9 / amount), due = start;
    if (warm_s <= 0) {                  /* the first events count too */
        in_window = true;
        begun = now_ns();
        cpu_begin = cpu_s();
        say("{\"ev\":\"begin\"}");
    }
    u32 first = counted && amount > 64 ? 64 : (u32)amount;
    if (closed_loop) for (u32 i = 0; i < first; i++) launch(now_ns());
    for (;;) {
        u64 t = now_ns();
        if (!in_window && t >= begin) {
            zero_counts();
            in_window = true;
            begun = t;
            cpu_begin = cpu_s();
            say("{\"ev\":\"begin\"}");
        }
        /* What was due before the end is sent, also when this process was held up until after it. */
        if (!closed_loop) while (due <= t && due < end) { launch(due); due += step; }
        if (t >= end || stop_requested || (counted && next_number == last_number && !in_flight)) break;
        if (!closed_loop) arm(due < end ? due : end);
        if (t - last_word > 250000000ull) {
            last_word = t;
            say("{\"ev\":\"progress\",\"at\":%.2f,\"deliveries\":%llu,\"answers\":%llu,\"in_flight\":%u}", (double)(t - start) / 1e9,
                (unsigned long long)deliveries, (unsigned long long)answered, in_flight);
        }
        turn(50);
    }
    ended = now_ns();
    double seconds = (double)(ended - begun) / 1e9, cpu = cpu_s() - cpu_begin;
    running = false;
    say("{\"ev\":\"end\"}");
    spinning = false;
    u64 got = deliveries, got_bytes = bytes_in, got_frames = frames_in, got_events = finished, got_answers = answered, got_reads = reads;
    in_window = false;
    u64 limit = ended + (u64)(drain_s * 1e9);
    while (in_flight && now_ns() < limit) turn(50);
    deliveries = got; bytes_in = got_bytes; frames_in = got_frames; finished = got_events; answered = got_answers; reads = got_reads;
    say_counts("result", seconds, cpu);
    printf(",\"drained\":%.3f", (double)(now_ns() - ended) / 1e9);
    hist_print("each", &h_each, true);
    hist_print("last", &h_last, true);
    hist_print("answer", &h_answer, true);
    say("}");
    arm(0);
}

static void connect_all(u32 at_once, double limit_s, u32 want_each) {
    u64 start = now_ns(), limit = start + (u64)(limit_s * 1e9), last_word = start;
    u32 next = 0, tried = 0;
    bool was_running = running;
    zero_counts();
    memset(&h_full, 0, sizeof h_full);
    failed_total = full_total = 0;
    want = want_each;
    in_window = true;
    double cpu = cpu_s();
    u32 readers = 0;
    for (u32 i = 0; i < n_conns; i++) if (conns[i]->kind == LISTENER && !conns[i]->stalled) readers++;
    for (;;) {
        while (next < n_conns && opening < at_once) {
            struct conn *c = conns[next++];
            if (c->state == CLOSED || c->state == FAILED) { tried++; open_conn(c); }
        }
        u64 t = now_ns();
        if (next >= n_conns && !opening && (!want || full_total + failed_total >= readers)) break;
        if (t > limit) break;
        if (t - last_word > 250000000ull) {
            last_word = t;
            say("{\"ev\":\"progress\",\"at\":%.2f,\"ready\":%llu,\"failed\":%llu,\"full\":%llu,\"deliveries\":%llu}", (double)(t - start) / 1e9,
                (unsigned long long)ready_total, (unsigned long long)failed_total, (unsigned long long)full_total, (unsigned long long)deliveries);
        }
        turn(50);
    }
    in_window = false;
    running = was_running;
    want = 0;
    say_counts("connected", (double)(now_ns() - start) / 1e9, cpu_s() - cpu);
    printf(",\"tried\":%u,\"ready\":%llu,\"failed\":%llu,\"full\":%llu", tried, (unsigned long long)ready_total, (unsigned long long)failed_total,
           (unsigned long long)full_total);
    hist_print("full_us", &h_full, true);
    say("}");
}

static void idle(double seconds) {
    u64 end = now_ns() + (u64)(seconds * 1e9), start = now_ns(), last_word = start;
    zero_counts();
    in_window = true;
    double cpu = cpu_s();
    say("{\"ev\":\"begin\"}");
    while (now_ns() < end) {
        u64 t = now_ns();
        if (t - last_word > 250000000ull) {
            last_word = t;
            say("{\"ev\":\"progress\",\"at\":%.2f,\"pings\":%llu}", (double)(t - start) / 1e9, (unsigned long long)pings);
        }
        turn(50);
    }
    say("{\"ev\":\"end\"}");
    in_window = false;
    say_counts("result", (double)(now_ns() - start) / 1e9, cpu_s() - cpu);
    printf(",\"ready\":%llu", (unsigned long long)ready_total);
    say("}");
}

/* Reading what the driver wrote: one record a line, fields by tab, with C escapes for what a line cannot hold. */
static char *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) die("cannot read %s", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *p = grab((size_t)n + 1);
    if (fread(p, 1, (size_t)n, f) != (size_t)n) die("cannot read %s", path);
    fclose(f);
    *size = (size_t)n;
    return p;
}

static u32 unescape(char *p, char *end) {
    char *out = p;
    for (char *in = p; in < end;) {
        if (*in != '\\' || in + 1 >= end) { *out++ = *in++; continue; }
        switch (in[1]) {
        case 'n': *out++ = '\n'; in += 2; break;
        case 'r': *out++ = '\r'; in += 2; break;
        case 't': *out++ = '\t'; in += 2; break;
        case '\\': *out++ = '\\'; in += 2; break;
        case 'x': {
            char hex[3] = {in[2], in[3], 0};
            *out++ = (char)strtoul(hex, NULL, 16);
            in += 4;
            break;
        }
        default: *out++ = *in++;
        }
    }
    return (u32)(out - p);
}

static u32 lines_of(char *p, size_t n) {
    u32 k = 0;
    for (size_t i = 0; i < n; i++) if (p[i] == '\n') k++;
    return k;
}

static void need_groups(int group) {
    if (group < n_groups) return;
    int more = group + 1024;
    members = realloc(members, sizeof *members * (size_t)more);
    if (!members) die("out of memory");
    memset(members + n_groups, 0, sizeof *members * (size_t)(more - n_groups));
    n_groups = more;
}

static u32 fields_of(char *line, char *end, char **start, u32 *len, u32 most) {
    u32 k = 0;
    for (char *p = line; k < most;) {
        char *tab = memchr(p, '\t', (size_t)(end - p));
        char *stop = tab ? tab : end;
        start[k] = p;
        len[k++] = unescape(p, stop);
        if (!tab) break;
        p = tab + 1;
    }
    return k;
}

/* Each line: group, flags (g greeted, d stalled, b binary, o ready at the 101, r raw lines to the control port), head, frames… */
static void load_conns(const char *path, u8 kind) {
    size_t n;
    char *p = slurp(path, &n), *end = p + n;
    u32 k = lines_of(p, n);
    conns = realloc(conns, sizeof *conns * (n_conns + k));
    if (kind == PUBLISHER_WS) publishers = realloc(publishers, sizeof *publishers * (n_publishers + k));
    struct conn *block = grab(sizeof *block * k);
    for (u32 i = 0; i < k; i++) {
        char *line = p, *stop = memchr(p, '\n', (size_t)(end - p)), *start[16];
        u32 len[16], fields = fields_of(line, stop, start, len, 16);
        if (fields < 3) die("a connection needs a group, flags and a head");
        struct conn *c = &block[i];
        start[0][len[0]] = 0;
        start[1][len[1]] = 0;
        c->fd = -1;
        c->kind = kind;
        c->group = atoi(start[0]);
        if (c->group >= 0) need_groups(c->group);
        c->greeted = strchr(start[1], 'g') ? 1 : strchr(start[1], 'o') ? 2 : 0;
        c->stalled = strchr(start[1], 'd') ? 1 : 0;
        c->binary = strchr(start[1], 'b') ? 1 : 0;
        c->raw = strchr(start[1], 'r') ? 1 : 0;
        c->head = start[2];
        c->head_len = len[2];
        c->steps = fields - 3;
        c->step = grab(sizeof(char *) * (c->steps + 1));
        c->step_len = grab(sizeof(u32) * (c->steps + 1));
        for (u32 s = 0; s < c->steps; s++) { c->step[s] = start[3 + s]; c->step_len[s] = len[3 + s]; }
        c->source = n_conns / 16000;
        c->event = NO_EVENT;
        conns[n_conns++] = c;
        if (kind == PUBLISHER_WS) { c->fifo = grab(sizeof(u32) * FIFO); publishers[n_publishers++] = c; }
        p = stop + 1;
    }
    say("{\"ev\":\"ok\",\"conns\":%u}", n_conns);
}

static void load_https(u32 k) {
    https = grab(sizeof *https * k);
    idle_ring = grab(sizeof *idle_ring * k);
    conns = realloc(conns, sizeof *conns * (n_conns + k));
    for (u32 i = 0; i < k; i++) {
        struct conn *c = grab(sizeof *c);
        c->fd = -1;
        c->kind = PUBLISHER_HTTP;
        c->event = NO_EVENT;
        https[i] = conns[n_conns++] = c;
    }
    n_https = k;
    say("{\"ev\":\"ok\",\"conns\":%u}", n_conns);
}

/* Each line: group, publisher or -1, bytes; opcode 0 leaves the bytes as they are, 1 or 2 frames them. */
static void load_templates(const char *path, u8 opcode) {
    size_t n;
    char *p = slurp(path, &n), *end = p + n;
    n_templates = lines_of(p, n);
    templates = grab(sizeof *templates * n_templates);
    for (u32 i = 0; i < n_templates; i++) {
        char *stop = memchr(p, '\n', (size_t)(end - p)), *start[3];
        u32 len[3];
        if (fields_of(p, stop, start, len, 3) != 3) die("a template needs three fields");
        start[0][len[0]] = start[1][len[1]] = 0;
        struct template *t = &templates[i];
        t->group = atoi(start[0]);
        t->publisher = atoi(start[1]);
        if (t->group >= 0) need_groups(t->group);
        t->bytes = grab(len[2] + 14);
        u32 head = opcode ? frame_head((u8 *)t->bytes, opcode, len[2]) : 0;
        memcpy(t->bytes + head, start[2], len[2]);
        t->len = head + len[2];
        char *mark = memmem(t->bytes, t->len, MARK, MARK_LEN);
        if (!mark) die("a template without the mark");
        t->digits_at = (u32)(mark - t->bytes) + MARK_LEN;
        p = stop + 1;
    }
    say("{\"ev\":\"ok\",\"templates\":%u}", n_templates);
}

/* Requests, each once: FILE has one request a line, OUT gets "status TAB body" a line ("-" writes nothing). */
static void run_batch(const char *path, const char *out, u32 k) {
    size_t n;
    char *p = slurp(path, &n), *end = p + n;
    n_batch = lines_of(p, n);
    batch = grab(sizeof *batch * n_batch);
    batch_status = grab(sizeof *batch_status * n_batch);
    batch_body = grab(sizeof *batch_body * n_batch);
    batch_next = batch_done = 0;
    for (u32 i = 0; i < n_batch; i++) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        batch[i].len = unescape(p, stop);
        batch[i].bytes = p;
        p = stop + 1;
    }
    batch_out = strcmp(out, "-") ? fopen(out, "wb") : NULL;
    zero_counts();
    failed_total = 0;
    if (k > n_batch) k = n_batch;
    struct conn *c = grab(sizeof *c * (k + 1));
    u64 start = now_ns(), last_word = start;
    for (u32 i = 0; i < k; i++) { c[i].fd = -1; c[i].kind = BATCH_HTTP; c[i].group = -1; open_conn(&c[i]); }
    bool sent[65536] = {false};
    while (batch_done < n_batch && failed_total < k) {
        turn(20);
        u32 alive = 0;
        for (u32 i = 0; i < k; i++) {
            if (c[i].state == READY && !sent[i]) { sent[i] = true; batch_send(&c[i]); }
            if (c[i].fd >= 0) alive++;
        }
        if (!alive) break;
        u64 t = now_ns();
        if (t - last_word > 250000000ull) { last_word = t; say("{\"ev\":\"progress\",\"at\":%.2f,\"done\":%u,\"of\":%u}", (double)(t - start) / 1e9, batch_done, n_batch); }
        if (t - start > 300000000000ull) break;
    }
    u32 good = 0;
    for (u32 i = 0; i < n_batch; i++) {
        if (batch_status[i] >= 200 && batch_status[i] < 300) good++;
        if (batch_out) fprintf(batch_out, "%u\t%s\n", batch_status[i], batch_body[i] ? batch_body[i] : "");
        free(batch_body[i]);
    }
    if (batch_out) fclose(batch_out);
    for (u32 i = 0; i < k; i++) close_conn(&c[i], false, false);
    say("{\"ev\":\"batch\",\"seconds\":%.4f,\"of\":%u,\"done\":%u,\"good\":%u,\"error\":\"%s\"}", (double)(now_ns() - start) / 1e9, n_batch, batch_done, good, first_error);
    free(batch);
    free(batch_status);
    free(batch_body);
}

static void drop_all(bool listeners_only) {
    for (u32 i = 0; i < n_conns; i++) {
        if (listeners_only && conns[i]->kind != LISTENER) continue;
        close_conn(conns[i], false, true);
    }
    if (!listeners_only) idle_head = idle_tail = 0;
    say("{\"ev\":\"ok\"}");
}

static void command(char *line) {
    char word[32] = "", a[1024] = "", b[1024] = "";
    double x = 0, y = 0, z = 0, v = 0;
    sscanf(line, "%31s", word);
    if (!strcmp(word, "server") && sscanf(line, "%*s %1023s %lf %lf", a, &x, &y) >= 2) {
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
        if (getaddrinfo(a, NULL, &hints, &found)) die("no address for %s", a);
        target = *(struct sockaddr_in *)found->ai_addr;
        freeaddrinfo(found);
        target.sin_port = htons((uint16_t)x);
        sources = y > 1 && (ntohl(target.sin_addr.s_addr) >> 24) == 127 ? (int)y : 1;
        say("{\"ev\":\"ok\"}");
    } else if (!strcmp(word, "listeners") && sscanf(line, "%*s %1023s", a) == 1) load_conns(a, LISTENER);
    else if (!strcmp(word, "publishers") && sscanf(line, "%*s %1023s", a) == 1) load_conns(a, PUBLISHER_WS);
    else if (!strcmp(word, "control") && sscanf(line, "%*s %lf", &x) == 1) {
        control = target;
        control.sin_port = htons((uint16_t)x);
        say("{\"ev\":\"ok\"}");
    } else if (!strcmp(word, "https") && sscanf(line, "%*s %lf", &x) == 1) load_https((u32)x);
    else if (!strcmp(word, "templates") && sscanf(line, "%*s %1023s %lf", a, &x) == 2) load_templates(a, (u8)x);
    else if (!strcmp(word, "options") && sscanf(line, "%*s %lf %lf", &x, &y) == 2) {
        answers = x > 0;
        many_marks = y > 0;
        say("{\"ev\":\"ok\"}");
    } else if (!strcmp(word, "spin")) {
        spin = strstr(line, "on") != NULL;
        say("{\"ev\":\"ok\"}");
    } else if (!strcmp(word, "connect") && sscanf(line, "%*s %lf %lf %lf", &x, &y, &z) == 3) connect_all((u32)x, y, (u32)z);
    else if (!strcmp(word, "run") && sscanf(line, "%*s %1023s %lf %lf %lf %lf", a, &x, &y, &z, &v) == 5) run(!strcmp(a, "closed"), !strcmp(a, "count"), x, y, z, v);
    else if (!strcmp(word, "idle") && sscanf(line, "%*s %lf", &x) == 1) idle(x);
    else if (!strcmp(word, "batch") && sscanf(line, "%*s %1023s %1023s %lf", a, b, &x) == 3) run_batch(a, b, (u32)x);
    else if (!strcmp(word, "drop")) drop_all(strstr(line, "listeners") != NULL);
    else if (!strcmp(word, "quit")) exit(0);
    else die("cannot follow: %.40s", word);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, on_signal);
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    ep = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, timer_fd, &e);
    ring = grab(sizeof *ring * RING);
    backlog = grab(sizeof *backlog * RING);
    buf = grab(CARRY_ROOM + READ_BYTES + 16);
    need_groups(0);
    char line[4096];
    /* Between two commands the listeners still answer pings: wait for either. */
    int both = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event i0 = {.events = EPOLLIN, .data.u32 = 0}, i1 = {.events = EPOLLIN, .data.u32 = 1};
    epoll_ctl(both, EPOLL_CTL_ADD, 0, &i0);
    epoll_ctl(both, EPOLL_CTL_ADD, ep, &i1);
    u32 have = 0;
    for (;;) {
        struct epoll_event r[2];
        int n = epoll_wait(both, r, 2, -1);
        for (int i = 0; i < n; i++) {
            if (r[i].data.u32 == 1) { turn(0); continue; }
            ssize_t k = read(0, line + have, sizeof line - have - 1);
            if (k <= 0) return 0;
            have += (u32)k;
            char *nl;
            while ((nl = memchr(line, '\n', have))) {
                *nl = 0;
                command(line);
                u32 used = (u32)(nl - line) + 1;
                memmove(line, line + used, have - used);
                have -= used;
            }
        }
    }
}
