/* Preloaded into httpd beside gcc's ThreadSanitizer: what code that LLVM has instrumented calls by other names. */
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
