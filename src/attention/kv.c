/*
 * kv.c - pages, holders, and the table of published prefixes.
 * The identity of a prefix is exact: the serial number of the chain before it plus the page's 64 tokens, compared in full; hashes only find candidates.
 */
#define _GNU_SOURCE
#include "attention/kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/random.h"

typedef struct {
    int32_t holders;
    int32_t next, previous;   /* in the free list (unpublished) or the LRU list (published, unheld) */
    int32_t chain;            /* next in its hash bucket */
    bool published;
    uint64_t serial, after;
    int32_t tokens[TD_PAGE_TOKENS];
} page_info;

struct td_kv {
    const td_config *config;
    td_dtype type;
    int pages, held, evictable;
    size_t k_row, v_row, head_bytes, bytes;
    uint8_t *memory;          /* [page][layer][head]{K rows, V rows}: a short context touches few huge pages */
    page_info *info;          /* [pages + 2]; the last two are the heads of the free list and of the LRU list */
    int32_t *buckets;         /* [bucket_count], -1: empty */
    uint32_t bucket_mask;
    uint64_t serials;
};

static void unlink_page(td_kv *kv, int32_t p)
{
    kv->info[kv->info[p].previous].next = kv->info[p].next;
    kv->info[kv->info[p].next].previous = kv->info[p].previous;
}

static void link_last(td_kv *kv, int32_t list, int32_t p)
{
    int32_t last = kv->info[list].previous;
    kv->info[p].previous = last;
    kv->info[p].next = list;
    kv->info[last].next = kv->info[list].previous = p;
}

static int32_t free_list(const td_kv *kv) { return kv->pages; }
static int32_t lru_list(const td_kv *kv) { return kv->pages + 1; }

td_status td_kv_open(const td_config *config, td_dtype type, int pages, td_kv **out)
{
    bool shared_kv = config->attention == TD_ATTN_MLA;
    if (type == TD_Q8_0 && (config->k_dim % TD_Q_BLOCK || config->v_dim % TD_Q_BLOCK))
        return td_fail(TD_E_UNSUPPORTED, "KV type q8_0: expected head widths that are multiples of %d, found %d and %d", TD_Q_BLOCK, config->k_dim, config->v_dim);
    if (type != TD_F32 && type != TD_BF16 && type != TD_Q8_0) return td_fail(TD_E_INVALID, "KV type: expected f32, bf16 or q8_0, found %s", td_dtype_name(type));
    td_kv *kv = calloc(1, sizeof *kv);
    if (!kv) return td_fail(TD_E_MEMORY, "kv: no memory");
    *kv = (td_kv){.config = config, .type = type, .pages = pages};
    kv->k_row = td_dtype_row_bytes(type, config->k_dim);
    kv->v_row = shared_kv ? 0 : td_dtype_row_bytes(type, config->v_dim);
    kv->head_bytes = (TD_PAGE_TOKENS * (kv->k_row + kv->v_row) + 63) / 64 * 64;
    kv->bytes = (size_t)config->layers * (size_t)pages * (size_t)config->kv_heads * kv->head_bytes;
    kv->memory = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint32_t buckets = 16;
    while (buckets < 2u * (uint32_t)pages) buckets *= 2;
    kv->bucket_mask = buckets - 1;
    kv->info = calloc((size_t)pages + 2, sizeof *kv->info);
    kv->buckets = malloc(buckets * sizeof *kv->buckets);
    if (kv->memory == MAP_FAILED || !kv->info || !kv->buckets) {
        size_t bytes = kv->bytes;
        td_kv_close(kv);
        return td_fail(TD_E_MEMORY, "kv: the system refused %zu bytes for %d pages of %d tokens; a smaller context or --kv-tokens needs less", bytes, pages, TD_PAGE_TOKENS);
    }
    madvise(kv->memory, kv->bytes, MADV_HUGEPAGE);
    memset(kv->buckets, 0xFF, buckets * sizeof *kv->buckets);
    for (int32_t list = pages; list < pages + 2; list++) kv->info[list].next = kv->info[list].previous = list;
    for (int32_t p = 0; p < pages; p++) link_last(kv, free_list(kv), p);
    *out = kv;
    return TD_OK;
}

void td_kv_touch(td_kv *kv)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(kv->memory, kv->bytes, MADV_POPULATE_WRITE) != 0) td_log(TD_LOG_INFO, "kv", "%zu bytes are left to be touched when first written: %s", kv->bytes, strerror(errno));
#endif
}

void td_kv_close(td_kv *kv)
{
    if (!kv) return;
    if (kv->memory && kv->memory != MAP_FAILED) munmap(kv->memory, kv->bytes);
    free(kv->info);
    free(kv->buckets);
    free(kv);
}

td_dtype td_kv_dtype(const td_kv *kv) { return kv->type; }
size_t td_kv_bytes(const td_kv *kv) { return kv->bytes; }
int td_kv_pages(const td_kv *kv) { return kv->pages; }
int td_kv_pages_held(const td_kv *kv) { return kv->held; }
int td_kv_pages_available(const td_kv *kv) { return kv->pages - kv->held; }
size_t td_kv_k_row_bytes(const td_kv *kv) { return kv->k_row; }
size_t td_kv_v_row_bytes(const td_kv *kv) { return kv->v_row ? kv->v_row : kv->k_row; }

void *td_kv_k(const td_kv *kv, int layer, int32_t page, int head)
{
    return kv->memory + (((size_t)page * (size_t)kv->config->layers + (size_t)layer) * (size_t)kv->config->kv_heads + (size_t)head) * kv->head_bytes;
}

void *td_kv_v(const td_kv *kv, int layer, int32_t page, int head)
{
    return (uint8_t *)td_kv_k(kv, layer, page, head) + (kv->v_row ? TD_PAGE_TOKENS * kv->k_row : 0);
}

/* ---- published prefixes -------------------------------------------------------------------------------------------------------------- */

static uint32_t bucket_of(const td_kv *kv, uint64_t after, const int32_t *tokens)
{
    uint64_t h = td_mix64(after);
    for (int i = 0; i < TD_PAGE_TOKENS; i++) h = td_mix64(h ^ (uint32_t)tokens[i]);
    return (uint32_t)h & kv->bucket_mask;
}

static int32_t find(const td_kv *kv, uint64_t after, const int32_t *tokens)
{
    int32_t p = kv->buckets[bucket_of(kv, after, tokens)];
    while (p >= 0 && (kv->info[p].after != after || memcmp(kv->info[p].tokens, tokens, sizeof kv->info[p].tokens) != 0)) p = kv->info[p].chain;
    return p;
}

static void forget(td_kv *kv, int32_t page)
{
    int32_t *link = &kv->buckets[bucket_of(kv, kv->info[page].after, kv->info[page].tokens)];
    while (*link != page) link = &kv->info[*link].chain;
    *link = kv->info[page].chain;
    kv->info[page].published = false;
}

static void hold(td_kv *kv, int32_t page)
{
    if (kv->info[page].holders++ == 0) {
        unlink_page(kv, page);
        kv->held++;
    }
}

int32_t td_kv_take(td_kv *kv)
{
    int32_t page = kv->info[free_list(kv)].next;
    if (page == free_list(kv)) page = kv->info[lru_list(kv)].next;
    if (page == lru_list(kv)) return -1;
    if (kv->info[page].published) forget(kv, page);
    hold(kv, page);
    return page;
}

void td_kv_release(td_kv *kv, int32_t page)
{
    if (--kv->info[page].holders > 0) return;
    kv->held--;
    link_last(kv, kv->info[page].published ? lru_list(kv) : free_list(kv), page);
}

int td_kv_match(td_kv *kv, const int32_t *tokens, int64_t count, int32_t *pages, uint64_t *serial)
{
    int matched = 0;
    *serial = 0;
    for (; (int64_t)(matched + 1) * TD_PAGE_TOKENS <= count; matched++) {
        int32_t page = find(kv, *serial, tokens + (int64_t)matched * TD_PAGE_TOKENS);
        if (page < 0) break;
        hold(kv, page);
        pages[matched] = page;
        *serial = kv->info[page].serial;
    }
    return matched;
}

uint64_t td_kv_publish(td_kv *kv, uint64_t after, int32_t page, const int32_t *tokens)
{
    int32_t same = find(kv, after, tokens);
    if (same >= 0) return kv->info[same].serial;
    page_info *info = &kv->info[page];
    info->after = after;
    info->serial = ++kv->serials;
    memcpy(info->tokens, tokens, sizeof info->tokens);
    uint32_t bucket = bucket_of(kv, after, tokens);
    info->chain = kv->buckets[bucket];
    kv->buckets[bucket] = page;
    info->published = true;
    return info->serial;
}
