/* chat.c - tandem chat: a conversation with the model's own chat template, line editing and history (libedit). */
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/buffer.h"
#include "options.h"
#include "verbs.h"

enum { HISTORY_LINES = 1000 };

typedef struct {
    const char *system;
    td_request_options request;
    td_engine_options engine;
    td_model_options model;
} settings;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal) { interrupted = signal; }

static void add_message(td_buffer *messages, const char *role, const char *text, size_t bytes)
{
    if (messages->bytes) td_buffer_text(messages, ",");
    td_buffer_format(messages, "{\"role\":\"%s\",\"content\":", role);
    td_buffer_json(messages, text, bytes);
    td_buffer_text(messages, "}");
}

/* Renders the conversation, streams the answer, and appends it. False after an error sentence. */
static bool answer(const settings *s, const td_model *model, td_engine *engine, td_buffer *messages)
{
    td_buffer list = {0}, said = {0};
    char *prompt = NULL;
    td_buffer_format(&list, "[%s]", messages->data);
    td_request *request = NULL;
    td_request_options options = s->request;
    bool fine = td_buffer_status(&list) == TD_OK && td_chat_render(model, list.data, NULL, true, &prompt) == TD_OK;
    if (fine) {
        options.text = prompt;
        options.text_bytes = strlen(prompt);
        fine = td_request_submit(engine, &options, &request) == TD_OK;
    }
    td_event event = {0};
    interrupted = 0;
    while (fine && event.kind != TD_EVENT_FINISHED) {
        if (td_request_next(request, 100, &event) == TD_E_TIMEOUT) event = (td_event){.kind = TD_EVENT_PROGRESS};
        if (interrupted) td_request_cancel(request);
        fwrite(event.text, 1, event.text_bytes, stdout);
        fflush(stdout);
        td_buffer_put(&said, event.text, event.text_bytes);
    }
    printf("\n");
    if (!fine) failed();
    else if (event.finish == TD_FINISH_ERROR) fprintf(stderr, "tandem: %s\n", event.message);
    else if (event.finish == TD_FINISH_CONTEXT) fprintf(stderr, "tandem: the context of %d tokens is full; /clear begins anew\n", s->engine.context_max);
    if (fine) add_message(messages, "assistant", said.data ? said.data : "", said.bytes);
    td_request_free(request);
    td_free(prompt);
    td_buffer_free(&list);
    td_buffer_free(&said);
    return fine;
}

static void begin(const settings *s, td_buffer *messages)
{
    td_buffer_clear(messages);
    if (s->system) add_message(messages, "system", s->system, strlen(s->system));
}

/* Takes one line: a command or something said. False: the conversation ends. */
static bool take_line(const settings *s, const td_model *model, td_engine *engine, td_buffer *messages, const char *line, size_t length)
{
    if (length == 0) return true;
    if (!strncmp(line, "/quit", 5) || !strncmp(line, "/exit", 5)) return false;
    if (!strncmp(line, "/clear", 6)) {
        begin(s, messages);
        return true;
    }
    if (line[0] == '/') {
        fprintf(stderr, "commands: /clear (begin anew), /quit\n");
        return true;
    }
    size_t before = messages->bytes;
    add_message(messages, "user", line, length);
    if (!answer(s, model, engine, messages)) messages->data[messages->bytes = before] = 0;
    return true;
}

static char *prompt_text(EditLine *edit)
{
    (void)edit;
    static char text[] = "> ";
    return text;
}

static char *history_path(void)
{
    const char *home = getenv("HOME");
    td_buffer path = {0};
    if (home) td_buffer_format(&path, "%s/.tandem_history", home);
    return path.data;
}

/* While it answers the terminal neither echoes nor gathers lines: what is typed then is the next prompt's, ^D too (a line that ^D ended before editing begins would be lost). ^C stays a signal. */
static void keep_typing(EditLine *edit)
{
    struct termios now;
    el_set(edit, EL_SETTY, "-x", "-icanon", "-echo", NULL);
    if (tcgetattr(STDIN_FILENO, &now) < 0) return;
    now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
}

static void talk_on_terminal(const settings *s, const td_model *model, td_engine *engine, td_buffer *messages)
{
    setlocale(LC_ALL, "");
    EditLine *edit = el_init("tandem", stdin, stdout, stderr);
    History *lines = history_init();
    HistEvent event;
    char *path = history_path();
    history(lines, &event, H_SETSIZE, HISTORY_LINES);
    history(lines, &event, H_SETUNIQUE, 1);
    if (path) history(lines, &event, H_LOAD, path);
    el_set(edit, EL_PROMPT, prompt_text);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, history, lines);
    el_source(edit, NULL);
    keep_typing(edit);
    for (;;) {
        int count;
        interrupted = 0;
        const char *line = el_gets(edit, &count);
        if ((!line || count <= 0) && interrupted) { /* ^C at the prompt: the line is forgotten */
            fputc('\n', stdout);
            el_reset(edit);
            continue;
        }
        if (!line || count <= 0) break;
        if (count > 1) history(lines, &event, H_ENTER, line);
        if (!take_line(s, model, engine, messages, line, strcspn(line, "\n"))) break;
    }
    if (path) history(lines, &event, H_SAVE, path);
    free(path);
    history_end(lines);
    el_end(edit);
}

static void talk_on_pipe(const settings *s, const td_model *model, td_engine *engine, td_buffer *messages)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) >= 0) {
        if (length > 0 && line[length - 1] == '\n') line[--length] = 0;
        if (!take_line(s, model, engine, messages, line, (size_t)length)) break;
    }
    free(line);
}

int verb_chat(int argc, char **argv)
{
    settings s = {.engine = {.requests_max = 1}, .model = {.layout = "auto"}};
    const option options[] = {
        {"--system", NULL, OPTION_TEXT, &s.system, 0, 0, "TEXT", "system message"},
        {"--tokens", "-n", OPTION_INT64, &s.request.max_tokens, 0, 1e9, "N", "tokens an answer may have (0: until the model ends)"},
        {"--temp", NULL, OPTION_FLOAT, &s.request.temperature, 0, 100, "T", "temperature (0: always the most likely token)"},
        {"--top-k", NULL, OPTION_INT, &s.request.top_k, 0, 1e9, "K", "sample among the K most likely (0: off)"},
        {"--top-p", NULL, OPTION_FLOAT, &s.request.top_p, 0, 1, "P", "sample among the most likely that hold P of the mass (0: off)"},
        {"--min-p", NULL, OPTION_FLOAT, &s.request.min_p, 0, 1, "P", "leave out what is less likely than P times the best (0: off)"},
        {"--seed", "-s", OPTION_UINT64, &s.request.seed, 0, 1.9e19, "N", "seed of the sampler"},
        ENGINE_OPTIONS(s.engine, s.model),
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    const char *arguments[1] = {NULL};
    option_set set = {"tandem chat [MODEL] [options]", "Talks with a model in its own chat form. ^C stops an answer or forgets the line, /clear begins anew, ^D or /quit ends.", options, arguments, 0, 1};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    follow_engine(&s.model, &s.engine);
    td_model *model = open_model(arguments[0], &s.model);
    if (model && !s.engine.context_max) { /* the engine's own default, said here to be named when it is full */
        int most = td_model_get_info(model)->context_max;
        s.engine.context_max = most < TD_CONTEXT_DEFAULT_MAX ? most : TD_CONTEXT_DEFAULT_MAX;
    }
    td_engine *engine = NULL;
    status = EXIT_FAILED;
    if (model && !td_model_get_info(model)->has_chat_template) {
        fprintf(stderr, "tandem: model %s: expected a chat template, found none; 'tandem run' completes plain text\n", td_model_get_info(model)->path);
    } else if (model && td_engine_open(model, &s.engine, &engine) < 0) {
        failed();
    } else if (engine) {
        td_buffer messages = {0};
        begin(&s, &messages);
        struct sigaction action = {.sa_handler = on_interrupt};
        sigaction(SIGINT, &action, NULL);
        if (isatty(STDIN_FILENO)) talk_on_terminal(&s, model, engine, &messages);
        else talk_on_pipe(&s, model, engine, &messages);
        td_buffer_free(&messages);
        status = EXIT_DONE;
    }
    td_engine_close(engine);
    td_model_close(model);
    return status;
}
