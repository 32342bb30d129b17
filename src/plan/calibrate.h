/*
 * calibrate.h - a machine, measured: from rows of (model, phase, batch, context, threads, tokens per second) to coefficients of a step's time, and from those
 * to predictions with an error bar. docs/planning.md describes both JSON files.
 *
 *     seconds of a step = c0 + c1 batch + bytes (c2 + c3 / threads) + FLOPs (c4 + c5 / threads) + c6 wire seconds,   all c >= 0
 */
#ifndef TD_PLAN_CALIBRATE_H
#define TD_PLAN_CALIBRATE_H

#include "plan/plan.h"

enum { PLAN_FEATURES = 7, PLAN_FITS_MAX = 32, PLAN_ROWS_MAX = 20000 };

typedef struct {
    char key[96];             /* "decode|q8_0|colocated": phase, dtype, deployment */
    double phase_tokens;      /* tokens that tokens_per_s counts in one step */
    double batch, context, threads, bytes, flops, wire_s, seconds;
} plan_measured;

typedef struct {
    char key[96];
    double c[PLAN_FEATURES];
    int rows;
    double error_mean, error_p90, error_max; /* leave one row out: |predicted / measured - 1| */
    double bytes_low, bytes_high, flops_low, flops_high; /* range that was measured */
} plan_fit;

typedef struct { plan_fit fits[PLAN_FITS_MAX]; int count; } plan_calibration;

/* Reads the measured rows. precision: for models that are known here (names, files); their own bytes and FLOPs replace the rows'. */
td_status plan_measured_read(const char *path, const plan_precision *precision, plan_measured **out, int *count);
/* One fit per key. TD_E_INVALID with fewer than 6 rows of a key. */
td_status plan_calibrate(const plan_measured *rows, int count, plan_calibration *out);
td_status plan_calibration_write(const char *path, const plan_calibration *calibration, const char *from);
td_status plan_calibration_read(const char *path, plan_calibration *out);
double plan_fit_seconds(const plan_fit *fit, const plan_measured *what);
td_status plan_calibration_report(const plan_calibration *calibration, bool json, td_buffer *out);

#endif
