/*
 * wire.c - frames: header, checksum, hello, submit. See wire.h and docs/protocol.md. Reads only inside the given lengths, allocates nothing.
 */
#include "link/wire.h"

#include <stdio.h>
#include <string.h>

#define MAGIC 0x4D444E54u /* "TNDM" */

/* ---- checksum ------------------------------------------------------------------------------------------------------------------------ */

/* Four lanes of multiply, rotate, multiply over 32 bytes (the construction of XXH64, Collet 2014), then mixed down. */
#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }
static inline uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v); }
static inline uint64_t lane(uint64_t sum, uint64_t word) { return rotate(sum + word * P2, 31) * P1; }

uint64_t td_frame_sum(const uint8_t *data, size_t bytes, uint64_t seed)
{
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    size_t i = 0;
    for (; i + 32 <= bytes; i += 32) {
        a = lane(a, load64(data + i));
        b = lane(b, load64(data + i + 8));
        c = lane(c, load64(data + i + 16));
        d = lane(d, load64(data + i + 24));
    }
    uint64_t h = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    h = (h ^ lane(0, a)) * P1 + P3;
    h = (h ^ lane(0, b)) * P1 + P3;
    h = (h ^ lane(0, c)) * P1 + P3;
    h = (h ^ lane(0, d)) * P1 + P3;
    h += bytes;
    for (; i + 8 <= bytes; i += 8) h = rotate(h ^ lane(0, load64(data + i)), 27) * P1 + P3;
    for (; i < bytes; i++) h = rotate(h ^ data[i] * P3, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

/* ---- frames -------------------------------------------------------------------------------------------------------------------------- */

/* The header without its checksum, chained with the payload. */
static uint64_t frame_sum(const uint8_t *frame, size_t bytes, uint64_t seed)
{
    return td_frame_sum(frame + TD_FRAME_HEADER, bytes - TD_FRAME_HEADER, td_frame_sum(frame, 56, seed));
}

size_t td_frame_finish(uint8_t *out, const td_frame *f, uint64_t seed)
{
    size_t bytes = TD_FRAME_HEADER + f->payload_bytes;
    td_put32(out, MAGIC);
    td_put16(out + 4, TD_WIRE_VERSION);
    out[6] = (uint8_t)f->kind;
    out[7] = f->flags;
    td_put32(out + 8, (uint32_t)bytes);
    td_put32(out + 12, f->epoch);
    td_put64(out + 16, f->step);
    td_put16(out + 24, f->layer);
    td_put16(out + 26, f->part);
    out[28] = f->micro_batch;
    out[29] = 0;
    td_put16(out + 30, f->peer);
    td_put32(out + 32, f->rows);
    td_put32(out + 36, f->serial);
    td_put32(out + 40, f->aux);
    td_put32(out + 44, 0);
    td_put64(out + 48, f->stamp_ns);
    td_put64(out + 56, frame_sum(out, bytes, seed));
    return bytes;
}

td_status td_frame_check(const uint8_t *data, size_t bytes, uint64_t seed, td_frame *out)
{
    if (bytes < TD_FRAME_HEADER) return td_fail(TD_E_FORMAT, "frame: expected at least %d bytes, found %zu", TD_FRAME_HEADER, bytes);
    if (td_get32(data) != MAGIC) return td_fail(TD_E_FORMAT, "frame: expected it to begin with 'TNDM', found 0x%08x", td_get32(data));
    if (td_get16(data + 4) != TD_WIRE_VERSION) return td_fail(TD_E_FORMAT, "frame: expected protocol version %d, found %d", TD_WIRE_VERSION, td_get16(data + 4));
    if (td_get32(data + 8) != bytes) return td_fail(TD_E_FORMAT, "frame: its header says %u bytes, %zu arrived", td_get32(data + 8), bytes);
    if (data[6] == 0 || data[6] >= TD_FRAME_KINDS) return td_fail(TD_E_FORMAT, "frame: unknown kind %d", data[6]);
    if (data[29] || td_get32(data + 44)) return td_fail(TD_E_FORMAT, "frame: a field that must be zero is not");
    if (td_get64(data + 56) != frame_sum(data, bytes, seed)) return td_fail(TD_E_FORMAT, "frame: the checksum does not match its %zu bytes", bytes);
    *out = (td_frame){
        .kind = (td_frame_kind)data[6], .flags = data[7], .epoch = td_get32(data + 12), .step = td_get64(data + 16), .layer = td_get16(data + 24), .part = td_get16(data + 26),
        .micro_batch = data[28], .peer = td_get16(data + 30), .rows = td_get32(data + 32), .serial = td_get32(data + 36), .aux = td_get32(data + 40),
        .stamp_ns = td_get64(data + 48), .payload = data + TD_FRAME_HEADER, .payload_bytes = bytes - TD_FRAME_HEADER,
    };
    return TD_OK;
}

void td_frame_text(const td_frame *frame, char *out, size_t room)
{
    size_t n = TD_MIN(frame->payload_bytes, room - 1);
    for (size_t i = 0; i < n; i++) out[i] = frame->payload[i] >= 0x20 && frame->payload[i] < 0x7F ? (char)frame->payload[i] : '?';
    out[n] = 0;
}

/* ---- hello --------------------------------------------------------------------------------------------------------------------------- */

void td_hello_put(uint8_t out[TD_HELLO_BYTES], const td_hello *h)
{
    memset(out, 0, TD_HELLO_BYTES);
    td_put64(out, h->shape.fingerprint);
    td_put32(out + 8, (uint32_t)h->shape.layers);
    td_put32(out + 12, (uint32_t)h->shape.d_model);
    td_put32(out + 16, (uint32_t)h->shape.experts);
    td_put32(out + 20, (uint32_t)h->shape.top_k);
    td_put32(out + 24, h->shape.shared);
    td_put32(out + 28, h->role);
    td_put32(out + 32, h->frame_bytes_max);
    td_put32(out + 36, h->credits);
    td_put32(out + 40, h->flags);
    td_put32(out + 44, h->rows_max);
    td_put64(out + 48, h->instance);
    memcpy(out + 64, h->shape.name, 64);
    memcpy(out + 128, h->shape.dtype, 16);
    memcpy(out + 144, h->version, 16);
    memcpy(out + 160, h->layers, 64);
    memcpy(out + 224, h->preferred, 512);
    memcpy(out + 736, h->experts, 512);
}

/* Copies a text field; anything that is not printable ASCII becomes '?', so that it may go into logs and JSON. */
static void take_text(char *to, const uint8_t *from, size_t room)
{
    memcpy(to, from, room);
    to[room - 1] = 0;
    for (char *c = to; *c; c++)
        if (*c < 0x20 || *c > 0x7E) *c = '?';
}

td_status td_hello_check(const td_frame *frame, td_hello *out)
{
    const uint8_t *p = frame->payload;
    if (frame->payload_bytes < TD_HELLO_BYTES || frame->payload_bytes > TD_HELLO_BYTES + TD_OFFER_BYTES_MAX)
        return td_fail(TD_E_FORMAT, "hello: expected %d to %d bytes, found %zu", TD_HELLO_BYTES, TD_HELLO_BYTES + TD_OFFER_BYTES_MAX, frame->payload_bytes);
    uint32_t layers = td_get32(p + 8), d_model = td_get32(p + 12), experts = td_get32(p + 16), top_k = td_get32(p + 20), role = td_get32(p + 28);
    if (role < TD_ROLE_WORKER || role > TD_ROLE_CONTROL) return td_fail(TD_E_FORMAT, "hello: unknown role %u", role);
    if (layers > 512 || experts > 4096 || top_k > TD_WIRE_SLOTS_MAX || d_model > 1 << 20)
        return td_fail(TD_E_FORMAT, "hello: a shape out of range (%u layers, width %u, %u of %u experts)", layers, d_model, top_k, experts);
    *out = (td_hello){.shape = {.fingerprint = td_get64(p), .layers = (int)layers, .d_model = (int)d_model, .experts = (int)experts, .top_k = (int)top_k, .shared = td_get32(p + 24) != 0},
                      .role = role, .frame_bytes_max = td_get32(p + 32), .credits = td_get32(p + 36), .flags = td_get32(p + 40), .rows_max = td_get32(p + 44), .instance = td_get64(p + 48), .offer = p + TD_HELLO_BYTES,
                      .offer_bytes = frame->payload_bytes - TD_HELLO_BYTES};
    take_text(out->shape.name, p + 64, 64);
    take_text(out->shape.dtype, p + 128, 16);
    take_text(out->version, p + 144, 16);
    memcpy(out->layers, p + 160, 64);
    memcpy(out->preferred, p + 224, 512);
    memcpy(out->experts, p + 736, 512);
    return TD_OK;
}

/* ---- submit -------------------------------------------------------------------------------------------------------------------------- */

static size_t submit_front(const td_shape *shape, int layer, int rows)
{
    size_t bytes = (size_t)rows;
    if (shape->is_moe[layer]) bytes = (bytes + 3) / 4 * 4 + (size_t)rows * (size_t)shape->top_k * 4 + ((size_t)rows * (size_t)shape->top_k * 2 + 3) / 4 * 4;
    return (bytes + 63) / 64 * 64;
}

size_t td_submit_bytes(const td_shape *shape, int layer, int rows, td_encoding encoding)
{
    return submit_front(shape, layer, rows) + (size_t)rows * td_wire_row_bytes(encoding, shape->d_model);
}

size_t td_answer_row_bytes(const td_shape *shape, int layer, uint64_t mask, td_encoding back)
{
    if (mask == 0) return 0;
    if (shape->is_moe[layer] && mask == td_shape_full(shape, layer)) return td_wire_row_bytes(TD_ENCODING_F32, shape->d_model);
    return (size_t)__builtin_popcountll(mask) * td_wire_row_bytes(back, shape->d_model);
}

size_t td_submit_put(uint8_t *out, const td_shape *shape, int layer, int rows, const uint64_t *masks, const float *x, const int32_t *ids, const float *weights, td_encoding encoding)
{
    int count = 0, top_k = shape->is_moe[layer] ? shape->top_k : 0;
    uint64_t full = td_shape_full(shape, layer);
    for (int r = 0; r < rows; r++) count += masks[r] != 0;
    size_t front = submit_front(shape, layer, count), row_bytes = td_wire_row_bytes(encoding, shape->d_model);
    memset(out, 0, front);
    uint8_t *w = out + (count + 3) / 4 * 4, *id = w + (size_t)count * (size_t)top_k * 4, *row = out + front;
    for (int r = 0, n = 0; r < rows; r++) {
        if (masks[r] == 0) continue;
        out[n] = (uint8_t)((masks[r] == full ? TD_ROW_WHOLE : 0) | (masks[r] & TD_UNIT_PLAIN ? TD_ROW_PLAIN : 0));
        for (int s = 0; s < top_k; s++) {
            size_t at = (size_t)n * (size_t)top_k + (size_t)s;
            uint32_t bits;
            memcpy(&bits, &weights[r * top_k + s], 4);
            td_put32(w + at * 4, bits);
            td_put16(id + at * 2, masks[r] >> s & 1 ? (uint16_t)ids[r * top_k + s] : 0xFFFF);
        }
        td_wire_row_put(encoding, x + (size_t)r * (size_t)shape->d_model, shape->d_model, row);
        row += row_bytes;
        n++;
    }
    return (size_t)(row - out);
}

td_status td_submit_check(const td_frame *frame, const td_shape *shape, td_submit_view *out)
{
    td_submit_view view = {.encoding = frame->flags & 15, .back = frame->flags >> 4, .layer = frame->layer, .rows = (int)frame->rows};
    if (view.encoding >= TD_ENCODINGS || view.back > TD_ENCODING_BF16) return td_fail(TD_E_FORMAT, "submit: unknown encoding 0x%02x", frame->flags);
    if (frame->layer >= shape->layers) return td_fail(TD_E_FORMAT, "submit: expected a layer below %d, found %d", shape->layers, frame->layer);
    if (frame->rows == 0 || frame->rows > frame->payload_bytes || frame->payload_bytes != td_submit_bytes(shape, view.layer, view.rows, view.encoding))
        return td_fail(TD_E_FORMAT, "submit: %u rows do not fit %zu bytes", frame->rows, frame->payload_bytes);
    int top_k = shape->is_moe[view.layer] ? shape->top_k : 0;
    view.row_flags = frame->payload;
    view.weights = frame->payload + (view.rows + 3) / 4 * 4;
    view.ids = view.weights + (size_t)view.rows * (size_t)top_k * 4;
    view.x = frame->payload + submit_front(shape, view.layer, view.rows);
    for (int r = 0; r < view.rows; r++) {
        uint64_t mask = view.row_flags[r] & TD_ROW_PLAIN ? TD_UNIT_PLAIN : 0;
        for (int s = 0; s < top_k; s++) {
            uint16_t id = td_get16(view.ids + ((size_t)r * (size_t)top_k + (size_t)s) * 2);
            if (id == 0xFFFF) continue;
            if (id >= shape->experts) return td_fail(TD_E_FORMAT, "submit: expected an expert below %d, found %d", shape->experts, id);
            mask |= (uint64_t)1 << s;
        }
        uint64_t full = td_shape_full(shape, view.layer);
        if (mask == 0 || (mask & ~full) || view.row_flags[r] > 3 || ((view.row_flags[r] & TD_ROW_WHOLE) != 0) != (mask == full))
            return td_fail(TD_E_FORMAT, "submit: flags of row %d do not fit what it asks for", r);
        view.answer_bytes += td_answer_row_bytes(shape, view.layer, mask, view.back);
    }
    if (top_k == 0) view.ids = view.weights = NULL;
    *out = view;
    return TD_OK;
}
