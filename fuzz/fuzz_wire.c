/*
 * fuzz_wire.c - bytes from a peer: frames, hellos and submits with a right checksum (the fuzzer need not guess it) and without, and sessions in every state.
 * Byte 0 chooses what the rest is given to.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "link/desk.h"
#include "link/session.h"

enum { BYTES_MAX = 1 << 16, ROWS = 64 };

static bool moe[4] = {false, true, true, false};
static const td_shape shape = {.fingerprint = 1, .name = "m", .dtype = "bf16", .layers = 4, .d_model = 32, .experts = 40, .top_k = 3, .shared = true, .is_moe = moe};

/* What a worker does with a submit that was accepted. */
static void use_submit(const td_frame *frame)
{
    static td_arena arena;
    static td_work work;
    td_submit_view view;
    if (!work.x && td_work_reserve(&work, &shape, ROWS, &arena) < 0) abort();
    if (td_submit_check(frame, &shape, &view) < 0 || view.rows > ROWS) return;
    td_work_take(&work, &shape, &view);
    size_t bytes = td_work_answer_bytes(&work, &shape);
    if (bytes == 0 || bytes > (size_t)view.rows * 4 * 32 * 4) abort();
}

static void use_frame(uint8_t *data, size_t bytes, bool repair)
{
    td_frame frame;
    td_hello hello;
    if (repair && bytes >= TD_FRAME_HEADER) { /* the same fields with a right length and checksum */
        td_frame fields = {.kind = (td_frame_kind)(data[6] % TD_FRAME_KINDS), .flags = data[7], .layer = td_get16(data + 24), .part = td_get16(data + 26), .micro_batch = data[28], .rows = td_get32(data + 32),
                           .payload_bytes = bytes - TD_FRAME_HEADER};
        td_frame_finish(data, &fields, 0);
    }
    if (td_frame_check(data, bytes, 0, &frame) < 0) return;
    use_submit(&frame);
    if (td_hello_check(&frame, &hello) == TD_OK && (strlen(hello.shape.name) > 63 || strlen(hello.version) > 15)) abort();
}

static void use_session(uint8_t *data, size_t bytes, uint8_t how)
{
    static uint8_t scratch[BYTES_MAX], reply[TD_HANDSHAKE_FRAME];
    static td_secret secret = {{1}};
    td_session session;
    td_take what;
    td_frame frame;
    size_t reply_bytes;
    if (how & 1) td_session_greet(&session, how & 2, reply);
    else td_session_await(&session);
    if (how & 4) session.state = TD_SESSION_OPEN;
    if (td_session_take(&session, &secret, how & 8, data, bytes, scratch, sizeof scratch, &what, &frame, reply, &reply_bytes) == TD_OK && what == TD_TAKE_FRAME) use_submit(&frame);
    else if (reply_bytes > sizeof reply) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool started;
    if (!started && sodium_init() < 0) abort();
    started = true;
    if (bytes < 1 || bytes > BYTES_MAX) return 0;
    uint8_t *copy = malloc(bytes - 1 ? bytes - 1 : 1); /* exactly as long as the message: a read behind it is seen */
    if (!copy) return 0;
    memcpy(copy, data + 1, bytes - 1);
    if (data[0] & 0x80) use_session(copy, bytes - 1, data[0]);
    else use_frame(copy, bytes - 1, data[0] & 1);
    free(copy);
    return 0;
}
