/* attention.c - the definition of attention over one partition of the KV pages of a head, and of merging partitions. */
#include "kernel/ref/ref.h"

/* Row of K or V in f32; F32 rows are used where they lie. */
static inline const float *row_f32(td_dtype type, const void *row, float *buffer, int n)
{
    if (type == TD_F32) return row;
    td_dequantise_row(type, row, buffer, n);
    return buffer;
}

static inline __attribute__((always_inline)) float dot(const float *a, const float *b, int n)
{
    float total = 0;
    for (int k = 0; k < n; k += TD_K_BLOCK) {
        float sum = ref_dot_block(a + k, b + k, TD_MIN(n - k, TD_K_BLOCK));
        total = k == 0 ? sum : total + sum;
    }
    return total;
}

/* One query and one page: positions low..high-1 of the page are attended. */
static inline __attribute__((always_inline)) void page(const td_attention_job *job, int i, int number, int low, int high)
{
    const char *keys = job->k_pages[number], *values = job->v_pages[number];
    float *s = job->scratch, *row = s + job->page_tokens, *m = job->m + i, *l = job->l + i, *o = job->o + (size_t)i * (size_t)job->dv;
    float max = -INFINITY, lanes[TD_LANES] = {0};
    for (int t = low; t < high; t++) {
        s[t] = dot(job->q + i * job->q_stride, row_f32(job->kv_type, keys + (size_t)t * job->k_row_bytes, row, job->dk), job->dk);
        max = s[t] > max ? s[t] : max;
    }
    if (max == -INFINITY) return;
    if (max > *m) {
        float shrink = td_expf(*m - max);
        *m = max;
        *l = *l * shrink;
        for (int d = 0; d < job->dv; d++) o[d] = o[d] * shrink;
    }
    for (int t = low; t < high; t++) {
        s[t] = td_expf(s[t] - *m);
        lanes[t % TD_LANES] = lanes[t % TD_LANES] + s[t];
    }
    *l = *l + ref_tree(lanes);
    for (int t = low; t < high; t++) {
        const float *v = row_f32(job->kv_type, values + (size_t)t * job->v_row_bytes, row, job->dv);
        for (int d = 0; d < job->dv; d++) o[d] = fmaf(s[t], v[d], o[d]);
    }
}

TD_REF_BODY attention_part(const td_attention_job *job)
{
    for (int i = 0; i < job->queries; i++) {
        job->m[i] = -INFINITY, job->l[i] = 0;
        memset(job->o + (size_t)i * (size_t)job->dv, 0, (size_t)job->dv * sizeof(float));
        int end = TD_MIN(job->limits[i], job->end), begin = job->window ? TD_MAX(job->limits[i] - job->window, job->begin) : job->begin;
        for (int number = job->begin / job->page_tokens; number * job->page_tokens < end; number++) {
            int first = number * job->page_tokens, low = TD_MAX(begin - first, 0), high = TD_MIN(end - first, job->page_tokens);
            if (low < high) page(job, i, number, low, high);
        }
    }
}
TD_REF_FUNCTION(td_ref_attention_part, attention_part, td_attention_job)

void td_ref_attention_merge(float *m, float *l, float *o, float mb, float lb, const float *ob, int dv)
{
    if (mb == -INFINITY) return;
    if (*m == -INFINITY) {
        *m = mb, *l = lb;
        memcpy(o, ob, (size_t)dv * sizeof(float));
        return;
    }
    float max = mb > *m ? mb : *m, a = td_expf(*m - max), b = td_expf(mb - max);
    *m = max;
    *l = fmaf(b, lb, a * *l);
    for (int d = 0; d < dv; d++) o[d] = fmaf(b, ob[d], a * o[d]);
}
