/* Preloaded into httpd beside gcc's ThreadSanitizer: what code that LLVM has instrumented calls by other names, and what it should know of
 * libapr, which is not instrumented.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t length)
{
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    return copy(to, from, length);
}

void *__tsan_memmove(void *to, const void *from, size_t length)
{
    void *(*volatile move)(void *, const void *, size_t) = memmove;
    return move(to, from, length);
}

void *__tsan_memset(void *to, int byte, size_t length)
{
    void *(*volatile set)(void *, int, size_t) = memset;
    return set(to, byte, length);
}

/* APR's atomics order what is done before and behind them: httpd's threads give each other the pools of ended connections by them alone
 * (ap_queue_info_push_pool, mpm_fdqueue.c), and with those the memory that the module has used.
 */
extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);

#define ATOMIC(type, name, parameters, arguments) \
    type name parameters \
    { \
        static type(*real) parameters; \
        type result; \
        if (!__atomic_load_n(&real, __ATOMIC_RELAXED)) { \
            __atomic_store_n(&real, (type(*) parameters)dlsym(RTLD_NEXT, #name), __ATOMIC_RELAXED); \
        } \
        __tsan_release((void *)(uintptr_t)address); \
        result = real arguments; \
        __tsan_acquire((void *)(uintptr_t)address); \
        return result; \
    }

ATOMIC(uint32_t, apr_atomic_read32, (volatile uint32_t *address), (address))
ATOMIC(uint32_t, apr_atomic_add32, (volatile uint32_t *address, uint32_t value), (address, value))
ATOMIC(uint32_t, apr_atomic_inc32, (volatile uint32_t *address), (address))
ATOMIC(int, apr_atomic_dec32, (volatile uint32_t *address), (address))
ATOMIC(uint32_t, apr_atomic_cas32, (volatile uint32_t *address, uint32_t with, uint32_t from), (address, with, from))
ATOMIC(void *, apr_atomic_casptr, (volatile void **address, void *with, const void *from), (address, with, from))
ATOMIC(void *, apr_atomic_xchgptr, (volatile void **address, void *with), (address, with))
