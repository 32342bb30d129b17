/*
 * device.cu - the device itself: opening it, its memory, graphs, marks in time, what it is, and what it reaches (measured, for doctor and bench).
 */
#include "kernel/cuda/cuda.cuh"

#include <cstdio>
#include <cstdlib>

bool td_cuda_built(void) { return true; }

static td_status fault(td_cuda *cuda, cudaError_t error, const char *what)
{
    cuda->error = cudaSuccess;
    return td_fail(error == cudaErrorMemoryAllocation ? TD_E_MEMORY : TD_E_IO, "cuda: %s: %s", what, cudaGetErrorString(error));
}

#define TRY_CUDA(cuda, call, what)                                     \
    do {                                                               \
        cudaError_t try_error_ = (call);                               \
        if (try_error_ != cudaSuccess) return fault(cuda, try_error_, what); \
    } while (0)

static td_status start(td_cuda *cuda)
{
    cudaDeviceProp properties;
    TRY_CUDA(cuda, cudaSetDevice(0), "choosing device 0");
    TRY_CUDA(cuda, cudaGetDeviceProperties(&properties, 0), "reading the properties of device 0");
    if (properties.major != 9 || properties.minor != 0)
        return td_fail(TD_E_UNSUPPORTED, "cuda: expected a Hopper GPU (compute capability 9.0; the kernels are built for sm_90a), found %.100s (%d.%d)", properties.name, properties.major, properties.minor);
    cuda->multiprocessors = properties.multiProcessorCount;
    TRY_CUDA(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "a stream");
    for (int i = 0; i < 16; i++) TRY_CUDA(cuda, cudaEventCreate(&cuda->marks[i]), "an event");
    return TD_OK;
}

td_status td_cuda_open(td_cuda **out)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return td_fail(TD_E_UNSUPPORTED, "no CUDA device: %s", error == cudaSuccess ? "the driver reports none" : cudaGetErrorString(error));
    td_cuda *cuda = (td_cuda *)calloc(1, sizeof *cuda);
    if (!cuda) return td_fail(TD_E_MEMORY, "cuda: no memory");
    td_status status = start(cuda);
    if (status < 0) td_cuda_close(cuda);
    else *out = cuda;
    return status;
}

void td_cuda_close(td_cuda *cuda)
{
    if (!cuda) return;
    if (cuda->stream) cudaStreamSynchronize(cuda->stream);
    td_cuda_delete(cuda, cuda->partial);
    for (int i = 0; i < 16; i++)
        if (cuda->marks[i]) cudaEventDestroy(cuda->marks[i]);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    free(cuda);
}

td_status td_cuda_describe(td_cuda *cuda, td_cuda_device *out)
{
    cudaDeviceProp properties;
    td_cuda_device d = {};
    size_t total;
    TRY_CUDA(cuda, cudaGetDeviceProperties(&properties, 0), "reading the properties of device 0");
    TRY_CUDA(cuda, cudaMemGetInfo(&d.free_bytes, &total), "reading the free memory");
    snprintf(d.name, sizeof d.name, "%.120s", properties.name);
    d.major = properties.major, d.minor = properties.minor, d.multiprocessors = properties.multiProcessorCount, d.memory_bytes = properties.totalGlobalMem;
    *out = d;
    return TD_OK;
}

/* ---- memory ---- */

td_status td_cuda_new(td_cuda *cuda, size_t bytes, void **out)
{
    void *data = NULL;
    if (cuda->recording) return td_fail(TD_E_INVALID, "cuda: memory cannot be had while a graph is recorded");
    cudaError_t error = cudaMalloc(&data, bytes + (bytes == 0));
    if (error != cudaSuccess) {
        cudaGetLastError();
        return td_fail(TD_E_MEMORY, "cuda: expected room for %.3f GB more on the device: %s", (double)bytes * 1e-9, cudaGetErrorString(error));
    }
    td_cuda_note(cuda, cudaMemsetAsync(data, 0, bytes, cuda->stream));
    *out = data;
    return TD_OK;
}

void td_cuda_delete(td_cuda *cuda, void *data)
{
    if (!data) return;
    cudaStreamSynchronize(cuda->stream);
    cudaFree(data);
}

td_status td_cuda_pinned(td_cuda *cuda, size_t bytes, void **out)
{
    TRY_CUDA(cuda, cudaMallocHost(out, bytes + (bytes == 0)), "pinned memory");
    return TD_OK;
}

void td_cuda_unpin(td_cuda *cuda, void *data)
{
    (void)cuda;
    if (data) cudaFreeHost(data);
}

td_status td_cuda_upload(td_cuda *cuda, void *to, const void *from, size_t bytes) { return bytes ? td_cuda_note(cuda, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda->stream)) : TD_OK; }
td_status td_cuda_download(td_cuda *cuda, void *to, const void *from, size_t bytes) { return bytes ? td_cuda_note(cuda, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda->stream)) : TD_OK; }

td_status td_cuda_finish(td_cuda *cuda)
{
    cudaError_t error = cudaStreamSynchronize(cuda->stream);
    if (cuda->error != cudaSuccess) error = cuda->error;
    if (error != cudaSuccess) return fault(cuda, error, "the device");
    return TD_OK;
}

/* ---- graphs and time ---- */

td_status td_cuda_record(td_cuda *cuda)
{
    TRY_CUDA(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal), "recording a graph");
    cuda->recording = true;
    return TD_OK;
}

td_status td_cuda_recorded(td_cuda *cuda, td_cuda_graph **out)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cuda->recording = false;
    TRY_CUDA(cuda, cudaStreamEndCapture(cuda->stream, &graph), "recording a graph");
    cudaError_t error = cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    if (error != cudaSuccess) return fault(cuda, error, "making a graph");
    td_cuda_graph *made = (td_cuda_graph *)calloc(1, sizeof *made);
    if (!made) {
        cudaGraphExecDestroy(exec);
        return td_fail(TD_E_MEMORY, "cuda: no memory");
    }
    made->exec = exec;
    *out = made;
    return TD_OK;
}

td_status td_cuda_replay(td_cuda *cuda, td_cuda_graph *graph) { return td_cuda_note(cuda, cudaGraphLaunch(graph->exec, cuda->stream)); }

void td_cuda_graph_free(td_cuda_graph *graph)
{
    if (!graph) return;
    cudaGraphExecDestroy(graph->exec);
    free(graph);
}

td_status td_cuda_mark(td_cuda *cuda, int mark) { return td_cuda_note(cuda, cudaEventRecord(cuda->marks[mark & 15], cuda->stream)); }

td_status td_cuda_between(td_cuda *cuda, int from, int to, double *ms)
{
    float value;
    TRY_CUDA(cuda, cudaEventElapsedTime(&value, cuda->marks[from & 15], cuda->marks[to & 15]), "the time between two marks");
    *ms = value;
    return TD_OK;
}

/* ---- what the device reaches ---- */

static __global__ void read_kernel(const uint4 *data, int64_t count, unsigned *out)
{
    unsigned sum = 0;
    int64_t step = (int64_t)gridDim.x * blockDim.x * 4;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x * 4 + threadIdx.x; i < count; i += step)
        for (int j = 0; j < 4; j++) {
            int64_t at = i + (int64_t)j * blockDim.x;
            if (at >= count) break;
            uint4 v = data[at];
            sum += v.x ^ v.y ^ v.z ^ v.w;
        }
    if (sum == 0x9E3779B9u) *out = sum; /* so that the loads are needed */
}

static __global__ void copy_kernel(const uint4 *from, uint4 *to, int64_t count)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) to[i] = from[i];
}

enum { PEAK_CHAINS = 8 };

/* Independent chains of products on registers. */
template <bool f8> static __global__ void peak_kernel(int rounds, float *out)
{
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {(uint32_t)rounds & 0, 0};
    float c[PEAK_CHAINS][4], sum = 0;
    for (int i = 0; i < PEAK_CHAINS; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = (float)threadIdx.x;
    for (int r = 0; r < rounds; r++) {
#pragma unroll
        for (int i = 0; i < PEAK_CHAINS; i++) {
            if (f8) td_mma_f8(c[i], a, b);
            else td_mma_bf16(c[i], a, b);
        }
    }
    for (int i = 0; i < PEAK_CHAINS; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    if (sum < 0) *out = sum; /* never */
}

enum { MEASURE_RUNS = 5 };

static td_status time_best(td_cuda *cuda, void (*run)(td_cuda *, void *), void *arg, double *best_ms)
{
    *best_ms = 1e30;
    for (int i = 0; i <= MEASURE_RUNS; i++) { /* one more before, to warm up */
        double ms = 0;
        td_cuda_mark(cuda, 14);
        run(cuda, arg);
        td_cuda_mark(cuda, 15);
        TD_TRY(td_cuda_finish(cuda));
        TD_TRY(td_cuda_between(cuda, 14, 15, &ms));
        if (i > 0 && ms < *best_ms) *best_ms = ms;
    }
    return TD_OK;
}

typedef struct { unsigned char *data; size_t bytes; int rounds; } bench;

static void run_read(td_cuda *cuda, void *arg)
{
    bench *b = (bench *)arg;
    td_launch(cuda, read_kernel, dim3((unsigned)cuda->multiprocessors * 8), dim3(256), 0, (const uint4 *)b->data, (int64_t)(b->bytes / 16), (unsigned *)b->data);
}
static void run_copy(td_cuda *cuda, void *arg)
{
    bench *b = (bench *)arg;
    td_launch(cuda, copy_kernel, dim3((unsigned)cuda->multiprocessors * 8), dim3(256), 0, (const uint4 *)b->data, (uint4 *)(b->data + b->bytes / 2), (int64_t)(b->bytes / 32));
}
static void run_bf16(td_cuda *cuda, void *arg)
{
    bench *b = (bench *)arg;
    td_launch(cuda, peak_kernel<false>, dim3((unsigned)cuda->multiprocessors * 2), dim3(256), 0, b->rounds, (float *)b->data);
}
static void run_f8(td_cuda *cuda, void *arg)
{
    bench *b = (bench *)arg;
    td_launch(cuda, peak_kernel<true>, dim3((unsigned)cuda->multiprocessors * 2), dim3(256), 0, b->rounds, (float *)b->data);
}

static td_status measure(td_cuda *cuda, bench *b, td_cuda_limits *l)
{
    double ms, products = (double)cuda->multiprocessors * 2 * 8 * (int)PEAK_CHAINS * b->rounds; /* warp-wide ones */
    TD_TRY(time_best(cuda, run_read, b, &ms));
    l->read_gbs = (double)b->bytes / ms * 1e-6;
    TD_TRY(time_best(cuda, run_copy, b, &ms));
    l->copy_gbs = (double)b->bytes / ms * 1e-6; /* half is read, half is written */
    TD_TRY(time_best(cuda, run_bf16, b, &ms));
    l->bf16_tflops = products * 2 * 16 * 8 * 16 / ms * 1e-9;
    TD_TRY(time_best(cuda, run_f8, b, &ms));
    l->f8_tflops = products * 2 * 16 * 8 * 32 / ms * 1e-9;
    return TD_OK;
}

td_status td_cuda_measure(td_cuda *cuda, td_cuda_limits *out)
{
    bench b = {};
    td_cuda_limits limits = {};
    td_cuda_device device;
    TD_TRY(td_cuda_describe(cuda, &device));
    b.bytes = TD_MIN((size_t)2 << 30, device.free_bytes / 2) / 64 * 64, b.rounds = 4096;
    TD_TRY(td_cuda_new(cuda, b.bytes, (void **)&b.data));
    td_status status = measure(cuda, &b, &limits);
    td_cuda_delete(cuda, b.data);
    if (status == TD_OK) *out = limits;
    return status;
}

void td_cuda_doctor(bool json, td_buffer *out)
{
    td_cuda *cuda;
    td_cuda_device d;
    td_cuda_limits l;
    td_status status = td_cuda_open(&cuda);
    if (status == TD_OK) {
        status = td_cuda_describe(cuda, &d);
        if (status == TD_OK) status = td_cuda_measure(cuda, &l);
        td_cuda_close(cuda);
    }
    if (status < 0 && json) {
        td_buffer_text(out, "{\"device\":null,\"reason\":");
        td_buffer_json(out, td_error(), strlen(td_error()));
        td_buffer_text(out, "}");
    } else if (status < 0) {
        td_buffer_format(out, "GPU         %s\n", td_error());
    } else if (json) {
        td_buffer_text(out, "{\"device\":");
        td_buffer_json(out, d.name, strlen(d.name));
        td_buffer_format(out, ",\"multiprocessors\":%d,\"memory_gb\":%.3f,\"free_gb\":%.3f,\"read_gb_per_s\":%.1f,\"copy_gb_per_s\":%.1f,\"bf16_mma_tflops\":%.1f,\"f8_mma_tflops\":%.1f}", d.multiprocessors,
                         (double)d.memory_bytes * 1e-9, (double)d.free_bytes * 1e-9, l.read_gbs, l.copy_gbs, l.bf16_tflops, l.f8_tflops);
    } else {
        td_buffer_format(out, "GPU         %s, %d multiprocessors, %.1f GB, %.1f GB free\nGPU reached reads %.0f GB/s, copies %.0f GB/s, mma.sync BF16 %.0f and FP8 %.0f TFLOP/s\n", d.name, d.multiprocessors,
                         (double)d.memory_bytes * 1e-9, (double)d.free_bytes * 1e-9, l.read_gbs, l.copy_gbs, l.bf16_tflops, l.f8_tflops);
    }
}
