/* kernel.c - which table this machine can run, chosen by cpuid (and by whether the system saves the wide registers, which __builtin_cpu_supports checks). */
#include "kernel/kernel.h"

#include <string.h>

#include "kernel/tables.h"

#if defined(__x86_64__) && !defined(TD_PLAIN_ONLY)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* clang 14's __builtin_cpu_supports does not know f16c: bit 29 of leaf 1's ecx. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

/* AMX: leaf 7's edx has tiles in bit 24 and int8 in 25; the kernel must let this process have the tiles' state (8 KiB a thread), asked for once. */
static bool has_amx(void)
{
    enum { ASK_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return false;
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

/* From the plainest to the best. */
int td_kernel_all(const td_kernel *out[TD_KERNELS_MAX])
{
    int n = 0;
    out[n++] = &td_kernel_ref;
#if defined(__x86_64__) && !defined(TD_PLAIN_ONLY)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2) out[n++] = &td_kernel_avx2;
    if (avx512) out[n++] = &td_kernel_avx512;
    bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (vnni) out[n++] = &td_kernel_vnni;
    if (vnni && has_amx()) out[n++] = &td_kernel_amx;
#endif
    return n;
}

td_status td_kernel_pick(const char *at_most, const td_kernel **out)
{
    static const char *const names[] = {"ref", "avx2", "avx512", "amx"};
    int most = (int)TD_COUNT(names) - 1;
    if (at_most) {
        for (most = (int)TD_COUNT(names) - 1; most >= 0 && strcmp(at_most, names[most]) != 0; most--) {}
        if (most < 0) return td_fail(TD_E_INVALID, "kernel \"%.40s\": expected one of ref, avx2, avx512, amx", at_most);
    }
    const td_kernel *all[TD_KERNELS_MAX];
    int n = td_kernel_all(all);
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= most; j++)
            if (strcmp(all[i]->name, names[j]) == 0) *out = all[i];
    return TD_OK;
}

void td_act_quantise(const td_kernel *kernel, td_act_kind kind, const float *x, int64_t k, void *out)
{
    if (kind == TD_ACT_Q8) kernel->quantise_q8(x, out, k);
    if (kind == TD_ACT_Q8K) kernel->quantise_q8k(x, out, k);
}
