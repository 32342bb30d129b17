/*
 * text_probe.c - text/ for the comparison scripts of tests/reference: one JSON command a line on stdin, one JSON answer a line on stdout.
 * Texts travel as hex, so that any bytes can. An error is {"error": sentence}.
 *   {"op":"open", "json":FILE, "config":FILE}   or {"op":"open", "model":FOLDER_OR_GGUF}: the tokenizer that the next commands use
 *   {"op":"encode", "texts":[HEX..], "flags":N}  {"op":"decode", "ids":[[..]..], "skip":true}: the pieces of a stream, each in hex
 *   {"op":"render", "template":TEXT, "context":{..}}
 *   {"op":"parse", "format":N, "reasoning":true, "starts":false, "tools":[..], "texts":[HEX..], "seed":N}: parts, cut at random when seed is not 0
 *   {"op":"grammar", "kind":"schema|regex|gbnf|object", "text":TEXT, "draws":N, "most":TOKENS, "seed":N, "texts":[HEX..]}: random texts of it; which of texts match
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "checkpoint/checkpoint.h"
#include "text/chat.h"
#include "text/grammar.h"
#include "text/parsers.h"

static td_tokenizer *tokenizer;
static td_checkpoint *checkpoint;
static td_grammar_vocab *vocab;
static td_buffer answer;

static const char *text_of(const cJSON *command, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, key));
    return text ? text : "";
}

static double number_of(const cJSON *command, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(command, key);
    return cJSON_IsNumber(item) ? item->valuedouble : cJSON_IsTrue(item);
}

static char *from_hex(const char *hex, size_t *bytes)
{
    *bytes = strlen(hex) / 2;
    char *out = malloc(*bytes + 1);
    for (size_t i = 0; i < *bytes; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (char)strtoul(pair, NULL, 16);
    }
    out[*bytes] = 0;
    return out;
}

static void put_hex(const char *text, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    td_buffer_text(&answer, "\"");
    for (size_t i = 0; i < bytes; i++) {
        char pair[2] = {digits[(unsigned char)text[i] >> 4], digits[text[i] & 15]};
        td_buffer_put(&answer, pair, 2);
    }
    td_buffer_text(&answer, "\"");
}

static td_status op_open(const cJSON *command)
{
    td_grammar_vocab_close(vocab);
    td_tokenizer_close(tokenizer);
    td_checkpoint_close(checkpoint);
    vocab = NULL, tokenizer = NULL, checkpoint = NULL;
    int64_t start = td_now_ns();
    if (*text_of(command, "model")) {
        TD_TRY(td_checkpoint_open(text_of(command, "model"), &checkpoint));
        TD_TRY(td_tokenizer_open(checkpoint, &tokenizer));
    } else {
        char *json, *config = NULL;
        size_t bytes, config_bytes = 0;
        TD_TRY(td_file_read(text_of(command, "json"), 1 << 28, &json, &bytes));
        td_status status = *text_of(command, "config") ? td_file_read(text_of(command, "config"), 1 << 28, &config, &config_bytes) : TD_OK;
        start = td_now_ns();
        if (status == TD_OK) status = td_tokenizer_from_json(json, bytes, config, config_bytes, &tokenizer);
        free(json);
        free(config);
        TD_TRY(status);
    }
    td_buffer_format(&answer, "{\"size\": %d, \"seconds\": %.6f}", td_tokenizer_size(tokenizer), td_seconds_since(start));
    return TD_OK;
}

static td_status op_encode(const cJSON *command)
{
    const cJSON *item;
    int32_t *ids = NULL;
    size_t capacity = 0;
    double seconds = 0;
    td_status status = TD_OK;
    td_buffer_text(&answer, "{\"ids\": [");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(command, "texts")) {
        size_t bytes, count = 0;
        char *text = from_hex(item->valuestring, &bytes);
        int64_t start = td_now_ns();
        status = td_tokenizer_encode(tokenizer, text, bytes, (unsigned)number_of(command, "flags"), &ids, &count, &capacity);
        seconds += td_seconds_since(start);
        free(text);
        td_buffer_text(&answer, answer.data[answer.bytes - 1] == '[' ? "[" : ", [");
        for (size_t i = 0; i < count && status == TD_OK; i++) td_buffer_format(&answer, i ? ",%d" : "%d", ids[i]);
        td_buffer_text(&answer, "]");
        if (status < 0) break;
    }
    free(ids);
    td_buffer_format(&answer, "], \"seconds\": %.6f}", seconds);
    return status;
}

static void decode_one(const cJSON *list, bool skip)
{
    td_detokenizer state = {0};
    size_t room = TD_DETOKENIZE_MAX * ((size_t)td_tokenizer_bytes_max(tokenizer) + 8);
    char *out = malloc(room);
    const cJSON *id;
    td_buffer_text(&answer, "[");
    cJSON_ArrayForEach(id, list) {
        put_hex(out, td_detokenizer_put(tokenizer, &state, (int32_t)id->valuedouble, skip, out));
        td_buffer_text(&answer, ",");
    }
    put_hex(out, td_detokenizer_end(&state, out));
    td_buffer_text(&answer, "]");
    free(out);
}

static td_status op_decode(const cJSON *command)
{
    const cJSON *list, *all = cJSON_GetObjectItem(command, "ids");
    td_buffer_text(&answer, "[");
    cJSON_ArrayForEach(list, all) {
        if (list != all->child) td_buffer_text(&answer, ", ");
        decode_one(list, number_of(command, "skip") != 0);
    }
    td_buffer_text(&answer, "]");
    return TD_OK;
}

static td_status op_render(const cJSON *command)
{
    const char *source = text_of(command, "template");
    const cJSON *context = cJSON_GetObjectItem(command, "context");
    td_chat_template *chat;
    td_buffer out = {0};
    int64_t start = td_now_ns();
    TD_TRY(td_chat_template_compile(source, strlen(source), &chat));
    td_status status = td_chat_template_render(chat, cJSON_GetObjectItemCaseSensitive(context, "messages"), context, cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(context, "add_generation_prompt")), &out);
    td_chat_template_close(chat);
    if (status == TD_OK) {
        td_buffer_format(&answer, "{\"seconds\": %.6f, \"text\": ", td_seconds_since(start));
        put_hex(out.data, out.bytes);
        td_buffer_text(&answer, "}");
    }
    td_buffer_free(&out);
    return status;
}

/* Neighbouring parts of a kind are joined, so that cutting elsewhere gives the same. */
typedef struct { td_part_kind kind; int call; td_buffer text; bool any; } part;

static void put_part(part *p)
{
    if (p->any) {
        td_buffer_format(&answer, "%s[%d, %d, ", answer.data[answer.bytes - 1] == '[' ? "" : ", ", p->kind, p->call);
        put_hex(p->text.data, p->text.bytes);
        td_buffer_text(&answer, "]");
    }
    td_buffer_clear(&p->text);
}

static void take_part(void *user, td_part_kind kind, int call, const char *text, size_t bytes)
{
    part *p = user;
    if (p->any && (p->kind != kind || p->call != call || kind == TD_PART_WARNING)) put_part(p);
    p->any = true, p->kind = kind, p->call = call;
    td_buffer_put(&p->text, text, bytes);
}

static td_status op_parse(const cJSON *command)
{
    td_parser_options options = {.calls = (td_call_format)number_of(command, "format"), .reasoning = number_of(command, "reasoning") != 0, .starts_in_reasoning = number_of(command, "starts") != 0,
        .tools = cJSON_GetObjectItem(command, "tools")};
    td_random dice = {.seed = (uint64_t)number_of(command, "seed")};
    const cJSON *item, *texts = cJSON_GetObjectItem(command, "texts");
    td_buffer_text(&answer, "[");
    cJSON_ArrayForEach(item, texts) {
        td_parser *parser;
        part collected = {0};
        size_t bytes;
        char *text = from_hex(item->valuestring, &bytes);
        td_buffer_text(&answer, item == texts->child ? "[" : ", [");
        TD_TRY(td_parser_open(&options, take_part, &collected, &parser));
        for (size_t at = 0, n; at < bytes; at += n) {
            n = dice.seed ? (size_t)td_random_between(&dice, 1, dice.seed % 3 == 0 ? 1 : 12) : bytes;
            n = TD_MIN(n, bytes - at);
            TD_TRY(td_parser_put(parser, text + at, n));
        }
        TD_TRY(td_parser_end(parser));
        td_parser_close(parser);
        put_part(&collected);
        td_buffer_free(&collected.text);
        free(text);
        td_buffer_text(&answer, "]");
    }
    td_buffer_text(&answer, "]");
    return TD_OK;
}

static td_status open_grammar(const cJSON *command, td_grammar **out)
{
    const char *kind = text_of(command, "kind"), *text = text_of(command, "text");
    if (!strcmp(kind, "object")) return td_grammar_any_object(out);
    if (!strcmp(kind, "regex")) return td_grammar_from_regex(text, strlen(text), out);
    if (!strcmp(kind, "gbnf")) return td_grammar_from_gbnf(text, strlen(text), out);
    cJSON *schema = cJSON_Parse(text);
    td_status status = schema ? td_grammar_from_schema(schema, out) : td_fail(TD_E_INVALID, "no JSON");
    cJSON_Delete(schema);
    return status;
}

typedef struct { double worst, sum; long count; } timing;

/* Draws until the grammar ends: all allowed tokens alike; after `calm` tokens what ends things is preferred. False: no end was found within most. */
static td_status draw(const td_grammar *g, td_random *dice, int most, td_buffer *text, bool *ended, timing *times)
{
    td_matcher *m;
    int size = td_tokenizer_size(tokenizer), calm = (int)td_random_between(dice, 0, 1 + most / 4);
    float *logits = malloc((size_t)size * sizeof *logits);
    td_status status = td_matcher_open(g, vocab, &m);
    *ended = false;
    for (int n = 0; n < most && status == TD_OK && !*ended; n++) {
        int32_t chosen = -1;
        size_t bytes;
        for (int i = 0; i < size; i++) logits[i] = (float)td_random_next_unit(dice);
        int64_t start = td_now_ns();
        int allowed = td_matcher_mask(m, logits, size);
        double seconds = td_seconds_since(start);
        times->worst = TD_MAX(times->worst, seconds);
        times->sum += seconds;
        times->count++;
        if (allowed <= 0) {
            status = allowed < 0 ? (td_status)allowed : td_fail(TD_E_INTERNAL, "probe: nothing is allowed behind '%s'", text->data ? text->data : "");
            break;
        }
        float best = -INFINITY;
        for (int i = 0; i < size; i++) {
            const char *token = td_tokenizer_bytes(tokenizer, i, &bytes);
            if (isinf(logits[i])) continue;
            if (n > calm && (td_tokenizer_is_end(tokenizer, i) || (bytes && strchr("\"}],", token[bytes - 1]) && bytes < 3))) logits[i] += (float)td_random_next_unit(dice);
            if (logits[i] > best) best = logits[i], chosen = i;
        }
        if (!td_matcher_token(m, chosen)) status = td_fail(TD_E_INTERNAL, "probe: token %d was allowed and is not taken", chosen);
        else if (td_tokenizer_is_end(tokenizer, chosen)) *ended = true;
        else {
            const char *token = td_tokenizer_bytes(tokenizer, chosen, &bytes);
            td_buffer_put(text, token, bytes);
        }
    }
    free(logits);
    td_matcher_close(m);
    return status;
}

static td_status op_grammar(const cJSON *command)
{
    td_grammar *g;
    timing times = {0};
    td_random dice = {.seed = (uint64_t)number_of(command, "seed")};
    const cJSON *item, *texts = cJSON_GetObjectItem(command, "texts");
    if (!vocab) TD_TRY(td_grammar_vocab_open(tokenizer, &vocab));
    int64_t start = td_now_ns();
    TD_TRY(open_grammar(command, &g));
    double seconds = td_seconds_since(start);
    td_status status = TD_OK;
    int endless = 0;
    td_buffer_text(&answer, "{\"texts\": [");
    for (int n = (int)number_of(command, "draws"); n > 0 && status == TD_OK; n--) {
        td_buffer text = {0};
        bool ended;
        status = draw(g, &dice, (int)number_of(command, "most"), &text, &ended, &times);
        if (status == TD_OK && ended) {
            if (answer.data[answer.bytes - 1] != '[') td_buffer_text(&answer, ", ");
            put_hex(text.data, text.bytes);
        } else endless++;
        td_buffer_free(&text);
    }
    td_buffer_text(&answer, "], \"matches\": [");
    cJSON_ArrayForEach(item, texts) {
        td_matcher *m;
        size_t bytes;
        if (status < 0 || (status = td_matcher_open(g, vocab, &m)) < 0) break;
        char *text = from_hex(item->valuestring, &bytes);
        td_buffer_format(&answer, "%s%s", item == texts->child ? "" : ", ", td_matcher_bytes(m, text, bytes) && td_matcher_complete(m) ? "true" : "false");
        free(text);
        td_matcher_close(m);
    }
    td_grammar_close(g);
    td_buffer_format(&answer, "], \"endless\": %d, \"compile\": %.6f, \"mask_mean\": %.9f, \"mask_worst\": %.9f}", endless, seconds, times.count ? times.sum / (double)times.count : 0, times.worst);
    return status;
}

static const struct { const char *name; td_status (*run)(const cJSON *command); } operations[] = {
    {"open", op_open}, {"encode", op_encode}, {"decode", op_decode}, {"render", op_render}, {"parse", op_parse}, {"grammar", op_grammar},
};

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    for (ssize_t length; (length = getline(&line, &room, stdin)) > 0;) {
        cJSON *command = cJSON_ParseWithLength(line, (size_t)length);
        td_status status = command ? TD_E_UNSUPPORTED : td_fail(TD_E_INVALID, "probe: expected a command as JSON");
        td_buffer_clear(&answer);
        for (size_t i = 0; i < TD_COUNT(operations); i++)
            if (!strcmp(text_of(command, "op"), operations[i].name)) status = operations[i].run(command);
        if (status < 0) {
            td_buffer_clear(&answer);
            td_buffer_text(&answer, "{\"error\": ");
            td_buffer_json(&answer, td_error(), strlen(td_error()));
            td_buffer_text(&answer, "}");
        }
        puts(answer.data);
        fflush(stdout);
        cJSON_Delete(command);
    }
    free(line);
    td_buffer_free(&answer);
    td_grammar_vocab_close(vocab);
    td_tokenizer_close(tokenizer);
    td_checkpoint_close(checkpoint);
    return 0;
}
