/* cuda_host.cpp - see cuda_host.h: fibers, warp-wide instructions, and a runtime whose device memory is malloc'ed. */
#include "cuda_host.h"

#include <cstdio>
#include <ctime>
#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" {
#include "tensor/dtype.h"
}

enum { THREADS_MAX = 1024, WARP = 32, STACK_BYTES = 256 << 10, BLOCK_BARRIER = 1, WARP_BARRIER = 2 };

dim3 threadIdx, blockIdx, blockDim, gridDim;
unsigned long long cuda_host_blocks, cuda_host_products;
static size_t cuda_host_allocated;

[[noreturn]] static void give_up(const char *why)
{
    fprintf(stderr, "cuda_host: %s (block %u,%u,%u thread %u of %u)\n", why, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, blockDim.x);
    abort();
}

/* ---- fibers -------------------------------------------------------------------------------------------------------------------------- */

struct copy { void *to; const void *from; int bytes; bool valid; };

struct fiber {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    char *stack;
    int waits;        /* 0: can run, else which barrier it has reached */
    bool done;
    const char *what; /* the collective it is in */
    std::vector<copy> copies;          /* not committed */
    std::vector<std::vector<copy>> groups;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
#endif
};

/* What the lanes of a warp bring to a collective, and take from it. */
struct exchange { uint32_t in[WARP][16], out[WARP][8]; int arrived; };

static fiber fibers[THREADS_MAX], *running;
static exchange warps[THREADS_MAX / WARP];
static int live, at_barrier;
static unsigned order, order_state;
static const std::function<void()> *body;
static unsigned char *shared;

#if defined(__x86_64__)
extern "C" void cuda_host_switch(void **save, void *to);
asm(R"(
.text
.globl cuda_host_switch
cuda_host_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
static void *scheduler_sp;
#else
static ucontext_t scheduler_context;
#endif
#if defined(__SANITIZE_ADDRESS__)
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
static void *scheduler_fake;
#endif

static void to_scheduler(bool for_ever)
{
    fiber *self = running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_ever ? NULL : &self->fake_stack, scheduler_stack, scheduler_stack_bytes);
#else
    (void)for_ever;
#endif
#if defined(__x86_64__)
    cuda_host_switch(&self->sp, scheduler_sp);
#else
    swapcontext(&self->context, &scheduler_context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

static void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_stack_bytes);
#endif
    (*body)();
    running->done = true;
    to_scheduler(true);
    give_up("a finished thread ran on");
}

static void to_fiber(fiber *f)
{
    running = f;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    cuda_host_switch(&scheduler_sp, f->sp);
#else
    swapcontext(&scheduler_context, &f->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
#endif
    running = NULL;
}

static void start_fiber(fiber *f)
{
    if (!f->stack) f->stack = (char *)mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED) give_up("no memory for stacks");
    f->waits = 0, f->done = false, f->what = "";
    f->copies.clear(), f->groups.clear();
#if defined(__x86_64__)
    void **top = (void **)(f->stack + STACK_BYTES - 64);
    *--top = NULL; /* as if called: the stack is 8 off a multiple of 16 at the entry */
    *--top = (void *)fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack, f->context.uc_stack.ss_size = STACK_BYTES, f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
#endif
}

/* ---- barriers and warps ---- */

static int lane() { return (int)(threadIdx.x % WARP); }

static void wait_for(int barrier, const char *what)
{
    fiber *self = running;
    dim3 mine = threadIdx;
    self->waits = barrier;
    self->what = what;
    to_scheduler(false);
    threadIdx = mine;
}

void __syncthreads()
{
    if (++at_barrier == live) {
        at_barrier = 0;
        for (int i = 0; i < (int)blockDim.x; i++)
            if (fibers[i].waits == BLOCK_BARRIER) fibers[i].waits = 0;
        return;
    }
    wait_for(BLOCK_BARRIER, "__syncthreads");
}

/* Every lane puts `words` words in; the last one to come computes for all. */
static const uint32_t *collective(const char *what, const uint32_t *in, int words, void (*compute)(exchange *, int), int argument)
{
    int warp = (int)(threadIdx.x / WARP), first = warp * WARP;
    exchange *e = &warps[warp];
    if (words) memcpy(e->in[lane()], in, (size_t)words * 4);
    if (++e->arrived < WARP) {
        wait_for(WARP_BARRIER, what);
        return e->out[lane()];
    }
    for (int i = first; i < first + WARP; i++)
        if (&fibers[i] != running && (fibers[i].waits != WARP_BARRIER || strcmp(fibers[i].what, what) != 0)) give_up("lanes of a warp met in different instructions");
    if (compute) compute(e, argument);
    e->arrived = 0;
    for (int i = first; i < first + WARP; i++) fibers[i].waits = 0;
    return e->out[lane()];
}

void __syncwarp() { collective("__syncwarp", NULL, 0, NULL, 0); }

static void do_shuffle(exchange *e, int)
{
    for (int i = 0; i < WARP; i++) e->out[i][0] = e->in[e->in[i][1] & (WARP - 1)][0];
}

static uint32_t shuffle(uint32_t value, int from)
{
    uint32_t in[2] = {value, (uint32_t)from};
    return collective("shfl", in, 2, do_shuffle, 0)[0];
}

int __shfl_xor_sync(unsigned mask, int value, int lane_mask)
{
    if (mask != 0xFFFFFFFFu) give_up("a shuffle of part of a warp");
    return (int)shuffle((uint32_t)value, lane() ^ lane_mask);
}
float __shfl_xor_sync(unsigned mask, float value, int lane_mask) { return __int_as_float(__shfl_xor_sync(mask, __float_as_int(value), lane_mask)); }
float __shfl_sync(unsigned, float value, int from) { return __int_as_float((int)shuffle((uint32_t)__float_as_int(value), from)); }
int __shfl_up_sync(unsigned, int value, unsigned delta)
{
    int from = lane() - (int)delta, got = (int)shuffle((uint32_t)value, from < 0 ? lane() : from);
    return from < 0 ? value : got;
}

unsigned char *cuda_host_shared() { return shared; }

static double element(const uint32_t *registers, int index, cuda_host_element type)
{
    const unsigned char *bytes = (const unsigned char *)registers;
    uint16_t half;
    if (type == CUDA_HOST_E4M3) return td_f8e4m3_to_f32(bytes[index]);
    memcpy(&half, bytes + 2 * index, 2);
    return type == CUDA_HOST_BF16 ? td_bf16_to_f32(half) : td_f16_to_f32(half);
}

/* Lane 4g + t: registers a0 (row g), a1 (row g+8), a2 and a3 (the same rows, second half of k); b0 and b1 (column g); c0, c1 (row g, columns 2t, 2t+1), c2, c3 (row g+8).
 * A register holds 2 or 4 consecutive k from t * that many. */
static void do_mma(exchange *e, int argument)
{
    cuda_host_element type = (cuda_host_element)argument;
    int per = type == CUDA_HOST_E4M3 ? 4 : 2, k_half = 4 * per;
    double a[16][32], b[32][8];
    for (int i = 0; i < WARP; i++)
        for (int j = 0; j < per; j++) {
            int g = i / 4, k = i % 4 * per + j;
            a[g][k] = element(e->in[i], j, type), a[g + 8][k] = element(e->in[i] + 1, j, type);
            a[g][k + k_half] = element(e->in[i] + 2, j, type), a[g + 8][k + k_half] = element(e->in[i] + 3, j, type);
            b[k][g] = element(e->in[i] + 4, j, type), b[k + k_half][g] = element(e->in[i] + 5, j, type);
        }
    for (int i = 0; i < WARP; i++)
        for (int j = 0; j < 4; j++) {
            int row = i / 4 + j / 2 * 8, column = i % 4 * 2 + j % 2;
            float c;
            memcpy(&c, &e->in[i][6 + j], 4);
            double sum = c;
            for (int k = 0; k < 2 * k_half; k++) sum += a[row][k] * b[k][column];
            c = (float)sum;
            memcpy(&e->out[i][j], &c, 4);
        }
    cuda_host_products++;
}

void cuda_host_mma(float *c, const uint32_t *a, const uint32_t *b, cuda_host_element type)
{
    static const char *const names[] = {"mma bf16", "mma f16", "mma e4m3"};
    uint32_t in[10];
    memcpy(in, a, 16), memcpy(in + 4, b, 8), memcpy(in + 6, c, 16);
    memcpy(c, collective(names[type], in, 10, do_mma, type), 16);
}

/* Lane i holds the address of row i%8 of matrix i/8; it gets, of every matrix, elements 2(i%4) and 2(i%4)+1 of row i/4 (transposed: of column i/4). */
static void do_ldmatrix(exchange *e, int argument)
{
    int matrices = argument & 7;
    bool transposed = argument & 8;
    uint16_t m[8][8];
    for (int j = 0; j < matrices; j++) {
        for (int r = 0; r < 8; r++) {
            const void *row;
            memcpy(&row, e->in[j * 8 + r], sizeof row);
            memcpy(m[r], row, 16);
        }
        for (int i = 0; i < WARP; i++) {
            int a = i / 4, b = i % 4 * 2;
            e->out[i][j] = transposed ? (uint32_t)m[b][a] | (uint32_t)m[b + 1][a] << 16 : (uint32_t)m[a][b] | (uint32_t)m[a][b + 1] << 16;
        }
    }
}

void cuda_host_ldmatrix(uint32_t *out, const void *row, int matrices, bool transposed)
{
    if ((uintptr_t)row % 16) give_up("ldmatrix: a row's address is not a multiple of 16");
    uint32_t in[2];
    memcpy(in, &row, sizeof row);
    memcpy(out, collective(transposed ? "ldmatrix.trans" : "ldmatrix", in, 2, do_ldmatrix, matrices | (transposed ? 8 : 0)), (size_t)matrices * 4);
}

void cuda_host_cp_async(void *to, const void *from, int bytes, bool valid)
{
    if ((uintptr_t)to % (unsigned)bytes || (valid && (uintptr_t)from % (unsigned)bytes)) give_up("cp.async: an address is not a multiple of the size");
    memset(to, 0xFF, (size_t)bytes); /* until the wait: poison */
    running->copies.push_back({to, from, bytes, valid});
}
void cuda_host_cp_commit()
{
    running->groups.push_back(running->copies);
    running->copies.clear();
}
void cuda_host_cp_wait(int groups_left)
{
    std::vector<std::vector<copy>> &groups = running->groups;
    while ((int)groups.size() > groups_left) {
        for (const copy &c : groups.front()) {
            if (c.valid) memcpy(c.to, c.from, (size_t)c.bytes);
            else memset(c.to, 0, (size_t)c.bytes);
        }
        groups.erase(groups.begin());
    }
}

/* ---- a launch ------------------------------------------------------------------------------------------------------------------------ */

void cuda_host_order(unsigned order_) { order = order_, order_state = order_ * 2654435761u + 1; }

/* The k-th fiber of a round. */
static int choose(int k, int n, unsigned turn)
{
    if (order == 0) return k;
    if (order == 1) return n - 1 - k;
    unsigned warps_count = (unsigned)(n + WARP - 1) / WARP, warp = ((unsigned)k / WARP + turn) % warps_count;
    return (int)(warp * WARP + ((unsigned)k % WARP ^ (turn >> 8 & (WARP - 1))));
}

static void run_block(int threads)
{
    for (int i = 0; i < threads; i++) start_fiber(&fibers[i]);
    for (int i = 0; i < threads / WARP; i++) warps[i].arrived = 0;
    live = threads, at_barrier = 0;
    while (live > 0) {
        int ran = 0;
        unsigned turn = order_state = order_state * 1664525u + 1013904223u;
        for (int k = 0; k < threads; k++) {
            int i = choose(k, threads, turn >> 8);
            fiber *f = &fibers[i];
            if (f->done || f->waits) continue;
            threadIdx = dim3((unsigned)i);
            to_fiber(f);
            ran++;
            if (!f->done) continue;
            live--;
            if (live > 0 && at_barrier == live) give_up("some threads ended while others wait at __syncthreads");
            for (const std::vector<copy> &g : f->groups)
                if (!g.empty()) give_up("a thread ended with copies that it never waited for");
        }
        if (ran == 0) give_up("deadlock: threads wait for others that have ended or wait elsewhere");
    }
    cuda_host_blocks++;
}

static void run_now(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &work)
{
    if (block.x == 0 || block.x > THREADS_MAX || block.x % WARP || block.y != 1 || block.z != 1) give_up("a block of a size that this emulation does not do");
    if (shared_bytes > 227 * 1024) give_up("more shared memory than an SM gives to a block");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) give_up("a grid with a size of 0, or y or z above 65535");
    gridDim = grid, blockDim = block, body = &work;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                void *memory = NULL;
                if (posix_memalign(&memory, 128, shared_bytes + (shared_bytes == 0))) give_up("no memory");
                memset(memory, 0xFF, shared_bytes);
                shared = (unsigned char *)memory;
                run_block((int)block.x);
                free(memory);
            }
}

static void enqueue(cudaStream_t stream, const std::function<void()> &work)
{
    if (stream && stream->capturing) stream->list.push_back(work);
    else work();
}

void cuda_host_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> work)
{
    enqueue(stream, [=] { run_now(grid, block, shared_bytes, work); });
}

/* ---- the runtime --------------------------------------------------------------------------------------------------------------------- */

size_t cuda_host_memory(void) { return cuda_host_allocated; }

static int devices = 1;
void cuda_host_devices(int count) { devices = count; }

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices;
    return devices ? cudaSuccess : cudaErrorInsufficientDriver;
}
cudaError_t cudaSetDevice(int device) { return device < devices ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int)
{
    *out = cudaDeviceProp();
    snprintf(out->name, sizeof out->name, "emulation on the CPU");
    out->major = 9, out->multiProcessorCount = 132, out->totalGlobalMem = (size_t)1 << 32, out->sharedMemPerBlockOptin = 227 * 1024;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = (size_t)1 << 32, *free_bytes = *total - cuda_host_allocated;
    return cudaSuccess;
}
/* 16 bytes in front hold the size; contents are poison (a NaN in every format). */
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    unsigned char *data = NULL;
    if (posix_memalign((void **)&data, 256, bytes + 256)) return cudaErrorMemoryAllocation;
    memcpy(data, &bytes, sizeof bytes);
    memset(data + 256, 0xFF, bytes);
    cuda_host_allocated += bytes;
    *out = data + 256;
    return cudaSuccess;
}
cudaError_t cudaFree(void *data)
{
    size_t bytes;
    if (!data) return cudaSuccess;
    memcpy(&bytes, (char *)data - 256, sizeof bytes);
    cuda_host_allocated -= bytes;
    free((char *)data - 256);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) { return (*out = malloc(bytes + 1)) ? cudaSuccess : cudaErrorMemoryAllocation; }
cudaError_t cudaFreeHost(void *data) { free(data); return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream)
{
    enqueue(stream, [=] { memcpy(to, from, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    enqueue(stream, [=] { memset(to, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) { *out = new cuda_host_stream(); return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { delete stream; return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return stream && stream->capturing ? cudaErrorInvalidValue : cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) { stream->capturing = true, stream->list.clear(); return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    *out = new cuda_host_graph{stream->list};
    stream->capturing = false, stream->list.clear();
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) { *out = new cuda_host_graph{graph->list}; return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    for (const std::function<void()> &work : graph->list) enqueue(stream, work);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *out) { *out = new cuda_host_event(); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { delete event; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->ms = (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) { *ms = (float)(to->ms - from->ms); return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorInsufficientDriver ? "CUDA driver version is insufficient for CUDA runtime version" : error == cudaErrorMemoryAllocation ? "out of memory" : "error of the emulation";
}
