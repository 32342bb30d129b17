/* session.c - see session.h. All cryptography is libsodium's: BLAKE2b as MAC and for keys, ChaCha20-Poly1305 (IETF) for sealed frames. */
#include "link/session.h"

#include <sodium.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"

#define SEALED_MAGIC 0x53444E54u /* "TNDS": magic, total bytes, counter u64, 16 zero bytes; then ciphertext of the frame and its tag */

enum { SECRET_FILE_MIN = 16, SECRET_FILE_MAX = 4096, FLAG_ENCRYPT = 1 };

td_status td_secret_load(const char *path, td_secret *out)
{
    char *text;
    size_t bytes;
    if (sodium_init() < 0) return td_fail(TD_E_INTERNAL, "secret: libsodium did not start");
    if (!path) return td_fail(TD_E_INVALID, "secret: expected --secret-file FILE (the same on every machine), found none; 'head -c 32 /dev/urandom | base64 > key' makes one");
    TD_TRY(td_file_read(path, SECRET_FILE_MAX, &text, &bytes));
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == '\r')) bytes--;
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077)) td_log(TD_LOG_WARN, "link", "secret file %s can be read by others (mode %o); chmod 600 it", path, info.st_mode & 0777);
    if (bytes >= SECRET_FILE_MIN)
        crypto_generichash(out->key, sizeof out->key, (const uint8_t *)text, bytes, (const uint8_t *)"tandem secret 1 ", 16);
    sodium_memzero(text, bytes);
    free(text);
    if (bytes < SECRET_FILE_MIN) return td_fail(TD_E_INVALID, "secret file %s: expected at least %d bytes, found %zu", path, SECRET_FILE_MIN, bytes);
    return TD_OK;
}

/* ---- handshake ----------------------------------------------------------------------------------------------------------------------- */

/* BLAKE2b(secret; label, version, wish, both nonces). */
static void derive(const td_session *s, const td_secret *secret, const char *label, uint8_t *out, size_t bytes)
{
    crypto_generichash_state state;
    uint8_t front[16] = {0};
    memcpy(front, label, strlen(label));
    front[14] = TD_WIRE_VERSION;
    front[15] = s->encrypt;
    crypto_generichash_init(&state, secret->key, sizeof secret->key, bytes);
    crypto_generichash_update(&state, front, sizeof front);
    crypto_generichash_update(&state, s->nonce_client, sizeof s->nonce_client);
    crypto_generichash_update(&state, s->nonce_worker, sizeof s->nonce_worker);
    crypto_generichash_final(&state, out, bytes);
}

static void open_session(td_session *s, const td_secret *secret)
{
    uint8_t seed[32], to_worker[32], to_client[32];
    derive(s, secret, "seed", seed, sizeof seed);
    derive(s, secret, "to worker", to_worker, 32);
    derive(s, secret, "to client", to_client, 32);
    s->seed = td_get64(seed);
    memcpy(s->key_out, s->client ? to_worker : to_client, 32);
    memcpy(s->key_in, s->client ? to_client : to_worker, 32);
    s->sent = s->seen = s->seen_mask = 0;
    s->state = TD_SESSION_OPEN;
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(to_worker, sizeof to_worker);
    sodium_memzero(to_client, sizeof to_client);
}

size_t td_session_greet(td_session *s, bool encrypt, uint8_t *out)
{
    *s = (td_session){.state = TD_SESSION_GREETED, .client = true, .encrypt = encrypt};
    randombytes_buf(s->nonce_client, sizeof s->nonce_client);
    memcpy(out + TD_FRAME_HEADER, s->nonce_client, TD_NONCE_BYTES);
    td_frame frame = {.kind = TD_FRAME_GREETING, .flags = encrypt ? FLAG_ENCRYPT : 0, .payload_bytes = TD_GREETING_BYTES};
    return td_frame_finish(out, &frame, 0);
}

void td_session_await(td_session *s) { *s = (td_session){.state = TD_SESSION_NEW}; }

/* Worker: GREETING in, CHALLENGE out. */
static size_t challenge(td_session *s, const td_secret *secret, const td_frame *frame, uint8_t *reply)
{
    s->encrypt = frame->flags & FLAG_ENCRYPT;
    memcpy(s->nonce_client, frame->payload, TD_NONCE_BYTES);
    randombytes_buf(s->nonce_worker, sizeof s->nonce_worker);
    memcpy(reply + TD_FRAME_HEADER, s->nonce_worker, TD_NONCE_BYTES);
    derive(s, secret, "worker", reply + TD_FRAME_HEADER + TD_NONCE_BYTES, 32);
    td_frame out = {.kind = TD_FRAME_CHALLENGE, .payload_bytes = TD_CHALLENGE_BYTES};
    s->state = TD_SESSION_CHALLENGED;
    return td_frame_finish(reply, &out, 0);
}

/* Client: CHALLENGE in, PROOF out; the client is open, it may send at once. */
static td_status prove(td_session *s, const td_secret *secret, const td_frame *frame, uint8_t *reply, size_t *reply_bytes)
{
    uint8_t expected[32];
    memcpy(s->nonce_worker, frame->payload, TD_NONCE_BYTES);
    derive(s, secret, "worker", expected, 32);
    if (sodium_memcmp(expected, frame->payload + TD_NONCE_BYTES, 32) != 0) return td_fail(TD_E_PEER, "the worker does not have the same secret");
    derive(s, secret, "client", reply + TD_FRAME_HEADER, 32);
    td_frame out = {.kind = TD_FRAME_PROOF, .payload_bytes = TD_PROOF_BYTES};
    *reply_bytes = td_frame_finish(reply, &out, 0);
    open_session(s, secret);
    return TD_OK;
}

static td_status shake(td_session *s, const td_secret *secret, bool require_encryption, const uint8_t *data, size_t bytes, td_take *what, uint8_t *reply, size_t *reply_bytes)
{
    td_frame frame;
    uint8_t expected[32];
    TD_TRY(td_frame_check(data, bytes, 0, &frame));
    if (s->state == TD_SESSION_NEW && frame.kind == TD_FRAME_GREETING && frame.payload_bytes == TD_GREETING_BYTES) {
        if (require_encryption && !(frame.flags & FLAG_ENCRYPT)) return td_fail(TD_E_PEER, "this worker accepts only encrypted connections (--encrypt)");
        *reply_bytes = challenge(s, secret, &frame, reply);
        return TD_OK;
    }
    if (s->state == TD_SESSION_GREETED && frame.kind == TD_FRAME_CHALLENGE && frame.payload_bytes == TD_CHALLENGE_BYTES) {
        TD_TRY(prove(s, secret, &frame, reply, reply_bytes));
        *what = TD_TAKE_OPENED;
        return TD_OK;
    }
    if (s->state == TD_SESSION_CHALLENGED && frame.kind == TD_FRAME_PROOF && frame.payload_bytes == TD_PROOF_BYTES) {
        derive(s, secret, "client", expected, 32);
        if (sodium_memcmp(expected, frame.payload, 32) != 0) return td_fail(TD_E_PEER, "the other side does not have the same secret");
        open_session(s, secret);
        *what = TD_TAKE_OPENED;
        return TD_OK;
    }
    return td_fail(TD_E_FORMAT, "expected the handshake to go on, found a frame of kind %d", (int)frame.kind);
}

/* ---- sealed frames ------------------------------------------------------------------------------------------------------------------- */

static void nonce_of(uint64_t counter, uint8_t nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES])
{
    memset(nonce, 0, crypto_aead_chacha20poly1305_IETF_NPUBBYTES);
    td_put64(nonce, counter);
}

/* False: seen before, or too old to tell. */
static bool count_in(td_session *s, uint64_t counter)
{
    if (counter == 0) return false;
    if (counter > s->seen) {
        uint64_t ahead = counter - s->seen;
        s->seen_mask = ahead >= 64 ? 1 : s->seen_mask << ahead | 1;
        s->seen = counter;
        return true;
    }
    uint64_t back = s->seen - counter;
    if (back >= 64 || s->seen_mask >> back & 1) return false;
    s->seen_mask |= (uint64_t)1 << back;
    return true;
}

static td_status unseal(td_session *s, const uint8_t *data, size_t bytes, uint8_t *scratch, size_t scratch_bytes, td_take *what, td_frame *frame)
{
    uint8_t nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES];
    unsigned long long plain;
    if (bytes < TD_FRAME_OUTER + TD_FRAME_HEADER + TD_FRAME_TAG || td_get32(data) != SEALED_MAGIC || td_get32(data + 4) != bytes)
        return td_fail(TD_E_FORMAT, "expected a sealed frame, found %zu bytes of something else", bytes);
    size_t opened = bytes - TD_FRAME_OUTER - TD_FRAME_TAG;
    if (opened > scratch_bytes) return td_fail(TD_E_FORMAT, "expected a sealed frame of at most %zu bytes, found %zu", scratch_bytes, opened); /* a wrong seal also writes all of them */
    uint64_t counter = td_get64(data + 8);
    nonce_of(counter, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(scratch, &plain, NULL, data + TD_FRAME_OUTER, bytes - TD_FRAME_OUTER, data, TD_FRAME_OUTER, nonce, s->key_in) != 0)
        return td_fail(TD_E_FORMAT, "a sealed frame of %zu bytes was changed on the way", bytes);
    if (!count_in(s, counter)) return TD_OK; /* a repetition */
    TD_TRY(td_frame_check(scratch, (size_t)plain, s->seed, frame));
    *what = TD_TAKE_FRAME;
    return TD_OK;
}

static td_status take(td_session *s, const td_secret *secret, bool require_encryption, const uint8_t *data, size_t bytes, uint8_t *scratch, size_t scratch_bytes, td_take *what,
                      td_frame *frame, uint8_t *reply, size_t *reply_bytes)
{
    if (s->state == TD_SESSION_ENDED) return td_fail(TD_E_PEER, "the session has ended");
    if (s->state != TD_SESSION_OPEN) return shake(s, secret, require_encryption, data, bytes, what, reply, reply_bytes);
    if (s->encrypt) return unseal(s, data, bytes, scratch, scratch_bytes, what, frame);
    TD_TRY(td_frame_check(data, bytes, s->seed, frame));
    *what = TD_TAKE_FRAME;
    return TD_OK;
}

td_status td_session_take(td_session *s, const td_secret *secret, bool require_encryption, const uint8_t *data, size_t bytes, uint8_t *scratch, size_t scratch_bytes, td_take *what,
                          td_frame *frame, uint8_t *reply, size_t *reply_bytes)
{
    *what = TD_TAKE_NOTHING;
    *reply_bytes = 0;
    td_status status = take(s, secret, require_encryption, data, bytes, scratch, scratch_bytes, what, frame, reply, reply_bytes);
    if (status == TD_OK && *what == TD_TAKE_FRAME && frame->kind <= TD_FRAME_PROOF) status = td_fail(TD_E_FORMAT, "a handshake frame inside an open session");
    if (status < 0) s->state = TD_SESSION_ENDED;
    return status;
}

const uint8_t *td_session_seal(td_session *s, uint8_t *room, const td_frame *frame, size_t *bytes)
{
    uint8_t *plain = room + TD_FRAME_OUTER;
    if (!s->encrypt) {
        *bytes = td_frame_finish(plain, frame, s->seed);
        return plain;
    }
    uint8_t nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES];
    unsigned long long sealed;
    size_t plain_bytes = td_frame_finish(plain, frame, s->seed), total = TD_FRAME_OUTER + plain_bytes + TD_FRAME_TAG;
    memset(room, 0, TD_FRAME_OUTER);
    td_put32(room, SEALED_MAGIC);
    td_put32(room + 4, (uint32_t)total);
    td_put64(room + 8, ++s->sent);
    nonce_of(s->sent, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(plain, &sealed, plain, plain_bytes, room, TD_FRAME_OUTER, NULL, nonce, s->key_out);
    *bytes = TD_FRAME_OUTER + (size_t)sealed;
    return room;
}
