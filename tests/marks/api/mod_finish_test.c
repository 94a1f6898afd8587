/* A module as others would write it: its handler finishes the response with ap_finish_request() and works on. */
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "http_request.h"
#include "apr_buckets.h"
#include "apr_optional.h"
#include "apr_portable.h"
#include "apr_strings.h"
#include "mod_finish_request.h"

#include <stdio.h>

module AP_MODULE_DECLARE_DATA finish_test_module;

static APR_OPTIONAL_FN_TYPE(ap_finish_request) *finish_request;

static void retrieve(void)
{
    finish_request = APR_RETRIEVE_OPTIONAL_FN(ap_finish_request);
}

/* The value of a query parameter; empty if it is not there. */
static const char *query(request_rec *r, const char *name)
{
    char *args = apr_pstrdup(r->pool, r->args ? r->args : ""), *state, *pair;

    for (pair = apr_strtok(args, "&", &state); pair; pair = apr_strtok(NULL, "&", &state)) {
        char *value = strchr(pair, '=');

        if (value) {
            *value++ = '\0';
            if (!strcmp(pair, name)) {
                return value;
            }
        }
    }
    return "";
}

static const char *work_file(request_rec *r, const char *extension)
{
    return apr_pstrcat(r->pool, apr_table_get(r->subprocess_env, "GATES"), "/", query(r, "id"), ".", extension, NULL);
}

static void write_file(request_rec *r, const char *extension, const char *text)
{
    const char *last = work_file(r, extension), *first = apr_pstrcat(r->pool, last, ".new", NULL);
    apr_file_t *file;

    if (apr_file_open(&file, first, APR_WRITE | APR_CREATE | APR_TRUNCATE, APR_OS_DEFAULT, r->pool) == APR_SUCCESS) {
        apr_file_puts(text, file);
        apr_file_close(file);
        apr_file_rename(first, last, r->pool);
    }
}

/* Waits for the gate, and says how the finishing went. */
static void background(request_rec *r, const char *errors, int writes)
{
    apr_time_t began = apr_time_now(), limit = began + apr_time_from_sec(75);
    apr_finfo_t info;

    write_file(r, "began", "");
    while (apr_stat(&info, work_file(r, "gate"), APR_FINFO_MIN, r->pool) != APR_SUCCESS) {
        if (apr_time_now() > limit) {
            errors = apr_pstrcat(r->pool, errors, " the gate stayed shut;", NULL);
            break;
        }
        apr_sleep(5000);
    }
    if (writes && (ap_rputs("written after the end", r) < 0 || ap_rflush(r) < 0)) {
        errors = apr_pstrcat(r->pool, errors, " could not write after the end;", NULL);
    }
    write_file(r, "done",
               apr_psprintf(r->pool, "began=%" APR_TIME_T_FMT "\ngate=%" APR_TIME_T_FMT "\nended=%" APR_TIME_T_FMT
                                     "\nerrors=%s\n", began, apr_time_now(), apr_time_now(), errors));
}

static const char *expect(request_rec *r, const char *errors, const char *what, apr_status_t status, apr_status_t wanted)
{
    return status == wanted ? errors : apr_psprintf(r->pool, "%s %s gave %d;", errors, what, status);
}

static int handler(request_rec *r)
{
    const char *errors = "", *how = query(r, "how");
    apr_status_t refused = !strcmp(how, "refused") || !strcmp(how, "persistent-flushed") ? APR_ENOTIMPL : !strcmp(how, "full") ? APR_EAGAIN : APR_SUCCESS;
    request_rec *part;

    if (!r->handler || strcmp(r->handler, "finish-test")) {
        return DECLINED;
    }
    if (!finish_request) {
        return HTTP_NOT_IMPLEMENTED;
    }
    ap_set_content_type(r, "text/plain");
    if (*query(r, "mark")) {
        apr_table_set(r->err_headers_out, "X-Finish-Request", query(r, "mark"));
    }
    part = ap_sub_req_lookup_uri("/part", r, NULL);
    errors = expect(r, errors, "a subrequest", finish_request(part), APR_ENOTIMPL);
    ap_destroy_sub_req(part);
    errors = expect(r, errors, "no request", finish_request(NULL), APR_EINVAL);

    if (!strcmp(how, "own-end-at-once")) {
        /* As much as is asked for, and the end, all in one brigade. */
        apr_size_t length = (apr_size_t) apr_atoi64(query(r, "bytes"));
        apr_bucket_brigade *all = apr_brigade_create(r->pool, r->connection->bucket_alloc);
        apr_brigade_write(all, NULL, NULL, memset(apr_palloc(r->pool, length), 'x', length), length);
        APR_BRIGADE_INSERT_TAIL(all, apr_bucket_eos_create(r->connection->bucket_alloc));
        errors = expect(r, errors, "the end", ap_pass_brigade(r->output_filters, all), APR_SUCCESS);
        background(r, errors, 1);
        return OK;
    }
    if (!strcmp(how, "piped")) {
        /* Of its declared length one half is a pipe's, which brings more later, and the other stands behind that. */
        apr_bucket_brigade *all = apr_brigade_create(r->pool, r->connection->bucket_alloc);
        FILE *program = popen("printf 'first half,'; sleep 0.3; printf ' second'", "r");
        apr_os_file_t descriptor = fileno(program);
        apr_file_t *pipe = NULL;
        apr_os_pipe_put(&pipe, &descriptor, r->pool);
        ap_set_content_length(r, 23);
        APR_BRIGADE_INSERT_TAIL(all, apr_bucket_pipe_create(pipe, r->connection->bucket_alloc));
        apr_brigade_puts(all, NULL, NULL, " half");
        errors = expect(r, errors, "the half", ap_pass_brigade(r->output_filters, all), APR_SUCCESS);
        background(r, errors, 0);
        pclose(program);
        return OK;
    }
    ap_rputs("first half,", r);
    if (!strcmp(how, "flushed") || !strcmp(how, "persistent-flushed")) {
        ap_rflush(r);
    }
    ap_rputs(" second half", r);
    if (!strcmp(how, "late")) {
        return OK;
    }
    if (!strncmp(how, "own-end", 7)) {
        /* It says by itself that the response is over, in one brigade with the last bytes or in one of its own. */
        apr_bucket_brigade *end = apr_brigade_create(r->pool, r->connection->bucket_alloc);
        if (!strcmp(how, "own-end-alone")) {
            ap_rflush(r);
        }
        APR_BRIGADE_INSERT_TAIL(end, apr_bucket_eos_create(r->connection->bucket_alloc));
        errors = expect(r, errors, "the end", ap_pass_brigade(r->output_filters, end), APR_SUCCESS);
        background(r, errors, 1);
        return OK;
    }
    if (!strncmp(how, "persistent", 10)) {
        while (finish_request(r) == APR_EAGAIN) {
            write_file(r, "refused", "");
            apr_sleep(5000);
        }
    }
    errors = expect(r, errors, "the first call", finish_request(r), refused);
    errors = expect(r, errors, "the second call", finish_request(r), refused);
    background(r, errors, 1);
    return OK;
}

/* Before the handler there is nothing to end. A variable without a value is what mod_authn_dbd makes of an empty column. */
static int fixups(request_rec *r)
{
    apr_table_setn(r->subprocess_env, "FINISH_EMPTY", NULL);
    if (!strcmp(query(r, "how"), "late") && finish_request) {
        apr_table_setn(r->headers_out, "X-Too-Early",
                       finish_request(r) == APR_ENOTIMPL ? "not implemented" : "something else");
    }
    return DECLINED;
}

/* After the end of the response there is nothing left to do. */
static int log_transaction(request_rec *r)
{
    if (!strcmp(query(r, "how"), "late")) {
        background(r, expect(r, "", "the call in the log hook", finish_request(r), APR_SUCCESS), 0);
    }
    return DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    ap_hook_optional_fn_retrieve(retrieve, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_fixups(fixups, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(log_transaction, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(finish_test) = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks};
