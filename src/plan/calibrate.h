/*
 * calibrate.h - a machine, measured: from rows of (model, phase, batch, context, threads, tokens per second) and the curves of its matrix products to the time of a step, and from those to
 * predictions with an error bar. docs/planning.md describes both JSON files.
 *
 *     seconds of a step = c0 + c1 batch + bytes (c2 + c3 / threads) + FLOPs (c4 + c5 / threads) + c6 wire seconds + c7 product seconds + c8 layers + c9 row elements / threads
 *                       + c10 expert visits + c11 logits,   all c >= 0
 *
 * Product seconds are all weights of a step at the curve's time for the rows that reach them; bytes and FLOPs are then those of attention alone. Rows whose type no curve was measured for have
 * no product seconds, and their bytes and FLOPs include the weights. Row elements: batch x layers x hidden. Expert visits: experts that
 * some row chose, over all layers. Logits: sampled rows x vocabulary.
 */
#ifndef TD_PLAN_CALIBRATE_H
#define TD_PLAN_CALIBRATE_H

#include "plan/plan.h"

enum { PLAN_FEATURES = 12, PLAN_FITS_MAX = 32, PLAN_ROWS_MAX = 20000, PLAN_CURVES_MAX = 32, PLAN_CURVE_POINTS_MAX = 32, PLAN_SWEEPS = 3 };

typedef struct { /* one pass over weights of a type with some threads */
    char dtype[16];
    int threads, count;
    double rows[PLAN_CURVE_POINTS_MAX], seconds[PLAN_CURVE_POINTS_MAX]; /* rows ascending; seconds per weight and pass */
} plan_curve;

typedef struct {
    char key[96];             /* "decode|q8_0|colocated": phase, dtype, deployment */
    double phase_tokens;      /* tokens that tokens_per_s counts in one step */
    double batch, context, threads, bytes, flops, wire_s, seconds;
    double product_s, layers, row_elements, visits, logits; /* 0: not known */
} plan_measured;

typedef struct {
    char key[96];
    double c[PLAN_FEATURES];
    int rows;
    double error_mean, error_p90, error_max; /* leave one row out: |predicted / measured - 1| */
    double bytes_low, bytes_high, flops_low, flops_high; /* range that was measured */
} plan_fit;

typedef struct { plan_fit fits[PLAN_FITS_MAX]; int count; plan_curve curves[PLAN_CURVES_MAX]; int curve_count; } plan_calibration;

/* ---- curve.c ---- */

/* Times the engine's products on this machine, about five seconds. dtype as in "q8_0". TD_E_INVALID: a type it does not compute with. */
td_status plan_curve_measure(const char *dtype, int threads, plan_curve *out);
/* Point by point the median of curves of the same type, threads and rows. */
plan_curve plan_curve_median(const plan_curve sweeps[PLAN_SWEEPS]);
/* Seconds per weight of a pass with that many rows: straight between points, proportional beyond the last. */
double plan_curve_at(const plan_curve *curve, double rows);
/* All weights of a step of `rows` tokens with random routing; the LM head for head_rows of them. */
double plan_curve_seconds(const plan_curve *curve, const plan_model *model, double rows, double head_rows);

/* ---- calibrate.c ---- */

/* Bytes, FLOPs and product seconds of a step or prompt; what->batch, context, threads are set. phase: "decode" or "prefill". A type with curves but none for these threads: TD_E_NOT_FOUND. */
td_status plan_measured_work(const plan_model *model, const plan_precision *precision, const char *phase, const char *dtype, const plan_calibration *curves, plan_measured *what);
/* Reads the measured rows, and the curves that lie beside them into *curves. precision: for models that are known here (names, files); their own bytes and FLOPs replace the rows'. */
td_status plan_measured_read(const char *path, const plan_precision *precision, plan_calibration *curves, plan_measured **out, int *count);
/* One fit per key; curves stay. TD_E_INVALID with fewer than 6 rows of a key. */
td_status plan_calibrate(const plan_measured *rows, int count, plan_calibration *out);
td_status plan_calibration_write(const char *path, const plan_calibration *calibration, const char *from);
td_status plan_calibration_read(const char *path, plan_calibration *out);
double plan_fit_seconds(const plan_fit *fit, const plan_measured *what);
td_status plan_calibration_report(const plan_calibration *calibration, bool json, td_buffer *out);
void plan_curves_json(const plan_calibration *calibration, td_buffer *out);

#endif
