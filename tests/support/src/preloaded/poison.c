/* Preloaded into httpd: whatever is given back, or was never written, is overwritten, so that nobody reads it unnoticed.
 *
 * Buckets: before they wait in their allocator for the next use. Pools: what is cleared, as far as it stays with the pool. The rest
 * goes to free(3), with MaxMemFree 1, and glibc overwrites that. Addresses of accepted sockets: what the kernel has not written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define POISON 0xa5
/* As many bytes as fit into what a pool keeps (8192 with the pool's own record), and halves of that for the rest. */
#define LARGEST 4096
#define LEAST 64

/* What stands before a bucket's memory (apr_buckets_alloc.c). */
struct node {
    size_t size;
    void *allocator;
    void *block;
    struct node *next;
};

__attribute__((constructor)) static void overwrite_what_is_freed(void)
{
    mallopt(M_PERTURB, POISON);
}

void apr_bucket_free(void *memory)
{
    static void (*real)(void *);
    struct node *node = (struct node *)((char *)memory - ((sizeof(struct node) + 7) & ~(size_t)7));

    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "apr_bucket_free");
    }
    memset(memory, POISON, node->size - ((sizeof(struct node) + 7) & ~(size_t)7));
    real(memory);
}

void apr_pool_clear(void *pool)
{
    static void (*clear)(void *);
    static void *(*take)(void *, size_t);
    size_t size;

    if (!take) {
        *(void **)&clear = dlsym(RTLD_NEXT, "apr_pool_clear");
        *(void **)&take = dlsym(RTLD_NEXT, "apr_palloc");
    }
    clear(pool);
    /* The first block is used up before a second one is taken. */
    for (size = LARGEST; size >= LEAST; size /= 2) {
        void *memory = take(pool, size);
        if (memory) {
            memset(memory, POISON, size);
        }
    }
    clear(pool);
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    socklen_t room = address ? *length : 0;
    int accepted;

    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    }
    accepted = real(listener, address, length, flags);
    if (accepted >= 0 && address && *length < room) {
        memset((char *)address + *length, POISON, room - *length);
    }
    return accepted;
}

int accept(int listener, struct sockaddr *address, socklen_t *length)
{
    return accept4(listener, address, length, 0);
}
