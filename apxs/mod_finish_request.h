/*
 * mod_finish_request: finish a response early, from a module written in C.
 *
 *     static APR_OPTIONAL_FN_TYPE(ap_finish_request) *finish_request;
 *
 *     static void retrieve(void)   (in an optional_fn_retrieve hook)
 *     {
 *         finish_request = APR_RETRIEVE_OPTIONAL_FN(ap_finish_request);
 *     }
 *
 *     if (finish_request && finish_request(r) == APR_SUCCESS) {
 *         ... the client has been let go: work on ...
 *     }
 */
#ifndef MOD_FINISH_REQUEST_H
#define MOD_FINISH_REQUEST_H

/** The version of the module that this header came with. */
#define MOD_FINISH_REQUEST_VERSION "0.2.0"

#include "httpd.h"
#include "apr_optional.h"

/**
 * Ends the response to a request now, with what has been written to it so far, and lets the client go. What is
 * written to it later reaches nobody, and is no error.
 * @param r The request, in the thread that works on it, after its handler has been called. The main request:
 *          a subrequest is part of another's response.
 * @return APR_SUCCESS: the response has ended, now or before; call it as often as you like. Where the handler has passed
 *         on an EOS of its own before, its client is let go by httpd, when it sends that.
 *         APR_ENOTIMPL: it goes on as an ordinary one, because FinishRequest is Off for it, it is a subrequest, its
 *         handler has not been called, or it is marked "off"; or because it began as a marked one when there was no place
 *         for its work: its client waits for the handler.
 *         APR_EAGAIN: it goes on as before, because FinishRequestMax other requests work on after their clients were
 *         let go. What is written to it still belongs to it; a later call may succeed.
 *         APR_EINVAL: r is NULL. Another status: the client has gone, or an output filter failed.
 */
APR_DECLARE_OPTIONAL_FN(apr_status_t, ap_finish_request, (request_rec *r));

#endif
