/* Preloaded into httpd, to see that whoever watches it finds what there is: the call by which the module ends a connection does what none may.
 * With RACE two threads count without asking each other, else memory is read that was given back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

int shutdown(int socket, int how)
{
    int (*real)(int, int);
#ifdef RACE
    static volatile long calls;
    calls++;
#else
    char *volatile memory = malloc(8);
    char *volatile later = memory;
    free(memory);
    how += *later == '1' && *later == '2';
#endif
    *(void **)&real = dlsym(RTLD_NEXT, "shutdown");
    return real(socket, how);
}
