/*
 * session.h - one connection between two processes that share a secret: who is there, and frames that nobody changed on the way.
 *
 *     client (attention, control)                     worker
 *     GREETING  nonce_c, wish to encrypt  ----------> nothing else is read before the PROOF is right
 *               <---------------------------------    CHALLENGE nonce_w, MAC(secret, "worker", nonces, wish)
 *     PROOF     MAC(secret, "client", nonces, wish) -> open
 *
 * Both then derive the session's checksum seed and, when encryption was asked for, two keys. A session never allocates; a wrong frame ends it.
 */
#ifndef TD_LINK_SESSION_H
#define TD_LINK_SESSION_H

#include "base/clock.h"
#include "link/wire.h"

enum { TD_SECRET_BYTES = 32, TD_NONCE_BYTES = 32, TD_HANDSHAKE_FRAME = TD_FRAME_HEADER + TD_CHALLENGE_BYTES };

typedef struct { uint8_t key[TD_SECRET_BYTES]; } td_secret;
/* Hash of the file's bytes without trailing line ends; at least 16 bytes are required. A warning is logged when others may read the file. */
td_status td_secret_load(const char *path, td_secret *out);

typedef enum { TD_SESSION_NEW, TD_SESSION_GREETED, TD_SESSION_CHALLENGED, TD_SESSION_OPEN, TD_SESSION_ENDED } td_session_state;

typedef struct {
    td_session_state state;
    bool client, encrypt;
    uint8_t nonce_client[TD_NONCE_BYTES], nonce_worker[TD_NONCE_BYTES];
    uint64_t seed;                      /* of checksums */
    uint8_t key_out[32], key_in[32];    /* when encrypted */
    uint64_t sent, seen, seen_mask;     /* counters of sealed frames; window of 64 against repetition */
} td_session;

/* How long a connection that has not proven the secret keeps its place when others want in, ns. */
#define TD_STRANGER_TIME (100 * TD_MS)
#define TD_HANDSHAKE_TIME (3000 * TD_MS) /* how long a handshake may last, on either side */

/* What td_session_take found. */
typedef enum { TD_TAKE_NOTHING, TD_TAKE_OPENED, TD_TAKE_FRAME } td_take;

/* A client's first frame; returns its length. out: TD_HANDSHAKE_FRAME bytes. */
size_t td_session_greet(td_session *session, bool encrypt, uint8_t *out);
/* A worker's side of a new connection. require_encryption: refuses clients that do not ask for it. */
void td_session_await(td_session *session);

/* One received message. *what: nothing to do, the session has just opened, or *frame is a checked frame (its payload lies in data or in scratch; a sealed frame that is
 * longer than scratch_bytes when opened is refused before scratch is written).
 * reply (TD_HANDSHAKE_FRAME bytes) holds *reply_bytes to send back when that is not 0. An error ends the session: hang up. */
td_status td_session_take(td_session *session, const td_secret *secret, bool require_encryption, const uint8_t *data, size_t bytes, uint8_t *scratch, size_t scratch_bytes, td_take *what,
                          td_frame *frame, uint8_t *reply, size_t *reply_bytes);

/* Makes a frame whose payload already lies at room + TD_FRAME_OUTER + TD_FRAME_HEADER ready to send; room has TD_FRAME_TAG bytes behind the payload.
 * Returns where the message begins and its length. */
const uint8_t *td_session_seal(td_session *session, uint8_t *room, const td_frame *frame, size_t *bytes);

#endif
