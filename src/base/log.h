/*
 * log.h - what the program says about itself, on stderr, one line an event: "level room: sentence".
 * Never prompts or generated text. The level is set once at start (td_log_level); the functions may be called from any thread.
 */
#ifndef TD_BASE_LOG_H
#define TD_BASE_LOG_H

typedef enum { TD_LOG_ERROR, TD_LOG_WARN, TD_LOG_INFO, TD_LOG_DEBUG } td_log_severity;

/* Lines above this severity are not written. Default TD_LOG_WARN. */
void td_log_level(td_log_severity most_verbose);

/* Switches to one JSON object a line ({"time","level","room","message"}). */
void td_log_json(int on);

void td_log(td_log_severity severity, const char *room, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
