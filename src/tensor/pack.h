/*
 * pack.h - the packed layout of integer weight types: for vectors whose lanes are outputs, sixteen rows lie interleaved instead of one after the other.
 *
 * Rows 16g .. 16g + 15 of a matrix take the bytes they took before, in their place, in another order: block by block along K, and of a block first the sixteen f16 scales of Q8_0 and
 * Q4_0, then the first four bytes of the sixteen rows, then their next four, ... and last Q6_K's sixteen f16 scales. So what stands at byte X of a row's block begins at byte 16 X of the
 * sixteen blocks. No number changes.
 */
#ifndef TD_TENSOR_PACK_H
#define TD_TENSOR_PACK_H

#include "tensor/tensor.h"

enum { TD_PACK_ROWS = 16 };

/* True for matrices of Q8_0, Q4_0, Q4_K, Q5_K or Q6_K whose rows come in sixteens. */
bool td_pack_fits(const td_tensor *matrix);
/* Sixteen rows of k elements, row_bytes apart, to the same number of bytes at `to`. */
void td_pack_rows(td_dtype type, int64_t k, const void *from, void *to);
/* One block (td_dtype_block_bytes) of a row of a packed matrix, as it lay before. */
void td_pack_read(const td_tensor *packed, int64_t row, int64_t block, uint8_t *out);

#endif
