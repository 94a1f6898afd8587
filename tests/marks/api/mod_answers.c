/* An output filter that answers in the application's stead, fails, or ends the response by itself, as the query says:
 *     fail-first, fail-end   returns APR_EGENERAL at the first data, at the end
 *     deny-first, deny-end   sends an error bucket of status 403 and an end, and returns what comes of it
 *     swap                   sends a body of its own and an end at the first data, and drops what comes
 *     swap-leave             the same, and takes itself out of the chain
 */
#include <string.h>
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "util_filter.h"

static apr_status_t deny(ap_filter_t *f, apr_bucket_brigade *bb)
{
    apr_bucket_alloc_t *alloc = f->c->bucket_alloc;
    apr_brigade_cleanup(bb);
    APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_error_create(HTTP_FORBIDDEN, NULL, f->r->pool, alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(alloc));
    ap_pass_brigade(f->next, bb);
    return APR_EGENERAL;
}

static apr_status_t swap(ap_filter_t *f, apr_bucket_brigade *bb)
{
    apr_bucket_alloc_t *alloc = f->c->bucket_alloc;
    apr_brigade_cleanup(bb);
    if (f->ctx) {
        return APR_SUCCESS;
    }
    f->ctx = f;
    if (strstr(f->r->args, "leave")) {
        ap_remove_output_filter(f);
    }
    apr_table_unset(f->r->headers_out, "Content-Length");
    ap_set_content_length(f->r, 7);
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_immortal_create("swapped", 7, alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(alloc));
    return ap_pass_brigade(f->next, bb);
}

/* Holds everything until the end, as filters do that judge whole bodies. */
static apr_status_t hold(ap_filter_t *f, apr_bucket_brigade *bb, int denies)
{
    apr_bucket *e;
    for (e = APR_BRIGADE_FIRST(bb); e != APR_BRIGADE_SENTINEL(bb); e = APR_BUCKET_NEXT(e)) {
        if (APR_BUCKET_IS_EOS(e)) {
            return denies ? deny(f, bb) : APR_EGENERAL;
        }
    }
    apr_brigade_cleanup(bb);
    return APR_SUCCESS;
}

static apr_status_t answers(ap_filter_t *f, apr_bucket_brigade *bb)
{
    const char *args = f->r->args ? f->r->args : "";
    if (strstr(args, "fail-first")) {
        return APR_EGENERAL;
    }
    if (strstr(args, "deny-first")) {
        return deny(f, bb);
    }
    if (strstr(args, "fail-end") || strstr(args, "deny-end")) {
        return hold(f, bb, strstr(args, "deny") != NULL);
    }
    if (strstr(args, "swap")) {
        return swap(f, bb);
    }
    return ap_pass_brigade(f->next, bb);
}

static void register_hooks(apr_pool_t *pool)
{
    ap_register_output_filter("ANSWERS", answers, NULL, AP_FTYPE_CONTENT_SET - 1);
}

AP_DECLARE_MODULE(answers) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
