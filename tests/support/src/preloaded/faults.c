/* Preloaded into httpd: has one call of mod_finish_request fail, of those below: the one and the occurrence that a file says, which the
 * test maps too. Counts them all.
 *
 * The module's calls alone: their addresses are taken from the module's own table of imports, as soon as it is loaded, and replaced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* The call is not made; or it is made, and an error told all the same; or it is made for one byte (`sendmsg`). */
enum how { INSTEAD, BEHIND, SHORT };

/* httpd's and APR's own errors. */
#define AP_FILTER_ERROR (-3)
#define APR_EGENERAL 20014
#define APR_EOF 70014
#define APR_ENOTIMPL 70023

/* How each call can fail: what it returns, what errno is then. One a line: the test reads them, and counts as here. */
static const struct fault {
    const char *name;
    long result;
    int error;
    enum how how;
} faults[] = {
    { "bind", -1, ENOMEM, INSTEAD },
    { "chmod", -1, EPERM, INSTEAD },
    { "connect", -1, EAGAIN, INSTEAD },
    { "connect", -1, ECONNREFUSED, INSTEAD },
    { "connect", -1, EMFILE, INSTEAD },
    { "dup3", -1, EBUSY, INSTEAD },
    { "epoll_create1", -1, EMFILE, INSTEAD },
    { "epoll_ctl", -1, ENOMEM, INSTEAD },
    { "epoll_ctl", -1, ENOSPC, INSTEAD },
    { "epoll_wait", -1, EINTR, INSTEAD },
    { "eventfd", -1, EMFILE, INSTEAD },
    { "fcntl", -1, EMFILE, INSTEAD },
    { "getrandom", -1, ENOSYS, INSTEAD },
    { "getsockname", -1, ENOBUFS, INSTEAD },
    { "getsockopt", -1, ENOBUFS, INSTEAD },
    { "ioctl", -1, ENOMEM, INSTEAD },
    { "listen", -1, EADDRINUSE, INSTEAD },
    { "mkdtemp", 0, EACCES, INSTEAD },
    { "mmap", -1, ENOMEM, INSTEAD },
    { "mmap64", -1, ENOMEM, INSTEAD },
    { "mprotect", -1, ENOMEM, INSTEAD },
    { "nanosleep", -1, EINTR, INSTEAD },
    { "open64", -1, EMFILE, INSTEAD },
    { "poll", -1, EINTR, INSTEAD },
    { "poll", -1, ENOMEM, INSTEAD },
    { "pthread_create", EAGAIN, 0, INSTEAD },
    { "read", -1, EINTR, INSTEAD },
    { "read", -1, EIO, INSTEAD },
    { "recv", -1, ECONNRESET, INSTEAD },
    { "recv", -1, EINTR, INSTEAD },
    { "recvmsg", -1, EINTR, INSTEAD },
    { "recvmsg", -1, ENOMEM, INSTEAD },
    { "rmdir", -1, EBUSY, INSTEAD },
    { "sendmsg", -1, EAGAIN, INSTEAD },
    { "sendmsg", -1, ECONNRESET, INSTEAD },
    { "sendmsg", -1, EINTR, INSTEAD },
    { "sendmsg", -1, ENOBUFS, INSTEAD },
    { "sendmsg", 0, 0, SHORT },
    { "sendmsg", -1, ETOOMANYREFS, INSTEAD },
    { "shutdown", -1, ENOTCONN, INSTEAD },
    { "socket", -1, EMFILE, INSTEAD },
    { "socketpair", -1, EMFILE, INSTEAD },
    { "socketpair", -1, ENOMEM, INSTEAD },
    { "statx", -1, EACCES, INSTEAD },
    { "unlink", -1, EBUSY, INSTEAD },
    { "waitid", -1, ECHILD, INSTEAD },
    { "waitid", -1, EINTR, INSTEAD },
    { "write", -1, EINTR, INSTEAD },
    { "ap_get_brigade", APR_EGENERAL, 0, INSTEAD },
    { "ap_get_brigade", APR_EOF, 0, INSTEAD },
    { "ap_get_brigade", EAGAIN, 0, INSTEAD },
    { "ap_get_brigade", ECONNRESET, 0, INSTEAD },
    { "ap_get_conn_socket", 0, 0, INSTEAD },
    { "ap_get_protocol_upgrades", APR_EGENERAL, 0, INSTEAD },
    { "ap_mpm_query", APR_ENOTIMPL, 0, INSTEAD },
    { "ap_pass_brigade", AP_FILTER_ERROR, 0, BEHIND },
    { "ap_pass_brigade", AP_FILTER_ERROR, 0, INSTEAD },
    { "ap_pass_brigade", APR_EGENERAL, 0, BEHIND },
    { "ap_pass_brigade", APR_EGENERAL, 0, INSTEAD },
    { "ap_run_log_transaction", 500, 0, BEHIND },
    { "ap_rwrite", -1, 0, INSTEAD },
    { "ap_shutdown_conn", ECONNABORTED, 0, BEHIND },
    { "ap_shutdown_conn", ECONNABORTED, 0, INSTEAD },
    { "apr_brigade_length", APR_EGENERAL, 0, INSTEAD },
    { "apr_dso_sym", APR_EGENERAL, 0, INSTEAD },
    { "apr_os_sock_get", APR_EGENERAL, 0, INSTEAD },
    { "apr_os_sock_make", ENOMEM, 0, INSTEAD },
    { "apr_os_sock_put", ENOMEM, 0, INSTEAD },
    { "apr_sockaddr_info_get", APR_EGENERAL, 0, INSTEAD },
    { "apr_socket_addr_get", ENOBUFS, 0, INSTEAD },
    { "apr_socket_data_get", APR_EGENERAL, 0, INSTEAD },
    { "apr_socket_data_set", ENOMEM, 0, INSTEAD },
    { "apr_socket_timeout_get", EBADF, 0, INSTEAD },
    { "apr_socket_timeout_set", EBADF, 0, INSTEAD },
};

#define COUNT (sizeof(faults) / sizeof(faults[0]))
#define MOST 100

/* What the test maps too. */
static struct {
    /* The fault, counted from 1; 0 is none. */
    uint32_t fault;
    /* The occurrence, counted from 1. */
    uint32_t occurrence;
    /* How often it has failed. */
    uint32_t failed;
    uint32_t counts[MOST];
} *control;

typedef long call(long, long, long, long, long, long);

/* What each fault stands before: the next one of the same call, or the call. */
static call *real[MOST];

static long make(unsigned fault, long a, long b, long c, long d, long e, long f)
{
    const struct fault *how = &faults[fault];
    uint32_t count = __atomic_add_fetch(&control->counts[fault], 1, __ATOMIC_SEQ_CST);
    int fails = __atomic_load_n(&control->fault, __ATOMIC_SEQ_CST) == fault + 1
        && __atomic_load_n(&control->occurrence, __ATOMIC_SEQ_CST) == count;
    long result;

    if (!fails) {
        return real[fault](a, b, c, d, e, f);
    }
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    if (how->how == SHORT) {
        struct msghdr message = *(const struct msghdr *)b;
        struct iovec byte = { message.msg_iov[0].iov_base, 1 };
        message.msg_iov = &byte;
        message.msg_iovlen = 1;
        /* A descriptor goes with a message that is sent whole or not at all. */
        return real[fault](a, message.msg_controllen ? b : (long)&message, c, d, e, f);
    }
    if (how->how == BEHIND) {
        result = real[fault](a, b, c, d, e, f);
        (void)result;
    }
    if (how->error) {
        errno = how->error;
    }
    return how->result;
}

#define ONE(n) \
    static long make_##n(long a, long b, long c, long d, long e, long f) { return make(n, a, b, c, d, e, f); }
#define TEN(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7) ONE(n##8) ONE(n##9)
TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9)
#undef ONE
#define ONE(n) make_##n,
static call *const makes[MOST] = { TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) };

_Static_assert(COUNT <= MOST, "there are as many functions as faults");

static void replace(const char *name, void **place)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *start = (char *)((uintptr_t)place & ~(uintptr_t)(page - 1));
    size_t fault;

    for (fault = 0; fault < COUNT; fault++) {
        if (strcmp(name, faults[fault].name) == 0) {
            /* It is read-only by now. */
            if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0) {
                abort();
            }
            *(void **)&real[fault] = *place;
            *place = *(void *const *)&makes[fault];
        }
    }
}

static void replace_imports(const struct link_map *map)
{
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    const ElfW(Rela) *tables[2] = { NULL, NULL };
    size_t sizes[2] = { 0, 0 }, table, index;
    const ElfW(Dyn) *entry;

    for (entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols = (const void *)entry->d_un.d_ptr; break;
        case DT_STRTAB: names = (const void *)entry->d_un.d_ptr; break;
        case DT_RELA: tables[0] = (const void *)entry->d_un.d_ptr; break;
        case DT_RELASZ: sizes[0] = entry->d_un.d_val; break;
        case DT_JMPREL: tables[1] = (const void *)entry->d_un.d_ptr; break;
        case DT_PLTRELSZ: sizes[1] = entry->d_un.d_val; break;
        }
    }
    for (table = 0; table < 2; table++) {
        for (index = 0; index < sizes[table] / sizeof(ElfW(Rela)); index++) {
            const ElfW(Rela) *relocation = &tables[table][index];
            size_t symbol = ELF64_R_SYM(relocation->r_info);
            if (symbol != 0 && symbols[symbol].st_shndx == SHN_UNDEF) {
                replace(names + symbols[symbol].st_name, (void **)(map->l_addr + relocation->r_offset));
            }
        }
    }
}

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("FAULTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, file, 0);
    if (control == MAP_FAILED) {
        abort();
    }
    if (file >= 0) {
        close(file);
    }
}

void *dlopen(const char *file, int flags)
{
    static void *(*load)(const char *, int);
    static int done;
    struct link_map *map;
    void *module;

    if (!load) {
        *(void **)&load = dlsym(RTLD_NEXT, "dlopen");
    }
    module = load(file, flags);
    /* httpd loads a module more than once; this one is never unmapped. */
    if (module && file && strstr(file, "mod_finish_request") && !done && dlinfo(module, RTLD_DI_LINKMAP, &map) == 0) {
        done = 1;
        replace_imports(map);
    }
    return module;
}
