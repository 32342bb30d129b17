/*
 * jinja_run.h - what the files that run a tree share: jinja_eval.c variables and expressions, jinja_operate.c operators, jinja_call.c calls and macros,
 * jinja_execute.c statements. See jinja.h.
 */
#ifndef TD_TEXT_JINJA_RUN_H
#define TD_TEXT_JINJA_RUN_H

#include "text/jinja.h"

/* ---- variables (jinja_eval.c) ---- */

td_status j_set_var(j_run *run, j_text name, j_value value);             /* in the innermost frame */
td_status j_get_var(j_run *run, j_text name, j_value *out);              /* from any frame; a function of that name, or undefined */
td_status j_push_frame(j_run *run, j_frame *parent);                     /* the caller puts the old run->frame back */
td_status j_assign(j_run *run, const j_node *target, j_value value);     /* to a name, a namespace's attribute, or unpacked to several */

/* ---- operators (jinja_operate.c): node's operands are evaluated here ---- */

td_status j_operate(j_run *run, const j_node *node, j_value *out);       /* + - * / // % ** */
td_status j_concatenate(j_run *run, const j_node *node, j_value *out);   /* ~ */
td_status j_compare_chain(j_run *run, const j_node *node, j_value *out); /* a < b <= c, in, not in */
td_status j_negate(j_run *run, const j_node *node, j_value *out);        /* unary - and + */
td_status j_slice(j_run *run, const j_node *node, j_value *out);

/* ---- calls (jinja_call.c) ---- */

td_status j_evaluate_args(j_run *run, const j_node *node, j_args *args);
td_status j_evaluate_call(j_run *run, const j_node *node, j_value caller, j_value *out);                    /* caller: a macro for {% call %}, or none */
td_status j_make_macro(j_run *run, const j_node *node, j_text name, bool is_caller, j_value *out);
td_status j_capture(j_run *run, const j_node *body, j_value *out);                                          /* what body writes, as a string */

/* ---- statements (jinja_execute.c) ---- */

/* The loop of a node over other things, in a frame; depth counts recursion from 1. */
td_status j_execute_items(j_run *run, const j_node *node, j_value iterable, j_frame *frame, int depth);

#endif
