/* Has httpd say that its module interface is an older one than it is: tells modules that are loaded later. */
#include "httpd.h"
#include "http_config.h"

extern module AP_MODULE_DECLARE_DATA core_module;

static void register_hooks(apr_pool_t *pool)
{
    core_module.minor_version = 109;
}

AP_DECLARE_MODULE(older_httpd) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
