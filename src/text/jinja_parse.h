/*
 * jinja_parse.h - what the files of the parser share: jinja_lex.c makes tokens, jinja_expression.c and jinja_statement.c the tree, jinja_parse.c holds
 * the way in. Errors are TD_E_INVALID with line and column, or TD_E_MEMORY. See jinja.h for the tree.
 */
#ifndef TD_TEXT_JINJA_PARSE_H
#define TD_TEXT_JINJA_PARSE_H

#include "text/jinja.h"

typedef enum { T_END, T_TEXT, T_BLOCK, T_BLOCK_END, T_PRINT, T_PRINT_END, T_NAME, T_STRING, T_INT, T_FLOAT, T_OP } j_token_kind;

typedef struct {
    j_token_kind kind;
    size_t at;          /* in the source */
    j_text text;        /* name, operator; unescaped string; output text */
    int64_t integer;
    double number;
} j_token;

typedef struct {
    j_pool *pool;
    const char *source;
    size_t bytes;
    j_token *tokens;
    size_t count, capacity, next;
    int nesting;
    int in_loop;
    uint8_t uses;       /* J_VARARGS, J_KWARGS in the macro that is read */
    struct { size_t at; int line, column; } placed;
} j_parser;

/* Growing list of a node under construction; j_keep copies it to the pool. */
typedef struct { j_node **items; int count, capacity; } j_nodes;

/* ---- shared by all ---- */

td_status j_parse_fail(const j_parser *p, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
td_status j_lex(j_parser *p);                                                       /* p->source into p->tokens, T_END last */
td_status j_new_node(j_parser *p, j_node_kind kind, size_t at, j_node **out);       /* knows its line and column */
td_status j_add_node(j_nodes *list, j_node *node);                                  /* on errors the caller frees list->items */
void *j_pool_copy(j_parser *p, const void *from, size_t bytes);                      /* in the pool; NULL: no memory */
td_status j_keep(j_parser *p, j_nodes *list, j_node ***out);                        /* frees the list, also on errors */
/* The end of a list between commas: one item without a comma is itself, else a tuple. status: of the list so far. Frees the list, also on errors. */
td_status j_tuple(j_parser *p, td_status status, j_nodes *list, bool comma, size_t at, j_node **out);

/* ---- the next token ---- */

static inline const j_token *peek(const j_parser *p) { return &p->tokens[p->next]; }
static inline bool is_op(const j_parser *p, const char *op) { return peek(p)->kind == T_OP && j_is(peek(p)->text, op); }
static inline bool is_name(const j_parser *p, const char *name) { return peek(p)->kind == T_NAME && j_is(peek(p)->text, name); }
static inline bool take_op(j_parser *p, const char *op) { return is_op(p, op) && p->next++ < p->count; }
static inline bool take_name(j_parser *p, const char *name) { return is_name(p, name) && p->next++ < p->count; }
td_status j_expected(const j_parser *p, const char *what);                          /* the error of finding something else */
td_status j_need_op(j_parser *p, const char *op);

/* ---- expressions ---- */

td_status j_parse_expression(j_parser *p, j_node **out);
td_status j_parse_tuple(j_parser *p, bool without_if, j_node **out);                /* without_if: "if" belongs to the statement */
td_status j_parse_arguments(j_parser *p, j_node *node);                             /* behind "(", which is taken; ")" is taken too */
td_status j_parse_builtin(j_parser *p, j_node *node, bool is_test);                 /* the name of a filter or test */
td_status j_parse_filters(j_parser *p, j_node **node);                              /* "| filter", "is test" and calls behind *node */

/* ---- statements ---- */

td_status j_parse_body(j_parser *p, const char *const *ends, j_node **out);         /* up to a tag named in ends (ended by NULL), which is not taken */

#endif
