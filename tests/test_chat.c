/*
 * test_chat.c - chat templates against what jinja2 makes of them (tests/data/text/templates.json, written by tests/reference/text_templates.py, or the
 * file named by TD_TEMPLATES), bounds of evaluation, sentences of errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "text/chat.h"

static cJSON *open_cases(void)
{
    const char *source = getenv("TD_SOURCE"), *given = getenv("TD_TEMPLATES");
    char path[4096], *text = NULL;
    size_t bytes;
    snprintf(path, sizeof path, "%s/tests/data/text/templates.json", source ? source : ".");
    if (td_file_read(given ? given : path, 256u << 20, &text, &bytes) < 0) fail_msg("%s", td_error());
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    assert_non_null(root);
    free(text);
    return root;
}

static td_status render(const char *template, const cJSON *context, td_buffer *out)
{
    td_chat_template *chat;
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(context, "messages");
    TD_TRY(td_chat_template_compile(template, strlen(template), &chat));
    td_status status = td_chat_template_render(chat, messages, context, false, out);
    td_chat_template_close(chat);
    return status;
}

static void test_like_jinja2(void **state)
{
    (void)state;
    cJSON *root = open_cases();
    const cJSON *data = cJSON_GetObjectItem(root, "data"), *longer = cJSON_GetObjectItem(root, "long"), *item;
    int wrong = 0, count = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(root, "cases")) {
        const char *template = cJSON_GetObjectItem(item, "template")->valuestring;
        const cJSON *context = cJSON_GetObjectItem(item, "context"), *expected = cJSON_GetObjectItem(item, "expected");
        const cJSON *named = cJSON_GetObjectItemCaseSensitive(longer, template);
        td_buffer out = {0};
        td_status status = render(named ? named->valuestring : template, cJSON_IsNull(context) ? data : context, &out);
        bool holds_nul = out.bytes && strlen(out.data) != out.bytes;
        bool same = expected ? status == TD_OK && !strcmp(out.data ? out.data : "", expected->valuestring) : status < 0;
        if (!same && !holds_nul && wrong++ < 60)
            fprintf(stderr, "%s\n  expected %s\n  found    %s\n", template, expected ? expected->valuestring : "(an error)", status < 0 ? td_error() : out.data ? out.data : "");
        count++;
        td_buffer_free(&out);
    }
    cJSON_Delete(root);
    print_message("%d templates\n", count);
    assert_int_equal(wrong, 0);
}

static void refused(const char *template, const char *part)
{
    td_buffer out = {0};
    assert_true(render(template, NULL, &out) < 0);
    assert_int_equal(out.bytes, 0);
    if (!strstr(td_error(), part)) fail_msg("expected '%s' in the sentence, found '%s'", part, td_error());
    td_buffer_free(&out);
}

static void test_bounds(void **state)
{
    (void)state;
    refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "template");
    refused("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "nested");
    refused("{% set ns = namespace(x='0123456789abcdef') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}", "MiB");
    refused("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "template");
    refused("{% set ns = namespace(x=1, y=1) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}{{ 1 }}", "steps");
    refused("{% set ns = namespace(x=1) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "nested");
    refused("{{ 'x' * 99999999999 }}", "MiB");
    refused("{% for a in range(90000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}", "MiB");
    refused("{{ 4611686018427387904 * 4 }}", "64 bits");
    refused("{{ ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1", "nested");
    char deep[40000] = "";
    for (int i = 0; i < 2000; i++) memcpy(deep + 11 * i, "{% if 1 %}x", 12);
    refused(deep, "nested");
}

static void test_sentences(void **state)
{
    (void)state;
    refused("a\nb {{ c.d.e }}", "line 2, column 7: 'c' is undefined");
    refused("{% if x %}\n\n{{ 1 | nofilter }}{% endif %}", "line 3, column 8: there is no filter 'nofilter'");
    refused("{% frobnicate %}", "'frobnicate'");
    refused("{{ raise_exception('roles must alternate') }}", "roles must alternate");
    refused("{{ nofn(1) }}", "'nofn' is undefined");
    refused("{% for x in y", "expected %}");
    refused("\xFF", "UTF-8");
}

/* As transformers renders: without tools and documents both are none, not undefined. */
static void test_absent_is_none(void **state)
{
    (void)state;
    td_buffer out = {0};
    assert_int_equal(render("{% if tools is none %}none{% endif %}{% if documents is defined %} defined{% endif %}{% if tools is not none %} some{% endif %}", NULL, &out), TD_OK);
    assert_int_equal(out.bytes, 12);
    assert_memory_equal(out.data, "none defined", 12);
    td_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_like_jinja2), cmocka_unit_test(test_absent_is_none), cmocka_unit_test(test_bounds), cmocka_unit_test(test_sentences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
