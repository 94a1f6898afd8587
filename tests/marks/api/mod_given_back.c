/* A module with a defect: it looks at memory that it has given back, and says what is there. */
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "apr_buckets.h"

#include <unistd.h>

/* By the kernel, as what is not mapped any more crashes nobody then. */
static void tell(request_rec *r, const char *name, const char *memory)
{
    unsigned char byte;
    int ends[2] = {-1, -1};

    if (pipe(ends) == 0 && write(ends[1], memory, 1) == 1 && read(ends[0], &byte, 1) == 1) {
        ap_rprintf(r, "%s %02x\n", name, byte);
    }
    else {
        ap_rprintf(r, "%s is not there\n", name);
    }
    close(ends[0]);
    close(ends[1]);
}

static int handler(request_rec *r)
{
    char *memory;
    apr_pool_t *pool;

    if (!r->handler || strcmp(r->handler, "given-back")) {
        return DECLINED;
    }
    apr_pool_create(&pool, r->pool);
    memory = memset(apr_palloc(pool, 1000), 'x', 1000);
    apr_pool_clear(pool);
    tell(r, "cleared", memory + 500);
    memory = memset(apr_palloc(pool, 1000), 'x', 1000);
    apr_pool_destroy(pool);
    tell(r, "destroyed", memory + 500);
    memory = memset(apr_bucket_alloc(64, r->connection->bucket_alloc), 'x', 64);
    apr_bucket_free(memory);
    tell(r, "bucket", memory + 40);
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(given_back) = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks};
