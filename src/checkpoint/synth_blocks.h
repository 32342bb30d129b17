/* synth_blocks.h - random rows of every weight type with a given standard deviation and no mean. For checkpoint/ only. */
#ifndef TD_CHECKPOINT_SYNTH_BLOCKS_H
#define TD_CHECKPOINT_SYNTH_BLOCKS_H

#include "tensor/dtype.h"

/* n is a multiple of the type's block; scratch: n floats (used by F32, F16, BF16). Block types are drawn bit by bit. */
void td_synth_row(td_dtype type, uint64_t seed, double deviation, int64_t n, void *out, float *scratch);
/* The block scale that gives an F8 row its deviation. */
float td_synth_f8_scale(double deviation);

#endif
