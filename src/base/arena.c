/*
 * arena.c - a list of anonymous mappings that pieces share. The more an arena holds, the larger its next block: what is large in all, experts of less than 2 MB each among it, then lies
 * in huge pages, and at most an eighth is reserved that nobody asked for (untouched, so it takes no memory).
 */
#define _GNU_SOURCE
#include "base/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/status.h"

enum { ALIGN = 64, BLOCK_BYTES = 256 << 10, BLOCK_MOST = 64 << 20, HUGE_BYTES = 2 << 20, GROWTH_SHARE = 8 };

struct td_arena_block {
    td_arena_block *next;
    size_t bytes, used; /* whole mapping, including this header */
    char pad[ALIGN - 3 * sizeof(size_t)];
};

/* A mapping of at least HUGE_BYTES starts where a huge page can. */
static void *map_huge(size_t whole)
{
    char *wide = mmap(NULL, whole + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (wide == MAP_FAILED) return MAP_FAILED;
    size_t before = (HUGE_BYTES - (uintptr_t)wide % HUGE_BYTES) % HUGE_BYTES;
    if (before) munmap(wide, before);
    munmap(wide + before + whole, HUGE_BYTES - before);
    madvise(wide + before, whole, MADV_HUGEPAGE); /* refused on some kernels: only slower */
    return wide + before;
}

static td_arena_block *new_block(size_t bytes)
{
    size_t page = bytes >= HUGE_BYTES ? HUGE_BYTES : 4096;
    size_t whole = (bytes + page - 1) / page * page;
    td_arena_block *block = whole >= HUGE_BYTES ? map_huge(whole) : mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return NULL;
    block->bytes = whole;
    block->used = sizeof *block;
    return block;
}

void *td_arena_get(td_arena *arena, size_t bytes)
{
    const char *name = arena->name ? arena->name : "unnamed";
    if (bytes > SIZE_MAX / 2) {
        td_fail(TD_E_MEMORY, "arena %s: expected a size below half the address space, found %zu bytes", name, bytes);
        return NULL;
    }
    size_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (need == 0) need = ALIGN;
    td_arena_block *block = arena->first;
    if (!block || block->bytes - block->used < need) {
        size_t grow = TD_MIN(arena->bytes_reserved / GROWTH_SHARE, (size_t)BLOCK_MOST);
        td_arena_block *fresh = new_block(TD_MAX(need + sizeof *fresh, TD_MAX(grow, (size_t)BLOCK_BYTES)));
        if (!fresh) {
            td_fail(TD_E_MEMORY, "arena %s: the system refused %zu bytes (%zu already used)", name, need, arena->bytes_used);
            return NULL;
        }
        arena->bytes_reserved += fresh->bytes;
        /* keep the emptier of the two in front */
        if (block && block->bytes - block->used > fresh->bytes - fresh->used - need) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            arena->first = fresh;
        }
        block = fresh;
    }
    void *piece = (char *)block + block->used;
    block->used += need;
    arena->bytes_used += need;
    return piece;
}

void *td_arena_array(td_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
    return td_arena_get(arena, bytes);
}

char *td_arena_text(td_arena *arena, const char *text, size_t length)
{
    char *copy = td_arena_get(arena, length + 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

void td_arena_free(td_arena *arena)
{
    td_arena_block *block = arena->first;
    while (block) {
        td_arena_block *next = block->next;
        munmap(block, block->bytes);
        block = next;
    }
    arena->first = NULL;
    arena->bytes_used = arena->bytes_reserved = 0;
}
