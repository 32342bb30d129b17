/*
 * cuda.cuh - what the device code is written in: thin names for the instructions it uses. With nvcc they are PTX; in the tests' emulation (tests/cuda_host)
 * they are functions with the same meaning, so that the index arithmetic of every kernel also runs on a CPU.
 */
#ifndef TD_KERNEL_CUDA_CUDA_CUH
#define TD_KERNEL_CUDA_CUDA_CUH

#include "kernel/cuda/cuda.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cstring>
#define TD_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#else
#include <cuda_host.h>
#define TD_SHARED(name) unsigned char *name = cuda_host_shared()
#endif

struct td_cuda {
    cudaStream_t stream;
    int device, multiprocessors;
    cudaError_t error;       /* the first that nobody has reported */
    float *partial;          /* partial sums of products that are cut along k; grown outside graphs only */
    size_t partial_bytes;
    bool recording;
    cudaEvent_t marks[16];
    bool marked[16];
};
struct td_cuda_graph { cudaGraphExec_t exec; };

/* Keeps the first error. */
static inline td_status td_cuda_note(td_cuda *cuda, cudaError_t error)
{
    if (error != cudaSuccess && cuda->error == cudaSuccess) cuda->error = error;
    return TD_OK;
}

template <class... P, class... A> static void td_launch(td_cuda *cuda, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... args)
{
    if (shared > 48 * 1024) td_cuda_note(cuda, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
#if defined(__CUDACC__)
    kernel<<<grid, block, shared, cuda->stream>>>(static_cast<P>(args)...);
    td_cuda_note(cuda, cudaGetLastError());
#else
    cuda_host_launch(cuda->stream, grid, block, shared, [=] { kernel(static_cast<P>(args)...); });
#endif
}

/* ---- conversions ---- */

static __device__ __forceinline__ float td_bf16_float(uint16_t bits) { return __int_as_float((int)((uint32_t)bits << 16)); }

static __device__ __forceinline__ uint16_t td_bf16(float x)
{
#if defined(__CUDACC__)
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
    return td_f32_to_bf16(x);
#endif
}

static __device__ __forceinline__ uint32_t td_pack_bf16(float low, float high) { return (uint32_t)td_bf16(low) | (uint32_t)td_bf16(high) << 16; }

static __device__ __forceinline__ uint32_t td_pack_f16(float low, float high)
{
#if defined(__CUDACC__)
    __half2 h = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &h, 4);
    return bits;
#else
    return (uint32_t)td_f32_to_f16(low) | (uint32_t)td_f32_to_f16(high) << 16;
#endif
}

static __device__ __forceinline__ uint8_t td_f8(float x)
{
#if defined(__CUDACC__)
    return (uint8_t)__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
#else
    return td_f32_to_f8e4m3(x);
#endif
}

/* Two E4M3 (low byte first) as two halves: exact. */
static __device__ __forceinline__ uint32_t td_f8_to_f16x2(uint16_t two)
{
#if defined(__CUDACC__)
    __half2_raw h = __nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)two, __NV_E4M3);
    return (uint32_t)h.x | (uint32_t)h.y << 16;
#else
    return (uint32_t)td_f32_to_f16(td_f8e4m3_to_f32((uint8_t)two)) | (uint32_t)td_f32_to_f16(td_f8e4m3_to_f32((uint8_t)(two >> 8))) << 16;
#endif
}

/* ---- warp-wide products, m16n8k16 (E4M3: m16n8k32); c += a b ---- */

#if defined(__CUDACC__)
#define TD_MMA(shape, type)                                                                                                                              \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"                       \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#endif

static __device__ __forceinline__ void td_mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
#if defined(__CUDACC__)
    TD_MMA("m16n8k16", "bf16");
#else
    cuda_host_mma(c, a, b, CUDA_HOST_BF16);
#endif
}

static __device__ __forceinline__ void td_mma_f16(float *c, const uint32_t *a, const uint32_t *b)
{
#if defined(__CUDACC__)
    TD_MMA("m16n8k16", "f16");
#else
    cuda_host_mma(c, a, b, CUDA_HOST_F16);
#endif
}

/* On sm_90a the compiler makes two F16 products of this, after unpacking: the rate is that of F16 (seen in the machine code, docs/cuda.md). */
static __device__ __forceinline__ void td_mma_f8(float *c, const uint32_t *a, const uint32_t *b)
{
#if defined(__CUDACC__)
    TD_MMA("m16n8k32", "e4m3");
#else
    cuda_host_mma(c, a, b, CUDA_HOST_E4M3);
#endif
}

/* Four 8x8 matrices of 16-bit elements; lane i points to row i%8 of matrix i/8. */
static __device__ __forceinline__ void td_ldmatrix(uint32_t *r, const void *row)
{
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
#else
    cuda_host_ldmatrix(r, row, 4, false);
#endif
}

static __device__ __forceinline__ void td_ldmatrix_transposed(uint32_t *r, const void *row)
{
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
#else
    cuda_host_ldmatrix(r, row, 4, true);
#endif
}

/* ---- asynchronous copies, global to shared; not valid: zeros ---- */

static __device__ __forceinline__ void td_copy16(void *to, const void *from, bool valid)
{
#if defined(__CUDACC__)
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
#else
    cuda_host_cp_async(to, from, 16, valid);
#endif
}

static __device__ __forceinline__ void td_copy4(void *to, const void *from, bool valid)
{
#if defined(__CUDACC__)
    asm volatile("cp.async.ca.shared.global [%0],[%1],4,%2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(valid ? 4 : 0) : "memory");
#else
    cuda_host_cp_async(to, from, 4, valid);
#endif
}

static __device__ __forceinline__ void td_copy_commit()
{
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    cuda_host_cp_commit();
#endif
}

template <int left> static __device__ __forceinline__ void td_copy_wait()
{
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#else
    cuda_host_cp_wait(left);
#endif
}

/* ---- small things ---- */

static __device__ __forceinline__ float td_warp_sum(float x)
{
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, i);
    return x;
}

static __device__ __forceinline__ float td_warp_max(float x)
{
    for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, i));
    return x;
}

static __device__ __forceinline__ float td_silu(float g) { return g / (1.0f + expf(-g)); }

/* Scale of a block whose largest magnitude is max, and what its elements are multiplied by. */
static __device__ __forceinline__ float td_f8_scale(float max, float *inverse)
{
    *inverse = max > 1e-30f ? 448.0f / max : 0.0f;
    return max > 1e-30f ? max / 448.0f : 0.0f;
}

/* Where the 16-byte piece `piece` of row `row` stands in rows of 128 bytes: eight rows that are read together fall on different banks. */
static __host__ __device__ __forceinline__ int td_swizzled(int row, int piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }

#endif
