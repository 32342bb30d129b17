/* explain.c - why logits are no numbers: the first tensor that holds NaN or infinity. Only called when something is already wrong. */
#include <stdlib.h>

#include "checkpoint/layout.h"
#include "model/model.h"

/* The first element of a tensor that is not finite, or -1. */
static int64_t first_bad(const td_tensor *t, float *row)
{
    int64_t columns = t->shape[t->dims - 1], rows = columns ? td_tensor_elements(t) / columns : 0;
    for (int64_t r = 0; r < rows; r++) {
        td_tensor_row(t, r, row);
        for (int64_t i = 0; i < columns; i++)
            if (!(row[i] - row[i] == 0.0f)) return r * columns + i;
    }
    return -1;
}

td_status td_model_explain_nan(const td_model *model)
{
    const char *path = td_checkpoint_path(model->checkpoint);
    for (size_t i = 0; i < td_checkpoint_count(model->checkpoint); i++) {
        const td_tensor *t = td_checkpoint_at(model->checkpoint, i);
        if (t->type > TD_Q6_K || t->dims == 0) continue;
        float *row = malloc((size_t)t->shape[t->dims - 1] * sizeof *row);
        if (!row) break;
        int64_t bad = first_bad(t, row);
        free(row);
        if (bad >= 0) return td_fail(TD_E_FORMAT, "%s: tensor %s: expected finite weights, found NaN or infinity at element %lld", path, t->name, (long long)bad);
    }
    return td_fail(TD_E_FORMAT, "%s: expected finite logits, found NaN or infinity although every weight is finite", path);
}
