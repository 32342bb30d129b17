/* router.h - from router logits to chosen experts. */
#ifndef TD_ATTENTION_ROUTER_H
#define TD_ATTENTION_ROUTER_H

#include "kernel/kernel.h"
#include "model/model.h"

/* scores [experts]: logits on entry, replaced by softmax or sigmoid scores (what TD_POINT_ROUTER shows). */
void td_router_score_row(const td_config *config, const td_kernel *kernel, float *scores);

/* ids, weights [top_k] in descending order of choice (lowest expert on ties). bias (may be NULL) counts for the choice only. scratch: 2 * experts floats. */
void td_router_choose(const td_config *config, const float *scores, const float *bias, int32_t *ids, float *weights, float *scratch);

#endif
