/* pack.c - see pack.h. */
#include "tensor/pack.h"

#include <string.h>

/* Bytes of the piece that begins at byte `at` of a block. */
static int piece_bytes(td_dtype type, int at)
{
    if (type == TD_Q6_K) return at == 208 ? 2 : 4;
    return (type == TD_Q8_0 || type == TD_Q4_0) && at == 0 ? 2 : 4;
}

bool td_pack_fits(const td_tensor *matrix)
{
    return matrix->type >= TD_Q8_0 && matrix->type <= TD_Q6_K && matrix->dims == 2 && matrix->shape[0] > 0 && matrix->shape[0] % TD_PACK_ROWS == 0;
}

void td_pack_rows(td_dtype type, int64_t k, const void *from, void *to)
{
    size_t row_bytes = td_dtype_row_bytes(type, k);
    int block = td_dtype_block_bytes(type);
    uint8_t *out = to;
    for (size_t begin = 0; begin < row_bytes; begin += (size_t)block)
        for (int at = 0; at < block; at += piece_bytes(type, at)) {
            int bytes = piece_bytes(type, at);
            const uint8_t *in = (const uint8_t *)from + begin + at;
            for (int r = 0; r < TD_PACK_ROWS; r++, in += row_bytes, out += bytes) {
                if (bytes == 4) memcpy(out, in, 4);
                else memcpy(out, in, 2);
            }
        }
}

void td_pack_read(const td_tensor *packed, int64_t row, int64_t block, uint8_t *out)
{
    int bytes = td_dtype_block_bytes(packed->type);
    size_t row_bytes = td_dtype_row_bytes(packed->type, packed->shape[packed->dims - 1]);
    const uint8_t *from = (const uint8_t *)packed->data + (size_t)(row / TD_PACK_ROWS * TD_PACK_ROWS) * row_bytes + (size_t)block * (size_t)bytes * TD_PACK_ROWS;
    for (int at = 0; at < bytes;) {
        int piece = piece_bytes(packed->type, at);
        memcpy(out + at, from + at * TD_PACK_ROWS + row % TD_PACK_ROWS * piece, (size_t)piece);
        at += piece;
    }
}
