/* Says in the error log what httpd takes each connection's client to be called. */
#include "httpd.h"
#include "http_config.h"
#include "http_connection.h"
#include "http_log.h"

static int pre_connection(conn_rec *c, void *csd)
{
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, c->base_server, "the client is called '%s', here it is '%s'", c->client_ip, c->local_ip);
    return DECLINED;
}

static void register_hooks(apr_pool_t *p)
{
    ap_hook_pre_connection(pre_connection, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA names_module = { STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks };
