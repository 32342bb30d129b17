/*
 * arena.h - memory named by its lifetime (load, step, request).
 * An arena hands out zeroed, 64-byte aligned pieces and frees them all at once. Large blocks ask for huge pages. Not thread-safe.
 */
#ifndef TD_BASE_ARENA_H
#define TD_BASE_ARENA_H

#include <stddef.h>

typedef struct td_arena_block td_arena_block;
typedef struct {
    td_arena_block *first;    /* newest block; owned */
    size_t bytes_used, bytes_reserved;
    const char *name;         /* for messages and the memory table; borrowed */
} td_arena;

/* A zeroed piece of at least bytes (0 gives a valid pointer), or NULL when the system has no memory (td_fail is set). */
void *td_arena_get(td_arena *arena, size_t bytes);

/* count * size with overflow checked. */
void *td_arena_array(td_arena *arena, size_t count, size_t size);

/* A NUL-terminated copy of length bytes. */
char *td_arena_text(td_arena *arena, const char *text, size_t length);

/* Frees every block; the arena may be used again. */
void td_arena_free(td_arena *arena);

#define TD_NEW(arena, type, count) ((type *)td_arena_array((arena), (count), sizeof(type)))

#endif
