/*
 * cuda_host.h - enough of CUDA on the CPU to run the device code of src/kernel/cuda in a test: the same .cu files, compiled as C++.
 *
 * A block's threads are fibers on one OS thread. A fiber runs until it needs others (a barrier, a shuffle, a warp-wide instruction), so every interleaving is
 * made of long stretches; cuda_host_order() turns their order around, which shows a missing barrier as a wrong result. Shared memory is allocated for each block
 * with its exact size and poisoned, so that AddressSanitizer sees what leaves it. cp.async copies nothing before the matching wait: a missing wait reads poison.
 * The warp-wide instructions (mma.sync, ldmatrix) follow the fragment layouts of the PTX manual; sums are formed in double and rounded once, so results
 * differ from a device's by rounding. Streams run at once, or are recorded while a graph is captured.
 * What it cannot show: timing, memory models, real races between warps inside one stretch, limits of registers.
 */
#ifndef CUDA_HOST_H
#define CUDA_HOST_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct int4 { int x, y, z, w; };
struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- what a fiber calls ---- */

void __syncthreads();
void __syncwarp();
float __shfl_xor_sync(unsigned mask, float value, int lane_mask);
int __shfl_xor_sync(unsigned mask, int value, int lane_mask);
float __shfl_sync(unsigned mask, float value, int lane);
int __shfl_up_sync(unsigned mask, int value, unsigned delta);
unsigned char *cuda_host_shared(); /* the block's dynamic shared memory */

enum cuda_host_element { CUDA_HOST_BF16, CUDA_HOST_F16, CUDA_HOST_E4M3 };
void cuda_host_mma(float *c, const uint32_t *a, const uint32_t *b, cuda_host_element type); /* m16n8k16, E4M3: m16n8k32 */
void cuda_host_ldmatrix(uint32_t *out, const void *row, int matrices, bool transposed);
void cuda_host_cp_async(void *to, const void *from, int bytes, bool valid); /* not valid: zeros */
void cuda_host_cp_commit();
void cuda_host_cp_wait(int groups_left);

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline int __float_as_int(float f) { int i; memcpy(&i, &f, 4); return i; }
static inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }

/* ---- what the host side calls ---- */

extern "C" {
/* 0: ascending threads, 1: descending, else shuffled by this seed, anew at every turn. */
void cuda_host_order(unsigned order);
/* The device that cudaGetDeviceCount reports; 0: none, as on a machine without a driver. */
void cuda_host_devices(int count);
size_t cuda_host_memory(void); /* bytes that are allocated on the device */
}
/* Blocks run since start, and warp-wide products: to see that a test did what it says. */
extern unsigned long long cuda_host_blocks, cuda_host_products;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInsufficientDriver = 35, cudaErrorNoDevice = 100 };
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1 };

typedef std::vector<std::function<void()>> cuda_host_list;
struct cuda_host_stream { bool capturing; cuda_host_list list; };
struct cuda_host_graph { cuda_host_list list; };
struct cuda_host_event { double ms; };
typedef cuda_host_stream *cudaStream_t;
typedef cuda_host_graph *cudaGraph_t, *cudaGraphExec_t;
typedef cuda_host_event *cudaEvent_t;
struct cudaDeviceProp { char name[256]; int major, minor, multiProcessorCount; size_t totalGlobalMem, sharedMemPerBlockOptin; int l2CacheSize, memoryBusWidth; };

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *data);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaFreeHost(void *data);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
cudaError_t cudaEventCreate(cudaEvent_t *out);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);
static inline cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int bytes) { return bytes <= 227 * 1024 ? cudaSuccess : cudaErrorInvalidValue; }

/* Runs a kernel's blocks one after another; body is the kernel with its arguments. */
void cuda_host_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body);

#endif
