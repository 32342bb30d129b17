/* tensor.c - see tensor.h. */
#include "tensor/tensor.h"

void td_tensor_row(const td_tensor *tensor, int64_t row, float *out)
{
    int64_t columns = tensor->shape[tensor->dims - 1];
    const char *data = (const char *)tensor->data + (size_t)row * td_dtype_row_bytes(tensor->type, columns);
    td_dequantise_row(tensor->type, data, out, columns);
    if (!tensor->scale || tensor->dims < 2) return;
    int64_t rows = tensor->shape[tensor->dims - 2], across = (columns + TD_F8_BLOCK - 1) / TD_F8_BLOCK, down = (rows + TD_F8_BLOCK - 1) / TD_F8_BLOCK;
    const float *scale = tensor->scale + (row / rows * down + row % rows / TD_F8_BLOCK) * across;
    for (int64_t i = 0; i < columns; i++) out[i] *= scale[i / TD_F8_BLOCK];
}
