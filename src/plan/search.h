/* search.h - which deployment is cheapest at a latency target, what lies on the Pareto front, and does disaggregation pay. */
#ifndef TD_PLAN_SEARCH_H
#define TD_PLAN_SEARCH_H

#include "plan/schedule.h"

typedef struct { plan_deployment deployment; plan_result result; } plan_choice;
enum { PLAN_CHOICES_MAX = 300, PLAN_FRONT_MAX = 24 };

typedef struct {
    const plan_model *model;
    const plan_precision *precision;
    const plan_factors *factors;
    plan_workload load;
    const plan_hardware *const *hardware;
    size_t hardware_count;
    double tpot_s;
    int devices_max;
    double demand;             /* tokens per second that must be served in all; 0: not asked */
} plan_question;

typedef struct {
    plan_choice choices[PLAN_CHOICES_MAX]; /* cheapest first; the best of each pair of cards and kind */
    size_t count;
    double front_tpot_s[PLAN_FRONT_MAX];   /* latency targets of the front, ascending */
    plan_choice front_cost[2][PLAN_FRONT_MAX]; /* cheapest at each; [0] disaggregated, [1] colocated; devices 0: none */
    plan_choice front_rate[2][PLAN_FRONT_MAX]; /* most tokens per second and device at each */
    size_t front_count;
    bool colocated_impossible, afd_impossible;
    char why_none[512];                    /* the last reason, when nothing fits */
} plan_answer;

/* TD_E_INVALID when nothing meets the target: the sentence gives the nearest target that could be met. */
td_status plan_search(const plan_question *question, bool with_front, plan_answer *out);
/* One or two sentences: which wins, by how much, why. */
void plan_verdict(const plan_question *question, const plan_answer *answer, td_buffer *out);
/* Prints choices, verdict, front and chart as text, or everything as JSON or CSV. */
td_status plan_answer_report(const plan_question *question, const plan_answer *answer, const char *format, td_buffer *out);
/* One deployment in detail: stages, memory, cost. */
td_status plan_result_report(const plan_case *c, const plan_result *r, bool json, td_buffer *out);
/* Points (x ascending) as text; series may be NULL-terminated names. */
void plan_chart_text(const plan_answer *answer, td_buffer *out);
/* Draws the front with gnuplot into an .svg or .png. */
td_status plan_chart_file(const plan_question *question, const plan_answer *answer, const char *path);

#endif
