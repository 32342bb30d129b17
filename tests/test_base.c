/* test_base.c - arena, buffer, threads, files, status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/threads.h"

static void arena_pieces_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    td_arena arena = {.name = "test"};
    unsigned char *pieces[300];
    for (int i = 0; i < 300; i++) {
        size_t bytes = (size_t)(i * 977 % 5000);
        pieces[i] = td_arena_get(&arena, bytes);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        for (size_t b = 0; b < bytes; b++) assert_int_equal(pieces[i][b], 0);
        memset(pieces[i], i, bytes);
    }
    for (int i = 0; i < 300; i++)
        for (size_t b = 0; b < (size_t)(i * 977 % 5000); b++) assert_int_equal(pieces[i][b], (unsigned char)i);
    assert_null(td_arena_array(&arena, SIZE_MAX / 2, 16));
    assert_non_null(strstr(td_error(), "arena test"));
    td_arena_free(&arena);
}

/* Experts of less than a huge page: behind each other in large blocks, little reserved for nothing. */
static void arena_blocks_grow_with_what_they_hold(void **state)
{
    (void)state;
    enum { PIECES = 300, BYTES = 900032 };
    td_arena arena = {.name = "test"};
    char *last = NULL;
    int adjoining = 0;
    for (int i = 0; i < PIECES; i++) {
        char *piece = td_arena_get(&arena, BYTES);
        assert_non_null(piece);
        adjoining += piece == last + BYTES;
        last = piece;
    }
    assert_true(adjoining > PIECES * 3 / 4);
    assert_int_equal(arena.bytes_used, (size_t)PIECES * BYTES);
    assert_true(arena.bytes_reserved <= arena.bytes_used / 8 * 10);
    td_arena_free(&arena);
}

static void count_task(void *arg, int task, int worker)
{
    (void)worker;
    ((int *)arg)[task]++;
}

static void pool_runs_every_task_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        td_pool *pool;
        assert_int_equal(td_pool_open(threads, &pool), TD_OK);
        int counts[97] = {0};
        for (int run = 0; run < 2000; run++) {
            if (run % 500 == 0) usleep(3000); /* lets the workers fall asleep */
            td_pool_run(pool, 97, count_task, counts);
        }
        for (int i = 0; i < 97; i++) assert_int_equal(counts[i], 2000);
        td_pool_close(pool);
    }
    td_pool *pool = NULL;
    assert_int_equal(td_pool_open(-1, &pool), TD_E_INVALID);
    assert_null(pool);
}

static void buffer_json_escapes(void **state)
{
    (void)state;
    td_buffer buffer = {0};
    td_buffer_json(&buffer, "a\"\\\n\x01\xC3\xA4\xFFz", 9);
    assert_string_equal(buffer.data, "\"a\\\"\\\\\\n\\u0001\xC3\xA4\xEF\xBF\xBDz\"");
    td_buffer_free(&buffer);
}

static void writer_puts_whole_file_or_none(void **state)
{
    (void)state;
    char directory[] = "/tmp/td_test_XXXXXX";
    assert_non_null(mkdtemp(directory));
    char *path = td_path_join(directory, "x");
    td_writer writer;
    assert_int_equal(td_writer_open(path, &writer), TD_OK);
    assert_int_equal(td_writer_put(&writer, "abc", 3), TD_OK);
    assert_int_equal(td_writer_align(&writer, 64), TD_OK);
    assert_false(td_path_exists(path));
    assert_int_equal(td_writer_commit(&writer), TD_OK);
    td_file file;
    assert_int_equal(td_file_map(path, &file), TD_OK);
    assert_int_equal(file.bytes, 64);
    assert_memory_equal(file.data, "abc\0", 4);
    td_file_unmap(&file);
    unlink(path);
    assert_int_equal(td_writer_open(path, &writer), TD_OK);
    td_writer_discard(&writer);
    assert_int_equal(rmdir(directory), 0);
    free(path);
    /* a device stays a device, and a full one is an error */
    struct stat device;
    assert_int_equal(td_writer_open("/dev/full", &writer), TD_OK);
    assert_int_equal(td_writer_put(&writer, "abc", 3), TD_OK);
    assert_int_equal(td_writer_commit(&writer), TD_E_IO);
    assert_int_equal(stat("/dev/full", &device), 0);
    assert_true(S_ISCHR(device.st_mode));
    assert_int_equal(td_writer_open("/tmp", &writer), TD_E_IO);
    assert_int_equal(td_writer_open("/dev/full/none", &writer), TD_E_IO);
    assert_int_equal(td_file_map("/nonexistent", &file), TD_E_NOT_FOUND);
    assert_int_equal(td_file_map("/tmp", &file), TD_E_INVALID);
}

static void put_text(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void memory_is_what_control_groups_leave(void **state)
{
    (void)state;
    char root[] = "/tmp/tandem-cgroup-XXXXXX", folder[256];
    assert_non_null(mkdtemp(root));
    const char *folders[] = {"/pod", "/pod/box", "/memory", "/memory/a", "/memory/a/b"};
    for (size_t i = 0; i < TD_COUNT(folders); i++) {
        snprintf(folder, sizeof folder, "%s%s", root, folders[i]);
        assert_int_equal(mkdir(folder, 0700), 0);
    }
    assert_true(isinf(td_memory_limit(root, "0::/pod/box\n")));
    put_text(root, "pod/memory.max", "3000000000\n");
    put_text(root, "pod/box/memory.max", "max\n");
    assert_true(td_memory_limit(root, "0::/pod/box\n") == 3e9);
    put_text(root, "memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    put_text(root, "memory/a/memory.limit_in_bytes", "2000000000\n");
    assert_true(td_memory_limit(root, "9:cpu:/\n4:memory:/a/b\n0::/pod/box\n") == 2e9);
    assert_true(td_memory_limit(root, "4:memory:/nowhere/b\n") > 1e18);
    assert_true(isinf(td_memory_limit(root, "nonsense\n:\n")));
    assert_true(td_memory_bytes() > 1e6 && td_memory_bytes() < 1e16);
    snprintf(folder, sizeof folder, "rm -r %s", root);
    assert_int_equal(system(folder), 0);
}

static void caches_are_what_the_system_lists(void **state)
{
    (void)state;
    char root[] = "/tmp/tandem-cache-XXXXXX", folder[256];
    assert_non_null(mkdtemp(root));
    const char *lines[][3] = {{"1\n", "Instruction\n", "64K\n"}, {"1\n", "Data\n", "48K\n"}, {"2\n", "Unified\n", "1024K\n"}, {"3\n", "Unified\n", "32M\n"}}, *names[] = {"level", "type", "size"};
    for (size_t i = 0; i < TD_COUNT(lines); i++) {
        snprintf(folder, sizeof folder, "%s/index%zu", root, i);
        assert_int_equal(mkdir(folder, 0700), 0);
        for (size_t n = 0; n < 3; n++) put_text(folder, names[n], lines[i][n]);
    }
    assert_int_equal(td_cache_listed(root, 1), 48 << 10);
    assert_int_equal(td_cache_listed(root, 2), 1 << 20);
    assert_int_equal(td_cache_listed(root, 3), 32 << 20);
    assert_int_equal(td_cache_listed(root, 4), 0);
    put_text(folder, "size", "much\n");
    assert_int_equal(td_cache_listed(root, 3), 0);
    assert_int_equal(td_cache_listed("/nowhere", 3), 0);
    assert_int_equal(td_cache_bytes(0), 0);
    assert_int_equal(td_uncached_bytes(INT64_C(1) << 50), INT64_C(1) << 50);
    assert_true(td_uncached_bytes(0) <= td_memory_bytes() / 8 && (td_uncached_bytes(0) >= td_cache_bytes(3) || td_cache_bytes(3) > td_memory_bytes() / 8));
    snprintf(folder, sizeof folder, "rm -r %s", root);
    assert_int_equal(system(folder), 0);
}

static void status_keeps_the_sentence(void **state)
{
    (void)state;
    assert_int_equal(td_fail(TD_E_FORMAT, "byte %d", 7), TD_E_FORMAT);
    assert_int_equal(td_context(TD_E_FORMAT, "file %s", "f"), TD_E_FORMAT);
    assert_string_equal(td_error(), "file f: byte 7");
    char longer[3000];
    memset(longer, 0, sizeof longer);
    for (int i = 0; i < 2998; i += 2) memcpy(longer + i, "\xC3\xA4", 2);
    td_fail(TD_E_FORMAT, "x%s", longer);
    assert_int_equal(strlen(td_error()), 1023);
    assert_int_equal((unsigned char)td_error()[1022], 0xA4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_pieces_are_zeroed_aligned_and_apart), cmocka_unit_test(arena_blocks_grow_with_what_they_hold), cmocka_unit_test(pool_runs_every_task_once),
        cmocka_unit_test(buffer_json_escapes), cmocka_unit_test(writer_puts_whole_file_or_none), cmocka_unit_test(memory_is_what_control_groups_leave), cmocka_unit_test(caches_are_what_the_system_lists), cmocka_unit_test(status_keeps_the_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
