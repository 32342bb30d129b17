/* The door: what strangers can do to a socket of ours, and what must arrive all the same. */
#include "support.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "link/door.h"
#include "link/names.h"

typedef struct {
    td_door *door;
    int arrived, messages, ended, next;
    size_t bytes;
    uint64_t sum;
    char why[128];
} side;

static int on_arrived(void *user, const char *name)
{
    side *s = user;
    assert_true(strstr(name, "127.0.0.1:") == name);
    s->arrived++;
    return s->next < 0 ? -1 : s->next++;
}

static void on_message(void *user, int place, const uint8_t *data, size_t bytes)
{
    side *s = user;
    (void)place;
    s->messages++;
    s->bytes += bytes;
    for (size_t i = 0; i < bytes; i++) s->sum = s->sum * 31 + data[i];
}

static void on_ended(void *user, int place, const char *why)
{
    side *s = user;
    (void)place;
    s->ended++;
    snprintf(s->why, sizeof s->why, "%s", why);
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void open_side(side *s, int port)
{
    char address[32];
    *s = (side){0};
    assert_int_equal(td_door_open((td_door_events){s, on_arrived, on_message, on_ended}, &s->door), TD_OK);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    if (port) assert_int_equal(td_door_listen(s->door, address), TD_OK);
}

static int knock(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

#define UNTIL(condition) \
    for (int64_t began = td_now_ns(); !(condition);) { \
        td_door_look(s.door, 1000000); \
        if (td_now_ns() - began > 5000000000) fail_msg("waited 5 s for: %s", #condition); \
    }

static void test_messages_in_any_pieces(void **state)
{
    (void)state;
    td_random r = {.seed = (uint64_t)td_now_ns()};
    side s;
    int port = free_port();
    open_side(&s, port);
    int fd = knock(port), sent = 0;
    static uint8_t stream[600000];
    size_t bytes = 0, payload = 0, at = 0;
    uint64_t sum = 0;
    while (bytes < 500000 && sent < 300) {
        uint32_t length = sent == 7 ? 90000 : 1 + (uint32_t)(td_random_next(&r) % 3000);
        for (int i = 0; i < 4; i++) stream[bytes++] = (uint8_t)(length >> 8 * i);
        for (uint32_t i = 0; i < length; i++) sum = sum * 31 + (stream[bytes++] = (uint8_t)td_random_next(&r));
        payload += length, sent++;
    }
    while (at < bytes) {
        size_t piece = 1 + td_random_next(&r) % 5000;
        ssize_t n = send(fd, stream + at, TD_MIN(piece, bytes - at), MSG_DONTWAIT);
        if (n > 0) at += (size_t)n;
        td_door_look(s.door, 0);
    }
    UNTIL(s.messages == sent)
    assert_int_equal(s.bytes, payload);
    assert_true(s.sum == sum);
    close(fd);
    UNTIL(s.ended == 1)
    td_door_free(s.door);
}

static void test_strangers(void **state)
{
    (void)state;
    static const uint8_t zero[8], huge[] = {0xFF, 0xFF, 0xFF, 0xFF, 1}, above[] = {1, 0, 5, 0, 1}; /* lengths 0, 4 GiB - 1, 327,681 */
    static const struct { const uint8_t *data; size_t bytes; } wrong[] = {{zero, 8}, {huge, 5}, {above, 5}, {(const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18}};
    side s;
    int port = free_port();
    open_side(&s, port);
    for (int i = 0; i < (int)(sizeof wrong / sizeof *wrong); i++) {
        int fd = knock(port);
        assert_int_equal(send(fd, wrong[i].data, wrong[i].bytes, 0), wrong[i].bytes);
        UNTIL(s.ended == i + 1)
        assert_string_equal(s.why, "it does not speak this protocol");
        close(fd);
    }
    int quiet = knock(port), half = knock(port);
    static const uint8_t begun[] = {100, 0, 0, 0, 'x'};
    assert_int_equal(send(half, begun, sizeof begun, 0), sizeof begun);
    UNTIL(s.arrived == 6)
    for (int i = 0; i < 20; i++) td_door_look(s.door, 100000);
    assert_int_equal(s.messages, 0);
    assert_int_equal(s.ended, 4);
    s.next = -1; /* no place: turned away, and seen there as the end */
    int late = knock(port);
    UNTIL(s.arrived == 7)
    char byte;
    assert_int_equal(recv(late, &byte, 1, 0), 0);
    close(quiet), close(half), close(late);
    td_door_free(s.door);
}

static void test_one_who_takes_nothing(void **state)
{
    (void)state;
    static uint8_t block[60000];
    side s;
    int port = free_port(), sent = 0;
    open_side(&s, port);
    int fd = knock(port);
    UNTIL(s.arrived == 1)
    while (td_door_send(s.door, 0, block, sizeof block) && sent < 10000) sent++;
    assert_true(sent >= TD_DOOR_UNSENT_MAX / (int)sizeof block - 1 && sent < 1000); /* what waits is bounded; the kernel took the rest */
    assert_true(td_door_unsent(s.door, 0));
    assert_false(td_door_send(s.door, 1, block, 1)); /* nobody there */
    assert_false(td_door_send(s.door, 0, block, 0));
    close(fd);
    UNTIL(s.ended == 1)
    td_door_free(s.door);
}

static void test_connecting(void **state)
{
    (void)state;
    side s, other;
    char address[32];
    int port = free_port();
    open_side(&s, 0);
    open_side(&other, port);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    assert_int_equal(td_door_connect(s.door, 3, address), TD_OK);
    assert_true(td_door_send(s.door, 3, "hello", 5)); /* before it is connected */
    for (int64_t began = td_now_ns(); other.messages == 0 && td_now_ns() - began < 5000000000;) td_door_look(s.door, 100000), td_door_look(other.door, 100000);
    assert_int_equal(other.bytes, 5);
    td_door_free(other.door);
    UNTIL(s.ended == 1)
    td_door_close(s.door, 3);
    td_status status = td_door_connect(s.door, 3, address); /* nobody listens now: at once or as an end */
    if (status == TD_OK) UNTIL(s.ended == 2)
    assert_int_equal(td_door_connect(s.door, 4, "nowhere"), TD_E_INVALID);
    assert_non_null(strstr(td_error(), "expected HOST:PORT, found 'nowhere'"));
    td_door_free(s.door);
}

/* A socket bound to the port it then connects to meets itself: what happens by chance to who retries a local port. */
static void test_nobody_but_oneself(void **state)
{
    (void)state;
    side s;
    char address[32];
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    int first = 0, last = 0, port = free_port() ^ 1; /* connecting takes even ports first, binding odd ones */
    if (!range || fscanf(range, "%d %d", &first, &last) != 2 || last - first > 65536) skip();
    fclose(range);
    open_side(&s, 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    for (int i = 0; i < 40000 && s.arrived == 0; i++) { /* some of them are given the port itself */
        int before = s.ended;
        if (td_door_connect(s.door, 0, address) == TD_OK) UNTIL(s.ended > before)
        td_door_close(s.door, 0);
    }
    assert_string_equal(s.why, "Connection refused");
    assert_int_equal(s.messages, 0);
    td_door_free(s.door);
}

static void test_interfaces(void **state)
{
    (void)state;
    char names[64];
    td_door_interfaces("127.0.0.1:7400,localhost:1", names, sizeof names);
    assert_string_equal(names, "lo");
    td_door_interfaces("127.0.0.1:7400,*:7400", names, sizeof names);
    assert_string_equal(names, "");
    td_door_interfaces("0.0.0.0:7400", names, sizeof names);
    assert_string_equal(names, "");
}

/* ---- names ------------------------------------------------------------------------------------------------------------------------------ */

static atomic_int let_through, looks_done, answer_port; /* answer_port 0: there is no such name */

/* A name server that answers when it is let. */
static td_status slow_look(const char *address, td_place_of_name *out)
{
    for (int64_t began = td_now_ns(); atomic_load(&let_through) == 0 && td_now_ns() - began < 20000000000;) usleep(1000);
    atomic_fetch_sub(&let_through, 1);
    int port = atomic_load(&answer_port);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    *out = (td_place_of_name){.length = sizeof at};
    memcpy(&out->at, &at, sizeof at);
    td_status status = port ? TD_OK : td_fail(TD_E_NOT_FOUND, "address '%s': no such name", address);
    atomic_fetch_add(&looks_done, 1);
    return status;
}

static int port_of(const td_place_of_name *place) { return ntohs(((const struct sockaddr_in *)&place->at)->sin_port); }

/* One look-up ends with that answer; asking again makes sure that one is under way. */
static void let_one_look(td_names *names, int port)
{
    td_place_of_name at;
    int before = atomic_load(&looks_done);
    atomic_store(&answer_port, port);
    atomic_store(&let_through, 1);
    while (atomic_load(&looks_done) == before) {
        td_names_get(names, "w:1", &at);
        usleep(1000);
    }
}

/* Soon the name gives that; the thread may still be putting it down. */
static void expect_name(td_names *names, td_status status, int port)
{
    td_place_of_name at = {0};
    td_status found = TD_E_INTERNAL;
    for (int64_t began = td_now_ns(); td_now_ns() - began < 10000000000;) {
        found = td_names_get(names, "w:1", &at);
        if (found == status && (status < 0 || port_of(&at) == port)) return;
        usleep(1000);
    }
    fail_msg("expected %d and port %d, found %d and %d", (int)status, port, (int)found, port_of(&at));
}

static void test_names_are_not_waited_for(void **state)
{
    (void)state;
    td_names *names;
    td_place_of_name at;
    char long_name[TD_NAME_ROOM + 1];
    assert_int_equal(td_names_open(slow_look, &names), TD_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(td_names_get(names, "w:1", &at), TD_E_TIMEOUT); /* one thread, not three */
    assert_non_null(strstr(td_error(), "address 'w:1': the name is being looked up"));
    let_one_look(names, 0);
    expect_name(names, TD_E_NOT_FOUND, 0); /* and it is looked up again */
    assert_non_null(strstr(td_error(), "no such name"));
    let_one_look(names, 5);
    expect_name(names, TD_OK, 5);
    let_one_look(names, 0); /* the name server has trouble: the last good address stays */
    expect_name(names, TD_OK, 5);
    let_one_look(names, 6); /* it has moved */
    expect_name(names, TD_OK, 6);
    for (int i = 2; i <= TD_NAMES_MAX; i++) { /* the first is still being looked up */
        snprintf(long_name, sizeof long_name, "w:%d", i);
        assert_int_equal(td_names_get(names, long_name, &at), TD_E_TIMEOUT);
    }
    assert_int_equal(td_names_get(names, "one:more", &at), TD_E_FULL);
    memset(long_name, 'x', TD_NAME_ROOM);
    long_name[TD_NAME_ROOM] = 0;
    assert_int_equal(td_names_get(names, long_name, &at), TD_E_INVALID);
    int64_t began = td_now_ns();
    td_names_close(names); /* does not wait for the 64 that are under way */
    assert_true(td_now_ns() - began < 5000000000);
    int before = atomic_load(&looks_done);
    atomic_store(&let_through, TD_NAMES_MAX);
    while (atomic_load(&looks_done) < before + TD_NAMES_MAX) usleep(1000);
}

static void test_connecting_to_a_name(void **state)
{
    (void)state;
    side s;
    char address[32];
    td_status status = TD_E_TIMEOUT;
    open_side(&s, 0);
    snprintf(address, sizeof address, "localhost:%d", free_port());
    assert_int_equal(td_door_connect(s.door, 0, address), TD_E_TIMEOUT);
    assert_non_null(strstr(td_error(), "is being looked up"));
    for (int64_t began = td_now_ns(); status == TD_E_TIMEOUT && td_now_ns() - began < 5000000000;) {
        usleep(1000);
        status = td_door_connect(s.door, 0, address);
    }
    assert_true(status == TD_OK || status == TD_E_PEER); /* nobody listens: refused at once or later */
    td_door_free(s.door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_messages_in_any_pieces), cmocka_unit_test(test_strangers), cmocka_unit_test(test_one_who_takes_nothing), cmocka_unit_test(test_connecting), cmocka_unit_test(test_nobody_but_oneself),
                                       cmocka_unit_test(test_interfaces), cmocka_unit_test(test_names_are_not_waited_for), cmocka_unit_test(test_connecting_to_a_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
