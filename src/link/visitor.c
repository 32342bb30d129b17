/*
 * visitor.c - who connects to the attention side: control clients (tandem workers --of), few at a time. See crew.h.
 */
#include "link/crew.h"

#include <string.h>

#include "base/log.h"

#define VISIT_MAX (30000 * TD_MS)

void td_visit_end(td_crew *crew, td_visitor *visitor, bool hang_up)
{
    if (hang_up) crew->options.transport->ops->hang_up(crew->options.transport, visitor->conn);
    *visitor = (td_visitor){0};
}

/* Text back to a control client; it hangs up itself. */
static void reply(td_crew *crew, td_visitor *visitor, const char *text, size_t bytes, bool error)
{
    td_transport *t = crew->options.transport;
    uint8_t *room = td_outbox_take(&crew->big);
    if (!room) return;
    size_t n = TD_MIN(bytes, TD_MIN(crew->options.frame_bytes_max, (size_t)TD_TEXT_BYTES_MAX)), length;
    memcpy(td_outbox_payload(room), text, n);
    td_frame frame = {.kind = error ? TD_FRAME_ERROR : TD_FRAME_REPLY, .payload = td_outbox_payload(room), .payload_bytes = n};
    const uint8_t *data = td_session_seal(&visitor->session, room, &frame, &length);
    if (!t->ops->send(t, visitor->conn, data, length, room)) td_outbox_give(&crew->big, room);
}

static void visitor_command(td_crew *crew, td_visitor *visitor, const td_frame *frame)
{
    char text[TD_ADDRESS_MAX + 16];
    td_frame_text(frame, text, sizeof text);
    if (!strcmp(text, "stats")) {
        td_buffer json = {0};
        td_crew_json(crew, &json);
        if (td_buffer_status(&json) == TD_OK) reply(crew, visitor, json.data, json.bytes, false);
        else reply(crew, visitor, td_error(), strlen(td_error()), true);
        td_buffer_free(&json);
        return;
    }
    td_status status = td_crew_command(crew, text);
    if (status < 0) reply(crew, visitor, td_error(), strlen(td_error()), true);
    else reply(crew, visitor, "{\"done\":true}", 13, false);
}

void td_visit_frame(td_crew *crew, td_visitor *visitor, const uint8_t *data, size_t bytes)
{
    td_take what;
    td_frame frame;
    uint8_t back[TD_HANDSHAKE_FRAME];
    size_t back_bytes;
    td_status status = td_session_take(&visitor->session, &crew->options.secret, false, data, bytes, crew->scratch, crew->big.each, &what, &frame, back, &back_bytes);
    if (status < 0 || (back_bytes && !td_crew_send_plain(crew, visitor->conn, back, back_bytes))) {
        td_log(TD_LOG_WARN, "link", "control: a visitor is turned away: %s", td_error());
        td_visit_end(crew, visitor, true);
        return;
    }
    if (what != TD_TAKE_FRAME || frame.kind == TD_FRAME_HELLO) return;
    if (frame.kind == TD_FRAME_COMMAND) visitor_command(crew, visitor, &frame);
    else td_visit_end(crew, visitor, true);
}

/* A free place, else that of who has been here longest without having proven the secret; NULL: all have, or had no time yet. */
static td_visitor *place_for_visitor(td_crew *crew)
{
    td_visitor *stranger = NULL;
    for (int i = 0; i < TD_VISITORS_MAX; i++) {
        td_visitor *visitor = &crew->visitors[i];
        if (!visitor->used) return visitor;
        if (visitor->session.state != TD_SESSION_OPEN && (!stranger || visitor->since < stranger->since)) stranger = visitor;
    }
    if (!stranger || td_crew_now(crew) - stranger->since < TD_STRANGER_TIME) return NULL;
    td_visit_end(crew, stranger, true);
    return stranger;
}

void td_visit_begin(td_crew *crew, int conn, const char *name)
{
    td_visitor *visitor = place_for_visitor(crew);
    if (visitor) {
        *visitor = (td_visitor){.conn = conn, .used = true, .since = td_crew_now(crew)};
        td_session_await(&visitor->session);
        return;
    }
    td_log(TD_LOG_WARN, "link", "control: %s is turned away, %d visitors are here already", name, TD_VISITORS_MAX);
    crew->options.transport->ops->hang_up(crew->options.transport, conn);
}

void td_visits_tend(td_crew *crew, int64_t now)
{
    for (int i = 0; i < TD_VISITORS_MAX; i++) {
        td_visitor *visitor = &crew->visitors[i];
        int64_t most = visitor->session.state == TD_SESSION_OPEN ? VISIT_MAX : TD_HANDSHAKE_TIME;
        if (visitor->used && now - visitor->since > most) td_visit_end(crew, visitor, true);
    }
}
