/*
 * jinja.h - the Jinja subset that chat templates use: source -> tokens -> tree -> text. Only for chat.c and the jinja_*.c files.
 * Everything lives in arenas: tokens, tree and literals in the template's, values in the rendering's. Strings are UTF-8 with a length; indices and
 * lengths that a template sees count characters. Lists and dictionaries never change once made (the sandbox that templates expect); namespaces do.
 */
#ifndef TD_TEXT_JINJA_H
#define TD_TEXT_JINJA_H

#include <cjson/cJSON.h>

#include "base/arena.h"
#include "base/buffer.h"

enum {
    J_SOURCE_MAX = 1 << 20,
    J_NESTING_MAX = 64,            /* of blocks, brackets and operators in a source */
    J_DEPTH_MAX = 1500,            /* of evaluation: nesting times macro calls; bounds the C stack */
    J_STEPS_MAX = 10 * 1000 * 1000,
    J_OUTPUT_MAX = 16 << 20,
    J_MEMORY_MAX = 256 << 20,      /* values of one rendering */
    J_ARGS_MAX = 32,
};

/* ---- small pieces of memory out of an arena ---- */

typedef struct { td_arena arena; char *at; size_t left, used, limit; } j_pool;
void *j_get(j_pool *pool, size_t bytes); /* zeroed, 16-byte aligned; NULL: td_fail is set (also when limit is passed) */

/* ---- values ---- */

typedef enum { J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STRING, J_LIST, J_TUPLE, J_DICT, J_NAMESPACE, J_MACRO, J_METHOD, J_FUNCTION, J_LOOP } j_kind;

typedef struct j_value j_value;
typedef struct { const char *text; size_t bytes; } j_text;
typedef struct { j_value *items; size_t count, capacity; } j_list;
typedef struct { j_value *keys, *values; size_t count, capacity; } j_dict;
typedef struct j_method j_method;
typedef struct j_macro j_macro;
typedef struct j_loop j_loop;

struct j_value {
    j_kind kind;
    union {
        bool truth;
        int64_t integer;
        double number;
        j_text text;        /* J_STRING; J_UNDEFINED: what was undefined, for messages; J_FUNCTION: its name */
        j_list *list;       /* J_LIST, J_TUPLE */
        j_dict *dict;       /* J_DICT, J_NAMESPACE */
        j_method *method;
        j_macro *macro;
        j_loop *loop;
    };
};

struct j_method { j_value self; j_text name; };

/* ---- tree ---- */

typedef enum {
    /* expressions */
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT, N_IF_ELSE, N_OR, N_AND, N_NOT, N_COMPARE, N_ADD, N_SUB, N_MUL, N_DIV, N_FLOOR, N_MOD, N_POW, N_CONCAT, N_NEGATE, N_PLUS,
    N_ATTRIBUTE, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    /* statements */
    N_TEXT, N_OUTPUT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_MACRO, N_CALL_BLOCK, N_FILTER_BLOCK, N_WITH, N_BREAK, N_CONTINUE, N_BODY,
} j_node_kind;

typedef enum { C_EQ, C_NE, C_LT, C_LE, C_GT, C_GE, C_IN, C_NOT_IN } j_compare;

typedef struct j_node j_node;
struct j_node {
    j_node_kind kind;
    int line, column;
    j_text name;            /* N_NAME, N_ATTRIBUTE, N_FILTER, N_TEST, N_MACRO; keyword of an argument */
    j_value value;          /* N_CONST, N_TEXT */
    j_node *a, *b, *c;      /* operands: see the parser */
    j_node **list;          /* elements, arguments, statements, operands of a comparison */
    j_node **more;          /* N_DICT: values; N_IF: conditions' bodies; N_MACRO: defaults (NULL: none) */
    uint8_t *ops;           /* N_COMPARE: j_compare between list[i] and list[i + 1] */
    int count;
    bool negated;           /* N_TEST */
    bool recursive;         /* N_FOR */
    uint8_t uses;           /* N_MACRO: J_VARARGS, J_KWARGS that its body speaks of */
    j_text *keywords;       /* N_CALL, N_FILTER, N_TEST: [count], text NULL for positional arguments */
    const void *builtin;    /* N_FILTER, N_TEST: found at compile time */
};

td_status j_parse(j_pool *pool, const char *source, size_t bytes, j_node **out);

/* ---- running ---- */

typedef struct j_frame j_frame;
struct j_frame { j_frame *parent; j_dict vars; };
struct j_macro { j_node *node; j_frame *frame; j_node *body; j_text name; bool is_caller; };
struct j_loop { j_list *items; size_t index; j_value changed; bool has_changed; const j_node *node; j_frame *frame; int depth; }; /* node, frame: what a recursive one is called with */
enum { J_VARARGS = 1, J_KWARGS = 2 };

typedef struct {
    j_pool pool;            /* values */
    td_buffer *out;         /* where output goes now */
    size_t out_total;
    j_frame *frame;
    int64_t steps;
    int depth;
    const j_node *node;     /* what is evaluated now, for messages */
    j_value block;          /* what a filter chain of a block starts from (a NULL expression) */
} j_run;

typedef struct {
    j_value positional[J_ARGS_MAX];
    int count;
    j_text names[J_ARGS_MAX];
    j_value named[J_ARGS_MAX];
    int named_count;
} j_args;

/* Statements give TD_OK, an error, or one of these. */
enum { J_BREAK = 1, J_CONTINUE = 2 };
td_status j_execute(j_run *run, const j_node *node);
td_status j_evaluate(j_run *run, const j_node *node, j_value *out);
td_status j_call(j_run *run, j_value callee, j_args *args, j_value *out);
td_status j_fail(const j_run *run, const char *format, ...) __attribute__((format(printf, 2, 3))); /* TD_E_INVALID with line and column */
td_status j_step(j_run *run, size_t steps);

/* ---- values: helpers ---- */

#define J_TEXT(literal) ((j_text){(literal), sizeof(literal) - 1})
static inline j_value j_none(void) { return (j_value){.kind = J_NONE}; }
static inline j_value j_bool(bool truth) { return (j_value){.kind = J_BOOL, .truth = truth}; }
static inline j_value j_int(int64_t integer) { return (j_value){.kind = J_INT, .integer = integer}; }
static inline j_value j_float(double number) { return (j_value){.kind = J_FLOAT, .number = number}; }
static inline j_value j_str(const char *text, size_t bytes) { return (j_value){.kind = J_STRING, .text = {text, bytes}}; }
static inline j_value j_undefined(j_text what) { return (j_value){.kind = J_UNDEFINED, .text = what}; }
bool j_is(j_text text, const char *literal);
bool j_same(j_text a, j_text b);

td_status j_copy(j_run *run, const char *text, size_t bytes, j_value *out);   /* a string of the rendering's memory */
td_status j_take(j_run *run, td_buffer *buffer, j_value *out);                /* the same out of a buffer, which is freed (also on errors) */
td_status j_list_new(j_run *run, j_kind kind, size_t capacity, j_value *out);
td_status j_list_put(j_run *run, j_list *list, j_value item);
td_status j_dict_new(j_run *run, j_value *out);
td_status j_dict_put(j_run *run, j_dict *dict, j_value key, j_value value);   /* replaces the value of a key that is there */
td_status j_dict_find(j_run *run, const j_dict *dict, j_value key, j_value **out); /* NULL when absent */
td_status j_from_json(j_run *run, const cJSON *json, int depth, j_value *out);

bool j_truth(j_value value);
bool j_equal(j_run *run, j_value a, j_value b);
td_status j_order(j_run *run, j_value a, j_value b, int *out);                /* as Python's <: numbers, strings, lists; else an error */
const char *j_type(j_value value);                                            /* Python's name of the type */
td_status j_show(j_run *run, j_value value, td_buffer *out);                  /* str() */
td_status j_repr(j_run *run, j_value value, int depth, td_buffer *out);       /* repr() */
typedef struct { bool ascii, sort; int indent; j_text item, key; } j_json_style; /* indent -1: one line */
td_status j_json(j_run *run, j_value value, const j_json_style *style, int depth, td_buffer *out);
void j_show_float(double number, td_buffer *out);
td_status j_string_of(j_run *run, j_value value, j_text *out);                /* the text of a string, or str() of anything else */
td_status j_iterate(j_run *run, j_value value, j_list **out);                 /* items of a list, keys, characters; an error for what cannot be iterated */
size_t j_characters(j_text text);
size_t j_offset(j_text text, size_t character);                               /* byte offset of a character (the end when there is none) */
td_status j_attribute(j_run *run, j_value value, j_text name, j_value *out);  /* value.name */
td_status j_item(j_run *run, j_value value, j_value key, j_value *out);       /* value[key] */

/* ---- built in ---- */

typedef td_status (*j_filter_fn)(j_run *run, j_value value, j_args *args, j_value *out);
typedef struct { const char *name; j_filter_fn fn; } j_builtin;
const j_builtin *j_find_filter(j_text name);
const j_builtin *j_find_test(j_text name);
bool j_has_method(j_value self, j_text name);
td_status j_call_method(j_run *run, j_value self, j_text name, j_args *args, j_value *out);
td_status j_call_function(j_run *run, j_text name, j_args *args, j_value *out);
bool j_is_function(j_text name);
td_status j_format_percent(j_run *run, j_text format, j_value values, j_value *out); /* "..." % values */

/* Argument number index or by keyword; otherwise when it is not given. */
j_value j_arg(const j_args *args, int index, const char *name, j_value otherwise);
td_status j_arg_int(j_run *run, const j_args *args, int index, const char *name, int64_t otherwise, int64_t *out);

#endif
