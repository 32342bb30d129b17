/* security.c - who may listen and who may ask: the listening socket, API keys. Keys are kept and compared as hashes, all of them, in constant time. */
#include <errno.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "serve/serve.h"

enum { KEYS_MAX = 1024, KEY_FILE_MAX = 1 << 20 };

td_status td_keys_load(td_server *server, const char *path)
{
    char *text;
    size_t bytes;
    TD_TRY(td_file_read(path, KEY_FILE_MAX, &text, &bytes));
    server->keys = td_arena_array(&server->arena, KEYS_MAX, sizeof *server->keys);
    td_status status = server->keys ? TD_OK : TD_E_MEMORY;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\r\n", &rest); line && status == TD_OK; line = strtok_r(NULL, "\r\n", &rest)) {
        line += strspn(line, " \t");
        size_t length = strcspn(line, " \t");
        if (!length || *line == '#') continue;
        if (server->key_count == KEYS_MAX) status = td_fail(TD_E_FORMAT, "file %s: expected at most %d keys, found more", path, KEYS_MAX);
        else if (length < 8) status = td_fail(TD_E_FORMAT, "file %s: expected keys of at least 8 characters, found one of %zu", path, length);
        else crypto_generichash(server->keys[server->key_count++], 32, (const unsigned char *)line, length, NULL, 0);
    }
    sodium_memzero(text, bytes);
    free(text);
    if (status == TD_OK && !server->key_count) status = td_fail(TD_E_FORMAT, "file %s: expected at least one key, found none", path);
    return status;
}

/* "Authorization: Bearer KEY" (OpenAI) or "x-api-key: KEY" (Anthropic). */
bool td_key_accepted(td_exchange *x)
{
    const td_server *server = x->server;
    if (!server->key_count) return true;
    const char *given = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Authorization");
    if (given && !strncasecmp(given, "Bearer ", 7)) given += 7 + strspn(given + 7, " ");
    else given = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "x-api-key");
    if (!given) return false;
    unsigned char hash[32];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)given, strlen(given), NULL, 0);
    int found = -1;
    for (int i = 0; i < server->key_count; i++)
        if (!sodium_memcmp(hash, server->keys[i], sizeof hash)) found = i;
    if (found >= 0) snprintf(x->client_key, sizeof x->client_key, "key%d", found);
    return found >= 0;
}

static int open_socket(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

td_status td_listen(const char *host, int port, int *fd, int *bound_port)
{
    char service[16];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(host, service, &hints, &found);
    if (error) return td_fail(TD_E_INVALID, "host %s: expected an address of this machine: %s", host, gai_strerror(error));
    int opened = -1;
    for (const struct addrinfo *a = found; a && opened < 0; a = a->ai_next) opened = open_socket(a);
    freeaddrinfo(found);
    if (opened < 0) return td_fail(TD_E_IO, "cannot listen on %s port %d: %s", host, port, strerror(errno));
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    char text[16] = "";
    getsockname(opened, (struct sockaddr *)&name, &length);
    getnameinfo((struct sockaddr *)&name, length, NULL, 0, text, sizeof text, NI_NUMERICSERV);
    *fd = opened;
    *bound_port = atoi(text);
    return TD_OK;
}
