/*
 * names.h - addresses of host names for who must not wait: a name is looked up by a thread of its own while the caller goes on, and the last good answer is kept.
 *
 * A slow name server therefore delays one connection and stops nothing. At most one thread a name, at most TD_NAMES_MAX names; closing does not wait for the system's answer.
 */
#ifndef TD_LINK_NAMES_H
#define TD_LINK_NAMES_H

#include <sys/socket.h>

#include "base/status.h"

enum { TD_NAMES_MAX = 64, TD_NAME_ROOM = 256 };

typedef struct { struct sockaddr_storage at; socklen_t length; } td_place_of_name;

/* Looks one up; may take as long as it likes. Called from other threads. */
typedef td_status (*td_names_look)(const char *address, td_place_of_name *out);

typedef struct td_names td_names;

td_status td_names_open(td_names_look look, td_names **out);
void td_names_close(td_names *names); /* NULL allowed */
/* What the last look-up found, at once; each call also starts a new one, so that a name that has moved is found by the next try. One thread may call. Errors: TD_E_TIMEOUT while the
 * first look-up is under way (try again later), what the look-up said when none has succeeded yet, TD_E_FULL, TD_E_MEMORY. */
td_status td_names_get(td_names *names, const char *address, td_place_of_name *out);

#endif
