/*
 * wire.h - what travels through the corridor: frames with a fixed little-endian header, and rows of activations in a chosen precision.
 *
 * Everything here is a pure function on the caller's buffers; nothing is trusted before td_frame_check has accepted it. docs/protocol.md shows the bytes.
 * A frame is TD_FRAME_HEADER bytes of header and a payload. A submit asks for units of work: a unit is one expert slot of one row, or a row's shared expert
 * (on a dense layer: its whole FFN). Which units of a row are wanted is a mask; a row whose mask is full is answered with the finished sum.
 */
#ifndef TD_LINK_WIRE_H
#define TD_LINK_WIRE_H

#include "base/status.h"

enum {
    TD_WIRE_VERSION = 3,
    TD_FRAME_HEADER = 64,
    TD_FRAME_OUTER = 32,           /* room in front of a frame for the header of its sealed form */
    TD_FRAME_TAG = 16,             /* room behind it for the seal's tag */
    TD_ANSWER_INFO = 64,           /* front of an answer's payload */
    TD_HELLO_BYTES = 1248,         /* without the offer of lanes behind it */
    TD_OFFER_BYTES_MAX = 2048,
    TD_GREETING_BYTES = 32, TD_CHALLENGE_BYTES = 64, TD_PROOF_BYTES = 32,
    TD_TEXT_BYTES_MAX = 256 * 1024, /* stats, commands, error sentences */
    TD_WIRE_SLOTS_MAX = 62         /* experts per token that a row mask can hold */
};

typedef enum {
    TD_FRAME_GREETING = 1, TD_FRAME_CHALLENGE, TD_FRAME_PROOF, /* before the peer is known; fixed lengths */
    TD_FRAME_HELLO, TD_FRAME_SUBMIT, TD_FRAME_ANSWER, TD_FRAME_PING, TD_FRAME_PONG, TD_FRAME_DRAIN, TD_FRAME_COMMAND, TD_FRAME_REPLY, TD_FRAME_ERROR,
    TD_FRAME_KINDS
} td_frame_kind;

typedef enum { TD_ENCODING_F32, TD_ENCODING_BF16, TD_ENCODING_F8, TD_ENCODINGS } td_encoding;

/* One frame. What the fields mean for each kind is in docs/protocol.md; unused ones are zero. */
typedef struct {
    td_frame_kind kind;
    uint8_t flags;
    uint32_t epoch;            /* of the attention instance: raised whenever its set of workers changes */
    uint64_t step;
    uint16_t layer, part;      /* part: place of the flight among the ticket's flights */
    uint8_t micro_batch;
    uint16_t peer;             /* the worker's number at the attention instance */
    uint32_t rows;
    uint32_t serial;           /* counts submits on a connection; an answer repeats it */
    uint32_t aux;
    uint64_t stamp_ns;         /* the sender's clock */
    const uint8_t *payload;    /* borrowed */
    size_t payload_bytes;
} td_frame;

/* Writes the header for a payload that already lies at out + TD_FRAME_HEADER; returns the frame's length. seed: see td_frame_sum. */
size_t td_frame_finish(uint8_t *out, const td_frame *frame, uint64_t seed);
/* Length, magic, version, kind, zero fields and checksum. Payload points into data. Errors: TD_E_FORMAT with a sentence. */
td_status td_frame_check(const uint8_t *data, size_t bytes, uint64_t seed, td_frame *out);
/* 64-bit checksum. The seed is the session's secret number, so that a frame of another session does not pass. Guards against accidents, not against forgers: seal for that. */
uint64_t td_frame_sum(const uint8_t *data, size_t bytes, uint64_t seed);
/* Its payload as text that fits room, cut off, with ? for what is not printable ASCII. */
void td_frame_text(const td_frame *frame, char *out, size_t room);

static inline void td_put16(uint8_t *to, uint16_t v) { to[0] = (uint8_t)v; to[1] = (uint8_t)(v >> 8); }
static inline void td_put32(uint8_t *to, uint32_t v) { td_put16(to, (uint16_t)v); td_put16(to + 2, (uint16_t)(v >> 16)); }
static inline void td_put64(uint8_t *to, uint64_t v) { td_put32(to, (uint32_t)v); td_put32(to + 4, (uint32_t)(v >> 32)); }
static inline uint16_t td_get16(const uint8_t *from) { return (uint16_t)(from[0] | from[1] << 8); }
static inline uint32_t td_get32(const uint8_t *from) { return td_get16(from) | (uint32_t)td_get16(from + 2) << 16; }
static inline uint64_t td_get64(const uint8_t *from) { return td_get32(from) | (uint64_t)td_get32(from + 4) << 32; }

/* ---- rows ---------------------------------------------------------------------------------------------------------------------------- */

/* F32: 4 n. BF16: 2 n (nearest even). F8: n bytes E4M3, then one f32 scale per 128 elements (largest magnitude / 448, 1 when that is 0). */
size_t td_wire_row_bytes(td_encoding encoding, int n);
void td_wire_row_put(td_encoding encoding, const float *row, int n, uint8_t *out);
void td_wire_row_get(td_encoding encoding, const uint8_t *in, int n, float *row);
/* What the other side will see: put and get without the bytes. F8 is not offered for answers. */
void td_wire_row_round(td_encoding encoding, float *row, int n);

/* How the two directions are encoded: "f32", "bf16", "fp8" (out FP8, back BF16). */
typedef struct { td_encoding out, back; } td_wire_mode;
td_status td_wire_mode_parse(const char *name, td_wire_mode *out); /* NULL: f32 */

/* ---- submit and answer --------------------------------------------------------------------------------------------------------------- */

/* What both sides know about the model. */
typedef struct {
    uint64_t fingerprint;
    char name[64], dtype[16];
    int layers, d_model, experts, top_k;
    bool shared;               /* MoE layers have a shared expert */
    const bool *is_moe;        /* [layers]; borrowed */
} td_shape;

#define TD_UNIT_PLAIN ((uint64_t)1 << 63) /* shared expert; dense layer: the FFN */
/* All units of a row in this layer. */
static inline uint64_t td_shape_full(const td_shape *shape, int layer)
{
    if (!shape->is_moe[layer]) return TD_UNIT_PLAIN;
    return (((uint64_t)1 << shape->top_k) - 1) | (shape->shared ? TD_UNIT_PLAIN : 0);
}

enum { TD_ROW_WHOLE = 1, TD_ROW_PLAIN = 2 }; /* answer with the sum; the shared expert (dense: the FFN) is wanted */

/* A submit as seen by the worker. Payload: per row a byte of row flags; on MoE layers int16 ids [rows, top_k] (-1: not wanted) and f32 weights [rows, top_k]; zeros up to
 * a multiple of 64; the encoded rows. flags of the frame: encoding of rows | encoding of answers << 4. aux: submits of the same ticket that follow for this worker. */
typedef struct {
    td_encoding encoding, back;
    int layer, rows;
    size_t answer_bytes;       /* of the answer that it asks for, without TD_ANSWER_INFO; no bound is checked here */
    const uint8_t *row_flags;  /* [rows] */
    const uint8_t *ids, *weights; /* little-endian arrays, NULL on dense layers */
    const uint8_t *x;          /* rows of td_wire_row_bytes(encoding) */
} td_submit_view;

size_t td_submit_bytes(const td_shape *shape, int layer, int rows, td_encoding encoding);
/* Bytes of the answer's payload for one row with that mask. */
size_t td_answer_row_bytes(const td_shape *shape, int layer, uint64_t mask, td_encoding back);

/* Writes the payload of a submit for the rows whose mask is not 0, in ascending order; returns its length. x [rows, d_model], ids and weights [rows, top_k]. */
size_t td_submit_put(uint8_t *out, const td_shape *shape, int layer, int rows, const uint64_t *masks, const float *x, const int32_t *ids, const float *weights, td_encoding encoding);
/* Every field in range, exactly as long as it must be; ids name experts of the model. Errors: TD_E_FORMAT. */
td_status td_submit_check(const td_frame *frame, const td_shape *shape, td_submit_view *out);

/* What a worker says about itself when a connection begins. */
typedef struct {
    td_shape shape;            /* is_moe is not sent */
    char version[16];
    uint32_t role;             /* TD_ROLE_ */
    uint32_t frame_bytes_max, credits, rows_max, flags; /* largest frame, submits in the air at once, rows per submit that it takes */
    uint64_t instance;         /* random number of the process */
    uint8_t layers[64];        /* bit set: layers it can compute */
    uint8_t preferred[512], experts[512]; /* experts it was started for; experts it can compute */
    const uint8_t *offer;      /* of lanes (transport.h); borrowed, valid as long as the frame */
    size_t offer_bytes;        /* 0: none */
} td_hello;

enum { TD_ROLE_WORKER = 1, TD_ROLE_ATTENTION = 2, TD_ROLE_CONTROL = 3 };

/* Writes all but the offer, which may follow. */
void td_hello_put(uint8_t out[TD_HELLO_BYTES], const td_hello *hello);
td_status td_hello_check(const td_frame *frame, td_hello *out);

static inline bool td_bit(const uint8_t *bits, int i) { return bits[i >> 3] >> (i & 7) & 1; }
static inline void td_bit_set(uint8_t *bits, int i) { bits[i >> 3] |= (uint8_t)(1u << (i & 7)); }

#endif
