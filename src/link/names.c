/* names.c - see names.h. The table belongs to its owner and to the threads that look something up; whoever lets go last frees it. */
#include "link/names.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char address[TD_NAME_ROOM];  /* empty: free */
    bool asking, known;          /* a thread is looking it up; at is good */
    td_status status;            /* of the last look-up; TD_E_TIMEOUT: there was none yet */
    char why[256];
    td_place_of_name at;
    uint64_t used;
} entry;

struct td_names {
    pthread_mutex_t lock;
    td_names_look look;
    int holders;
    uint64_t order;
    entry entries[TD_NAMES_MAX];
};

typedef struct { td_names *names; int index; char address[TD_NAME_ROOM]; } errand;

/* With the lock held; the last one out frees the table. */
static void let_go(td_names *names)
{
    bool last = --names->holders == 0;
    pthread_mutex_unlock(&names->lock);
    if (!last) return;
    pthread_mutex_destroy(&names->lock);
    free(names);
}

static void *look_up(void *arg)
{
    errand *e = arg;
    td_place_of_name found;
    td_status status = e->names->look(e->address, &found);
    pthread_mutex_lock(&e->names->lock);
    entry *to = &e->names->entries[e->index];
    to->asking = false;
    to->status = status;
    if (status == TD_OK) {
        to->at = found;
        to->known = true;
    } else {
        snprintf(to->why, sizeof to->why, "%s", td_error());
    }
    let_go(e->names);
    free(e);
    return NULL;
}

/* A thread that takes no signals: they are for those who wait for them. */
static bool start_thread(errand *e)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, NULL, look_up, e) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) pthread_detach(thread);
    return started;
}

/* With the lock held. */
static td_status ask(td_names *names, entry *of)
{
    errand *e = malloc(sizeof *e);
    if (!e) return td_fail(TD_E_MEMORY, "address '%s': no memory", of->address);
    *e = (errand){.names = names, .index = (int)(of - names->entries)};
    memcpy(e->address, of->address, sizeof e->address);
    of->asking = true;
    names->holders++;
    if (start_thread(e)) return TD_OK;
    names->holders--;
    of->asking = false;
    free(e);
    return td_fail(TD_E_MEMORY, "address '%s': the system refused a thread", of->address);
}

/* Its entry, else a free one, else that which nobody has wanted for longest; NULL: all are being looked up. */
static entry *entry_of(td_names *names, const char *address)
{
    entry *oldest = NULL;
    for (int i = 0; i < TD_NAMES_MAX; i++) {
        entry *e = &names->entries[i];
        if (!strcmp(e->address, address)) return e;
        if (!e->asking && (!oldest || e->used < oldest->used)) oldest = e;
    }
    if (!oldest) return NULL;
    *oldest = (entry){.status = TD_E_TIMEOUT};
    snprintf(oldest->address, sizeof oldest->address, "%s", address);
    snprintf(oldest->why, sizeof oldest->why, "address '%.200s': the name is being looked up", address);
    return oldest;
}

td_status td_names_open(td_names_look look, td_names **out)
{
    td_names *names = calloc(1, sizeof *names);
    if (!names) return td_fail(TD_E_MEMORY, "link: no memory");
    names->look = look;
    names->holders = 1;
    pthread_mutex_init(&names->lock, NULL);
    *out = names;
    return TD_OK;
}

void td_names_close(td_names *names)
{
    if (!names) return;
    pthread_mutex_lock(&names->lock);
    let_go(names);
}

static td_status get(td_names *names, const char *address, td_place_of_name *out)
{
    entry *e = entry_of(names, address);
    if (!e) return td_fail(TD_E_FULL, "address '%s': %d other names are being looked up", address, TD_NAMES_MAX);
    e->used = ++names->order;
    td_status asked = e->asking ? TD_OK : ask(names, e);
    if (e->known) {
        *out = e->at;
        return TD_OK;
    }
    return asked < 0 ? asked : td_fail(e->status, "%s", e->why);
}

td_status td_names_get(td_names *names, const char *address, td_place_of_name *out)
{
    if (!address[0] || strlen(address) >= TD_NAME_ROOM) return td_fail(TD_E_INVALID, "address: expected up to %d characters, found %zu", TD_NAME_ROOM - 1, strlen(address));
    pthread_mutex_lock(&names->lock);
    td_status status = get(names, address, out);
    pthread_mutex_unlock(&names->lock);
    return status;
}
