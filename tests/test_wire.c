/* test_wire.c - frames, rows, handshake: what is accepted, what is refused, and that every precision means what tensor/dtype.h says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "link/session.h"
#include "link/wire.h"
#include "tensor/dtype.h"

static td_random source(void)
{
    const char *text = getenv("TD_SEED");
    td_random r = {.seed = text ? strtoull(text, NULL, 0) : 20260};
    print_message("seed %llu\n", (unsigned long long)r.seed);
    return r;
}

static float any_float(td_random *r)
{
    switch (td_random_between(r, 0, 9)) {
    case 0: return 0;
    case 1: return (float)td_random_next_unit(r) * 1e-30f;
    case 2: return (float)td_random_next_unit(r) * 1e6f;
    default: return (float)(td_random_next_unit(r) * 8 - 4);
    }
}

static void rows_mean_what_the_types_say(void **state)
{
    (void)state;
    td_random r = source();
    for (int round = 0; round < 400; round++) {
        int n = (int)td_random_between(&r, 1, 400);
        float row[400], back[400];
        uint8_t wire[400 * 4 + 64];
        for (int i = 0; i < n; i++) row[i] = any_float(&r);
        td_wire_row_put(TD_ENCODING_F32, row, n, wire);
        td_wire_row_get(TD_ENCODING_F32, wire, n, back);
        assert_memory_equal(row, back, (size_t)n * 4);
        td_wire_row_put(TD_ENCODING_BF16, row, n, wire);
        td_wire_row_get(TD_ENCODING_BF16, wire, n, back);
        for (int i = 0; i < n; i++) assert_true(back[i] == td_bf16_to_f32(td_f32_to_bf16(row[i])));
        td_wire_row_put(TD_ENCODING_F8, row, n, wire);
        td_wire_row_get(TD_ENCODING_F8, wire, n, back);
        for (int begin = 0; begin < n; begin += 128) {
            float largest = 0;
            for (int i = begin; i < n && i < begin + 128; i++) largest = fmaxf(largest, fabsf(row[i]));
            float scale = largest == 0 ? 1 : fmaxf(largest / 448.0f, 0x1p-126f), inverse = 1.0f / scale;
            for (int i = begin; i < n && i < begin + 128; i++) {
                uint8_t expected = td_f32_to_f8e4m3(fminf(fmaxf(row[i] * inverse, -448.0f), 448.0f));
                assert_int_equal(wire[i], expected);
                assert_true(back[i] == td_f8e4m3_to_f32(expected) * scale);
            }
        }
    }
}

/* Every E4M3 byte, and the halfway points between neighbours. */
static void f8_is_nearest_even(void **state)
{
    (void)state;
    float row[128], back[128];
    uint8_t wire[128 + 4];
    for (int sign = 0; sign < 2; sign++)
        for (int bits = 0; bits < 0x7E; bits++) {
            float low = td_f8e4m3_to_f32((uint8_t)(bits | sign << 7)), high = td_f8e4m3_to_f32((uint8_t)((bits + 1) | sign << 7));
            memset(row, 0, sizeof row);
            row[0] = 448; /* scale 1 */
            row[1] = low;
            row[2] = (low + high) / 2;
            td_wire_row_put(TD_ENCODING_F8, row, 128, wire);
            td_wire_row_get(TD_ENCODING_F8, wire, 128, back);
            assert_true(back[0] == 448 && back[1] == low && back[2] == (bits & 1 ? high : low));
        }
    row[5] = NAN;
    td_wire_row_put(TD_ENCODING_F8, row, 128, wire);
    td_wire_row_get(TD_ENCODING_F8, wire, 128, back);
    assert_true(isnan(back[5]) && isnan(back[0])); /* never something plausible */
}

static td_shape a_shape(bool *moe)
{
    moe[0] = false;
    moe[1] = moe[2] = true;
    return (td_shape){.fingerprint = 1, .name = "m", .dtype = "bf16", .layers = 3, .d_model = 34, .experts = 40, .top_k = 3, .shared = true, .is_moe = moe};
}

/* A frame with one flipped bit, one byte less or one more is refused. */
static void damaged_frames_are_refused(void **state)
{
    (void)state;
    td_random r = source();
    static uint8_t room[4096], damaged[4097];
    for (int round = 0; round < 200; round++) {
        size_t payload = (size_t)td_random_between(&r, 0, 2000);
        for (size_t i = 0; i < payload; i++) room[TD_FRAME_HEADER + i] = (uint8_t)td_random_next(&r);
        uint64_t seed = td_random_next(&r);
        td_frame frame = {.kind = TD_FRAME_ANSWER, .flags = 3, .epoch = 9, .step = 1ull << 40, .layer = 7, .part = 300, .micro_batch = 2, .peer = 5, .rows = 77, .serial = 1000, .aux = 4, .stamp_ns = 123456789012345, .payload_bytes = payload}, out;
        size_t bytes = td_frame_finish(room, &frame, seed);
        assert_int_equal(td_frame_check(room, bytes, seed, &out), TD_OK);
        assert_true(out.kind == frame.kind && out.flags == 3 && out.epoch == 9 && out.step == 1ull << 40 && out.layer == 7 && out.part == 300 && out.micro_batch == 2 && out.peer == 5 && out.rows == 77 &&
                    out.serial == 1000 && out.aux == 4 && out.stamp_ns == 123456789012345 && out.payload_bytes == payload);
        assert_int_equal(td_frame_check(room, bytes, seed + 1, &out), TD_E_FORMAT);
        assert_int_equal(td_frame_check(room, bytes - 1, seed, &out), TD_E_FORMAT);
        memcpy(damaged, room, bytes);
        assert_int_equal(td_frame_check(damaged, bytes + 1, seed, &out), TD_E_FORMAT);
        size_t at = (size_t)td_random_between(&r, 0, (int64_t)bytes - 1);
        damaged[at] ^= (uint8_t)(1u << td_random_between(&r, 0, 7));
        assert_int_equal(td_frame_check(damaged, bytes, seed, &out), TD_E_FORMAT);
    }
}

static void submits_survive_the_way_and_wrong_ones_do_not(void **state)
{
    (void)state;
    td_random r = source();
    bool moe[3];
    td_shape shape = a_shape(moe);
    static uint8_t payload[1 << 16];
    for (int round = 0; round < 300; round++) {
        int layer = (int)td_random_between(&r, 0, 2), rows = (int)td_random_between(&r, 1, 30), sent = 0;
        float x[30 * 34], weights[90], row[34];
        int32_t ids[90];
        uint64_t masks[30], full = td_shape_full(&shape, layer);
        for (int i = 0; i < rows * 34; i++) x[i] = any_float(&r);
        for (int i = 0; i < rows * 3; i++) {
            ids[i] = (int32_t)td_random_between(&r, 0, 39);
            weights[i] = any_float(&r);
        }
        for (int i = 0; i < rows; i++) {
            masks[i] = (td_random_next(&r) & 7) | (td_random_next(&r) & 1 ? TD_UNIT_PLAIN : 0);
            masks[i] &= full;
            sent += masks[i] != 0;
        }
        if (!sent) masks[0] = full, sent = 1;
        size_t bytes = td_submit_put(payload, &shape, layer, rows, masks, x, ids, weights, TD_ENCODING_F32);
        assert_int_equal(bytes, td_submit_bytes(&shape, layer, sent, TD_ENCODING_F32));
        td_frame frame = {.kind = TD_FRAME_SUBMIT, .flags = TD_ENCODING_F32 | TD_ENCODING_BF16 << 4, .layer = (uint16_t)layer, .rows = (uint32_t)sent, .payload = payload, .payload_bytes = bytes};
        td_submit_view view;
        assert_int_equal(td_submit_check(&frame, &shape, &view), TD_OK);
        size_t answer = 0;
        for (int i = 0; i < rows; i++) answer += td_answer_row_bytes(&shape, layer, masks[i], TD_ENCODING_BF16);
        assert_int_equal(view.answer_bytes, answer);
        for (int i = 0, n = 0; i < rows; i++) {
            if (!masks[i]) continue;
            td_wire_row_get(view.encoding, view.x + (size_t)n * td_wire_row_bytes(view.encoding, 34), 34, row);
            assert_memory_equal(row, x + i * 34, sizeof row);
            assert_int_equal((view.row_flags[n] & TD_ROW_WHOLE) != 0, masks[i] == full);
            for (int s = 0; layer > 0 && s < 3; s++) assert_int_equal(td_get16(view.ids + (n * 3 + s) * 2), masks[i] >> s & 1 ? ids[i * 3 + s] : 0xFFFF);
            n++;
        }
        td_frame wrong = frame;
        wrong.rows++;
        assert_int_equal(td_submit_check(&wrong, &shape, &view), TD_E_FORMAT);
        wrong = frame;
        wrong.layer = 3;
        assert_int_equal(td_submit_check(&wrong, &shape, &view), TD_E_FORMAT);
        wrong = frame;
        wrong.flags = 0x20;
        assert_int_equal(td_submit_check(&wrong, &shape, &view), TD_E_FORMAT);
        payload[0] ^= TD_ROW_WHOLE;
        assert_int_equal(td_submit_check(&frame, &shape, &view), TD_E_FORMAT);
    }
}

static td_secret secret_of(const char *text, td_status *status)
{
    td_secret secret = {0};
    char path[] = "/tmp/td_secret_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    *status = td_secret_load(path, &secret);
    unlink(path);
    return secret;
}

static void secrets_are_checked(void **state)
{
    (void)state;
    td_status status;
    td_secret a = secret_of("0123456789abcdef\n", &status);
    assert_int_equal(status, TD_OK);
    td_secret b = secret_of("0123456789abcdef", &status);
    assert_memory_equal(&a, &b, sizeof a);
    secret_of("short\n", &status);
    assert_int_equal(status, TD_E_INVALID);
    assert_int_equal(td_secret_load(NULL, &a), TD_E_INVALID);
    assert_int_equal(td_secret_load("/nowhere/at/all", &a), TD_E_NOT_FOUND);
}

/* Runs the three messages; false: somebody refused. */
static bool shake(td_session *client, td_session *worker, const td_secret *cs, const td_secret *ws, bool encrypt, bool require)
{
    uint8_t first[TD_HANDSHAKE_FRAME], second[TD_HANDSHAKE_FRAME], third[TD_HANDSHAKE_FRAME], none[TD_HANDSHAKE_FRAME], scratch[512];
    size_t n2, n3, n4, n1 = td_session_greet(client, encrypt, first);
    td_take what;
    td_frame frame;
    td_session_await(worker);
    if (td_session_take(worker, ws, require, first, n1, scratch, sizeof scratch, &what, &frame, second, &n2) < 0 || !n2) return false;
    if (td_session_take(client, cs, false, second, n2, scratch, sizeof scratch, &what, &frame, third, &n3) < 0 || what != TD_TAKE_OPENED) return false;
    return td_session_take(worker, ws, require, third, n3, scratch, sizeof scratch, &what, &frame, none, &n4) == TD_OK && what == TD_TAKE_OPENED && n4 == 0;
}

static void only_those_with_the_secret_get_in(void **state)
{
    (void)state;
    td_status status;
    td_secret a = secret_of("0123456789abcdef", &status), b = secret_of("0123456789abcdeg", &status);
    td_session client, worker;
    assert_true(shake(&client, &worker, &a, &a, false, false));
    assert_false(shake(&client, &worker, &a, &b, false, false));
    assert_false(shake(&client, &worker, &a, &a, false, true)); /* the worker wants encryption */
    assert_true(shake(&client, &worker, &a, &a, true, true));
    /* a client that knows nothing but copies the worker's own proof back */
    uint8_t first[TD_HANDSHAKE_FRAME], second[TD_HANDSHAKE_FRAME], third[TD_HANDSHAKE_FRAME], scratch[512];
    size_t n1 = td_session_greet(&client, false, first), n2, n3;
    td_take what;
    td_frame frame;
    td_session_await(&worker);
    assert_int_equal(td_session_take(&worker, &a, false, first, n1, scratch, sizeof scratch, &what, &frame, second, &n2), TD_OK);
    memcpy(third + TD_FRAME_HEADER, second + TD_FRAME_HEADER + 32, 32);
    td_frame forged = {.kind = TD_FRAME_PROOF, .payload_bytes = 32};
    n1 = td_frame_finish(third, &forged, 0);
    assert_int_equal(td_session_take(&worker, &a, false, third, n1, scratch, sizeof scratch, &what, &frame, second, &n3), TD_E_PEER);
    assert_int_equal(worker.state, TD_SESSION_ENDED);
}

static void frames_travel_sealed_once_and_unchanged(void **state)
{
    (void)state;
    td_random r = source();
    td_status status;
    td_secret a = secret_of("0123456789abcdef", &status);
    static uint8_t room[TD_FRAME_OUTER + TD_FRAME_HEADER + 1000 + TD_FRAME_TAG], copy[sizeof room], scratch[sizeof room], reply[TD_HANDSHAKE_FRAME];
    for (int encrypt = 0; encrypt < 2; encrypt++)
        for (int round = 0; round < 50; round++) {
            td_session client, worker;
            assert_true(shake(&client, &worker, &a, &a, encrypt, false));
            size_t payload = (size_t)td_random_between(&r, 0, 1000), bytes, reply_bytes;
            uint8_t *p = room + TD_FRAME_OUTER + TD_FRAME_HEADER;
            for (size_t i = 0; i < payload; i++) p[i] = (uint8_t)(i * 7);
            td_frame frame = {.kind = TD_FRAME_SUBMIT, .payload_bytes = payload}, out;
            const uint8_t *data = td_session_seal(&client, room, &frame, &bytes);
            memcpy(copy, data, bytes);
            td_take what;
            assert_int_equal(td_session_take(&worker, &a, false, data, bytes, scratch, sizeof scratch, &what, &out, reply, &reply_bytes), TD_OK);
            assert_true(what == TD_TAKE_FRAME && out.payload_bytes == payload && reply_bytes == 0);
            for (size_t i = 0; i < payload; i++) assert_int_equal(out.payload[i], (uint8_t)(i * 7));
            if (encrypt) { /* a repetition is passed over, and the plain text is not to be seen */
                assert_int_equal(td_session_take(&worker, &a, false, data, bytes, scratch, sizeof scratch, &what, &out, reply, &reply_bytes), TD_OK);
                assert_int_equal(what, TD_TAKE_NOTHING);
                assert_true(payload < 64 || memcmp(copy + TD_FRAME_OUTER + TD_FRAME_HEADER, scratch + TD_FRAME_HEADER, payload) != 0);
            }
            copy[td_random_between(&r, 0, (int64_t)bytes - 1)] ^= 4;
            assert_true(td_session_take(&worker, &a, false, copy, bytes, scratch, sizeof scratch, &what, &out, reply, &reply_bytes) < 0);
            assert_int_equal(worker.state, TD_SESSION_ENDED);
        }
}

/* A frame too long for the room it would be opened in leaves that room alone, right or forged: the library writes all of it before it knows. */
static void sealed_frames_stay_inside_the_room(void **state)
{
    (void)state;
    td_status status;
    td_secret a = secret_of("0123456789abcdef", &status);
    static uint8_t room[TD_FRAME_OUTER + TD_FRAME_HEADER + 1000 + TD_FRAME_TAG], scratch[TD_FRAME_HEADER + 1000], reply[TD_HANDSHAKE_FRAME];
    for (int forged = 0; forged < 2; forged++)
        for (size_t fits = 0; fits < 2; fits++) {
            td_session client, worker;
            assert_true(shake(&client, &worker, &a, &a, true, false));
            td_frame frame = {.kind = TD_FRAME_SUBMIT, .payload_bytes = 1000}, out;
            td_take what;
            size_t bytes, reply_bytes, length = TD_FRAME_HEADER + 1000 - 1 + fits;
            assert_ptr_equal(td_session_seal(&client, room, &frame, &bytes), room);
            if (forged) room[bytes - 1] ^= 1;
            memset(scratch, 0xA5, sizeof scratch);
            status = td_session_take(&worker, &a, false, room, bytes, scratch, length, &what, &out, reply, &reply_bytes);
            assert_int_equal(status, fits && !forged ? TD_OK : TD_E_FORMAT);
            for (size_t i = 0; !fits && i < sizeof scratch; i++) assert_int_equal(scratch[i], 0xA5);
            assert_true(fits || strstr(td_error(), "expected a sealed frame of at most 1063 bytes, found 1064"));
        }
}

/* Random bytes, and random changes of good frames, in every state: never more than an error. */
static void noise_is_refused(void **state)
{
    (void)state;
    td_random r = source();
    td_status status;
    td_secret a = secret_of("0123456789abcdef", &status);
    static uint8_t noise[2048], scratch[2048];
    uint8_t reply[TD_HANDSHAKE_FRAME];
    for (int round = 0; round < 20000; round++) {
        td_session client, worker;
        td_take what;
        td_frame frame;
        size_t reply_bytes, n = (size_t)td_random_between(&r, 0, 300);
        for (size_t i = 0; i < n; i++) noise[i] = (uint8_t)td_random_next(&r);
        if (round % 4 == 0) n = td_session_greet(&client, round & 4, noise), noise[td_random_between(&r, 0, (int64_t)n - 1)] ^= 1;
        td_session_await(&worker);
        assert_true(td_session_take(&worker, &a, false, noise, n, scratch, sizeof scratch, &what, &frame, reply, &reply_bytes) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_mean_what_the_types_say), cmocka_unit_test(f8_is_nearest_even), cmocka_unit_test(damaged_frames_are_refused),
        cmocka_unit_test(submits_survive_the_way_and_wrong_ones_do_not), cmocka_unit_test(secrets_are_checked), cmocka_unit_test(only_those_with_the_secret_get_in),
        cmocka_unit_test(frames_travel_sealed_once_and_unchanged), cmocka_unit_test(sealed_frames_stay_inside_the_room), cmocka_unit_test(noise_is_refused),
    };
    if (sodium_init() < 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
