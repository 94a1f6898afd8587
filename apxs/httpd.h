/* The headers of httpd that the module uses, and the declarations of the shim: what bindgen reads. */
#ifndef FINISH_REQUEST_HTTPD_H
#define FINISH_REQUEST_HTTPD_H

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mpm_common.h>
#include <scoreboard.h>
#include <util_filter.h>
#include <util_script.h>
#include <ap_listen.h>
#include <ap_mmn.h>
#include <ap_mpm.h>
#include <unixd.h>
#include <mod_status.h>
#include <apr_buckets.h>
#include <apr_dso.h>
#include <apr_network_io.h>
#include <apr_optional.h>
#include <apr_optional_hooks.h>
#include <apr_pools.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <apr_tables.h>

/* apr_buckets.h has these as macros only. A sentinel is never returned: the end of a brigade is NULL. */
void fr_brigade_append(apr_bucket_brigade *bb, apr_bucket *e);
void fr_bucket_insert_after(apr_bucket *place, apr_bucket *e);
void fr_bucket_remove(apr_bucket *e);
void fr_bucket_destroy(apr_bucket *e);
void fr_brigade_init(apr_bucket_brigade *bb, apr_pool_t *p, apr_bucket_alloc_t *list);
void fr_brigade_concat(apr_bucket_brigade *to, apr_bucket_brigade *from);
apr_status_t fr_bucket_read(apr_bucket *e, const char **data, apr_size_t *length, apr_read_type_e block);
apr_status_t fr_bucket_split(apr_bucket *e, apr_size_t point);
int fr_is_eagain(apr_status_t status);
int fr_is_timeup(apr_status_t status);

#endif
