/* What httpd and APR offer as macros only, as functions that Rust can link. */
#include "httpd.h"

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 110)
#error "mod_finish_request needs the module interface of httpd 2.4.49 or later"
#endif

void fr_brigade_append(apr_bucket_brigade *bb, apr_bucket *e)
{
    APR_BRIGADE_INSERT_TAIL(bb, e);
}

void fr_bucket_insert_after(apr_bucket *place, apr_bucket *e)
{
    APR_BUCKET_INSERT_AFTER(place, e);
}

void fr_bucket_remove(apr_bucket *e)
{
    APR_BUCKET_REMOVE(e);
}

void fr_bucket_destroy(apr_bucket *e)
{
    apr_bucket_destroy(e);
}

void fr_brigade_init(apr_bucket_brigade *bb, apr_pool_t *p, apr_bucket_alloc_t *list)
{
    bb->p = p;
    bb->bucket_alloc = list;
    APR_RING_INIT(&bb->list, apr_bucket, link);
}

void fr_brigade_concat(apr_bucket_brigade *to, apr_bucket_brigade *from)
{
    APR_BRIGADE_CONCAT(to, from);
}

apr_status_t fr_bucket_read(apr_bucket *e, const char **data, apr_size_t *length, apr_read_type_e block)
{
    return apr_bucket_read(e, data, length, block);
}

apr_status_t fr_bucket_split(apr_bucket *e, apr_size_t point)
{
    return apr_bucket_split(e, point);
}

int fr_is_eagain(apr_status_t status)
{
    return APR_STATUS_IS_EAGAIN(status);
}

int fr_is_timeup(apr_status_t status)
{
    return APR_STATUS_IS_TIMEUP(status) || APR_STATUS_IS_ETIMEDOUT(status);
}
