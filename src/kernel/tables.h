/* tables.h - inside kernel/: the tables that were compiled in, what each needs of the machine, and the constants that all versions of exp share. */
#ifndef TD_KERNEL_TABLES_H
#define TD_KERNEL_TABLES_H

#include "kernel/kernel.h"

extern const td_kernel td_kernel_ref;
#if defined(__x86_64__) && !defined(TD_PLAIN_ONLY)
extern const td_kernel td_kernel_avx2, td_kernel_avx512, td_kernel_vnni, td_kernel_amx;
#endif

/* exp(x) = 2^n * exp(r), n = round(x / ln 2) by the magic-number addition, r = x - n ln 2 in two steps, exp(r) = 1 + r + r^2 * p(r); 2^n is applied as two powers of two so
 * that results below the smallest normal are rounded once. Outside [low, high] the result is 0 or infinity. p: Cephes expf (S. Moshier), minimax on |r| <= ln2/2. */
#define TD_EXP_LOW (-103.97208f)
#define TD_EXP_HIGH 88.72284f
#define TD_EXP_LOG2E 1.44269504088896341f
#define TD_EXP_MAGIC 12582912.0f
#define TD_EXP_LN2_HIGH 0.693359375f
#define TD_EXP_LN2_LOW (-2.12194440e-4f)
#define TD_EXP_P0 1.9875691500e-4f
#define TD_EXP_P1 1.3981999507e-3f
#define TD_EXP_P2 8.3334519073e-3f
#define TD_EXP_P3 4.1665795894e-2f
#define TD_EXP_P4 1.6666665459e-1f
#define TD_EXP_P5 5.0000001201e-1f

#endif
