/* log.c - formats a whole line first and writes it with one call, so that lines of several threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

static atomic_int most_verbose_level = TD_LOG_WARN;
static atomic_int as_json;

void td_log_level(td_log_severity most_verbose) { atomic_store(&most_verbose_level, (int)most_verbose); }
void td_log_json(int on) { atomic_store(&as_json, on); }

/* Copies text as the inside of a JSON string. Returns the bytes written. */
static size_t escape_json(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (; *text && n + 2 < room; text++) {
        if (*text == '"' || *text == '\\') out[n++] = '\\';
        out[n++] = *text;
    }
    out[n] = 0;
    return n;
}

void td_log(td_log_severity severity, const char *room, const char *format, ...)
{
    static const char *names[] = {"error", "warn", "info", "debug"};
    if ((int)severity > atomic_load(&most_verbose_level)) return;
    char text[1024], line[2400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    td_utf8_clean(text, strlen(text)); /* names out of files and of peers may be in it */
    int length;
    if (atomic_load(&as_json)) {
        char escaped[2100];
        escape_json(escaped, sizeof escaped, text);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        length = snprintf(line, sizeof line, "{\"time\":%lld.%03ld,\"level\":\"%s\",\"room\":\"%s\",\"message\":\"%s\"}\n",
                          (long long)now.tv_sec, now.tv_nsec / 1000000, names[severity], room, escaped);
    } else {
        length = snprintf(line, sizeof line, "%s %s: %s\n", names[severity], room, text);
    }
    if (length > (int)sizeof line - 1) length = (int)sizeof line - 1;
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0) return; /* nowhere left to say it */
}
