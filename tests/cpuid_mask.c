/* Hides instruction sets from every library of a process, so that each picks its kernels as it
 * would on an older processor: ONNX Runtime's MLAS has no setting for that.
 *
 * Preloaded, with CPUID_MASK=avx | avx2 | avx512. It makes CPUID fault (arch_prctl ARCH_SET_CPUID,
 * Linux on Intel since Ivy Bridge and on AMD since Zen 5) and answers it with some bits cleared.
 * Exits with status 77 where the processor cannot do that.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

enum level { AVX, AVX2, AVX512_WITHOUT_VNNI };
static enum level level;

static long let_cpuid_run(unsigned long is_allowed) {
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, is_allowed);
}

/* Leaf 7 lists the extensions: AVX2 and AVX-512 in EBX, VNNI in ECX, AMX in EDX. */
static void hide_extensions(uint32_t *ebx, uint32_t *ecx, uint32_t *edx) {
    *ecx &= ~BIT(11);                                        /* AVX512_VNNI */
    *edx &= ~(BIT(22) | BIT(23) | BIT(24) | BIT(25));        /* AMX, AVX512_FP16 */
    if (level == AVX512_WITHOUT_VNNI) return;
    *ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
    *ecx &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));          /* the other AVX-512 */
    *edx &= ~(BIT(2) | BIT(3) | BIT(8));
    if (level == AVX) *ebx &= ~BIT(5);                       /* AVX2 */
}

static void answer_cpuid(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {  /* a real fault */
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
    uint32_t eax = leaf, ebx = 0, ecx = part, edx = 0;
    let_cpuid_run(1);
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    let_cpuid_run(0);
    if (leaf == 1 && level == AVX) ecx &= ~BIT(12);          /* FMA */
    if (leaf == 7 && part == 0) hide_extensions(&ebx, &ecx, &edx);
    if (leaf == 7 && part == 1) eax = 0;                     /* AVX_VNNI, AVX512_BF16, ... */
    if (leaf == 13 && part == 0 && level != AVX512_WITHOUT_VNNI) eax &= 7; /* state of AVX-512 */
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
    const char *name = getenv("CPUID_MASK");
    if (name == NULL) return;
    level = strcmp(name, "avx") == 0 ? AVX : strcmp(name, "avx2") == 0 ? AVX2 : AVX512_WITHOUT_VNNI;
    struct sigaction action = {0};
    action.sa_sigaction = answer_cpuid;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    if (let_cpuid_run(0) != 0) _exit(77);
}
