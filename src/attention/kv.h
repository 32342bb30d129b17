/*
 * kv.h - the KV cache: pages of 64 positions for all layers, who holds them, and which prefix they spell.
 *
 * A page is held by any number of requests. Once its 64 positions are written it can be published under (the published page before it, its tokens); a later prompt that
 * begins with the same tokens finds it again. Unheld published pages stay findable until their room is needed (least recently used first).
 * Management calls come from one thread (the scheduler); page addresses are stable for the cache's life.
 */
#ifndef TD_ATTENTION_KV_H
#define TD_ATTENTION_KV_H

#include "kernel/kernel.h"
#include "model/model.h"

typedef struct td_kv td_kv;

/* pages >= 1. Memory is reserved here and touched when first written. The dtype is F32, BF16 or Q8_0 (then widths must be multiples of 32: TD_E_UNSUPPORTED). */
td_status td_kv_open(const td_config *config, td_dtype type, int pages, td_kv **out);
/* Has the system give and clear all of the memory now, so that no step waits for it later. Nothing happens where the system cannot, or has too little. */
void td_kv_touch(td_kv *kv);
void td_kv_close(td_kv *kv);

td_dtype td_kv_dtype(const td_kv *kv);
size_t td_kv_bytes(const td_kv *kv);
int td_kv_pages(const td_kv *kv);
int td_kv_pages_available(const td_kv *kv);  /* free or evictable */
int td_kv_pages_held(const td_kv *kv);

size_t td_kv_k_row_bytes(const td_kv *kv);
size_t td_kv_v_row_bytes(const td_kv *kv);
/* First row of one KV head of one page; TD_PAGE_TOKENS rows follow. MLA: v is k. */
void *td_kv_k(const td_kv *kv, int layer, int32_t page, int head);
void *td_kv_v(const td_kv *kv, int layer, int32_t page, int head);

/* A page held once, its contents undefined; -1 when every page is held. */
int32_t td_kv_take(td_kv *kv);
void td_kv_release(td_kv *kv, int32_t page);

/* Holds the longest chain of published pages that spells the front of tokens; writes them to pages (room for count / TD_PAGE_TOKENS) and returns how many. *serial gets the
 * chain's end for td_kv_publish. */
int td_kv_match(td_kv *kv, const int32_t *tokens, int64_t count, int32_t *pages, uint64_t *serial);
/* Makes a full page findable behind the chain `after` (0: start). Returns the chain's new end (an equal page's when one was published before). */
uint64_t td_kv_publish(td_kv *kv, uint64_t after, int32_t page, const int32_t *tokens);

#endif
