//! Beside other modules, httpd's and others': a marked response, one that `Auto` recognises, and an unmarked one are to the byte what a server
//! without this module sends, and the first two are finished while the work runs on.

use std::sync::atomic::{AtomicUsize, Ordering};

use support::machine::not_tried;
use support::{Builder, Client, Handler, Httpd, Mpm, NotStarted, Protocol, body, has_module};

use crate::judge::{assert_body, path, ran_to_its_end, side_by_side};

/// A module, and what it has to do with each response.
#[derive(Clone, Copy)]
struct Row {
    modules: &'static [&'static str],
    config: &'static str,
    /// Where the pages are asked for.
    folder: &'static str,
    /// Whether a client is let go early. A marked response that is a part of another one, or comes by a proxy, is not finished for this client.
    early: bool,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.modules.join(" and "))
    }
}

const fn row(modules: &'static [&'static str], config: &'static str) -> Row {
    Row { modules, config, folder: "", early: true }
}

/// httpd's own.
const CORE: [Row; 20] = [
    row(&["include"], "Options +Includes\nSetOutputFilter INCLUDES"),
    row(&["substitute", "filter"], "SetOutputFilter SUBSTITUTE\nSubstitute s/answer/reply/n"),
    row(&["sed", "filter"], "<Location />\nSetOutputFilter Sed\nOutputSed s/answer/reply/g\n</Location>"),
    row(&["ext_filter"], "ExtFilterDefine upper mode=output cmd=\"/usr/bin/tr a-z A-Z\"\nSetOutputFilter upper"),
    row(&["buffer"], "SetOutputFilter BUFFER"),
    row(&["ratelimit", "env"], "SetOutputFilter RATE_LIMIT\nSetEnv rate-limit 4000"),
    row(&["cache", "cache_disk"], "CacheEnable disk /\nCacheRoot \"${ROOT}/run\"\nCacheQuickHandler off"),
    row(&["cache", "cache_socache"], "CacheEnable socache /\nCacheSocache shmcb:${ROOT}/run/cache(512000)"),
    row(&["headers"], "Header set X-Test value\nHeader unset Content-Type"),
    Row {
        folder: "other/",
        ..row(
            &["rewrite"],
            "<Directory \"${WWW}\">\nRewriteEngine On\nRewriteRule ^other/(.*) /$1 [E=x:y]\n</Directory>",
        )
    },
    row(&["remoteip"], "RemoteIPHeader X-Forwarded-For"),
    row(&["reqtimeout"], "RequestReadTimeout header=20 body=20"),
    row(&["brotli", "filter"], "SetOutputFilter BROTLI_COMPRESS\nFinishBypass"),
    row(&["deflate", "filter"], "SetOutputFilter DEFLATE\nFinishBypass"),
    row(&["dav", "dav_fs"], "DavLockDB \"${ROOT}/run/lock\"\n<Location /dav>\nDav On\n</Location>"),
    row(&["speling"], "CheckSpelling On"),
    row(&["log_forensic"], "ForensicLog \"${ROOT}/run/forensic.log\""),
    row(&["dumpio"], "DumpIOInput On\nDumpIOOutput On\nLogLevel dumpio:trace7"),
    row(&["md"], "MDStoreDir \"${ROOT}/run\""),
    Row {
        folder: "by-proxy/",
        early: false,
        ..row(
            &["proxy", "proxy_http"],
            "<Location /by-proxy/>\nFinishRequest Off\nProxyPass http://127.0.0.1:${PORT}/ disablereuse=on\n</Location>",
        )
    },
];

/// Others'.
const OTHERS: [Row; 7] = [
    row(
        &["security2", "unique_id"],
        "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\nSecResponseBodyMimeType text/plain",
    ),
    row(&["xsendfile"], "XSendFile On"),
    row(&["evasive20"], "DOSPageCount 10000\nDOSSiteCount 10000"),
    row(&["qos"], "QS_ErrorPage /none.html\nQS_SrvMaxConnPerIP 1000\nQS_LocRequestLimitMatch ^/none 10"),
    row(
        &["auth_openidc", "authn_core", "authz_user"],
        "OIDCProviderIssuer https://localhost\nOIDCProviderAuthorizationEndpoint https://localhost/a\nOIDCClientID id\n\
         OIDCRedirectURI https://localhost/r\nOIDCCryptoPassphrase \"a secret of no worth\"",
    ),
    row(&["xml2enc"], "SetOutputFilter xml2enc"),
    row(&["proxy_html", "proxy", "xml2enc"], "SetOutputFilter proxy-html\nProxyHTMLEnable On"),
];

#[test]
fn of_httpd() {
    beside(Mpm::Event, &CORE, |_| false);
}

#[test]
#[ignore = "make check"]
fn of_httpd_elsewhere() {
    for mpm in [Mpm::Worker, Mpm::Prefork] {
        beside(mpm, &CORE, |_| false);
    }
}

#[test]
#[ignore = "make check"]
fn of_others() {
    for mpm in Mpm::ALL {
        beside(mpm, &OTHERS, |error| error.contains("undefined symbol"));
    }
}

/// `is_useless`: the module's file is one that httpd does not load.
fn beside(mpm: Mpm, rows: &[Row], is_useless: impl Fn(&str) -> bool + Sync) {
    let tried = AtomicUsize::new(0);
    for some in rows.chunks(5) {
        side_by_side(some.iter().copied(), |row| match row.modules.iter().find(|module| !has_module(module)) {
            Some(module) => not_tried(&format!("beside mod_{module}, which is not installed")),
            None => {
                stands_beside(mpm, row, &is_useless);
                tried.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    assert!(tried.into_inner() > 0, "no module is there");
}

fn stands_beside(mpm: Mpm, row: Row, is_useless: impl Fn(&str) -> bool) {
    let common = format!(
        "<IfModule finish_request_module>\nFinishRequest On\n<Location /auto>\nFinishRequest Auto\n</Location>\n</IfModule>\n{}\n",
        row.config.replace("FinishBypass", "<IfModule finish_request_module>\nFinishRequestBypass none\n</IfModule>")
    );
    let common = match row.early {
        true => common,
        // Stock httpd does not know it.
        false => {
            common.replace("FinishRequest Off\n", "<IfModule finish_request_module>\nFinishRequest Off\n</IfModule>\n")
        }
    };
    let builder = || {
        let modules: Vec<&str> = ["alias"].into_iter().chain(row.modules.iter().copied()).collect();
        let alias = "Alias /auto \"${WWW}\"\n";
        Httpd::builder(mpm).handler(Handler::Lua).modules(&modules).workers(16).config(&format!("{alias}{common}"))
    };
    // As some distribution's mod_qos, which was built for an httpd with that library in it.
    let with_pcre = || builder().env("LD_PRELOAD", "libpcre.so.3");
    let builders: [&dyn Fn() -> Builder; 2] = [&builder, &with_pcre];
    let started = builders.into_iter().map(|builder| (builder, builder().without_module().try_start()));
    let is_useless = |started: &Result<Httpd, NotStarted>| started.as_ref().is_err_and(|error| is_useless(&error.0));
    let Some((builder, stock)) = started.into_iter().find(|(_, started)| !is_useless(started)) else {
        not_tried(&format!("beside mod_{row:?}, which httpd does not load here"));
        return;
    };
    let stock = stock.unwrap_or_else(|error| panic!("{error}"));
    let httpd = builder().start();
    // A server of a few workers that talks to itself.
    httpd.may_be_full();
    stock.may_be_full();
    for &protocol in mpm.protocols().iter().filter(|protocol| **protocol != Protocol::Http1Tls) {
        // What the work writes, an unmarked response has.
        for (kind, folder, query, finished) in [
            ("marked", "", "mark=on", true),
            ("Auto", "auto/", "mark=none&close=1", true),
            ("unmarked", "", "mark=none", false),
        ] {
            let finished = finished && row.early;
            if kind == "Auto" && !row.folder.is_empty() {
                continue;
            }
            let after = if kind == "unmarked" { "length=none&after=200" } else { "after=0" };
            let headers = [("Accept-Encoding", "gzip, br")];
            let page = format!("{}{folder}app.lua", row.folder);
            let ask = |httpd: &Httpd, early: bool| {
                let background = httpd.background();
                let client = Client::connect(httpd, protocol);
                let exchange = client.get(&path(&background, &page, &format!("{query}&{after}")), &headers);
                let early = early.then(|| exchange.response());
                assert!(early.is_none() || !background.is_done(), "{row:?}, {protocol:?}: {kind} waited for its work");
                background.wait_for_begin();
                ran_to_its_end(&background);
                let response = early.unwrap_or_else(|| exchange.response());
                let seen = ["Content-Type", "Content-Encoding", "X-Test", "X-Finish-Request"];
                let headers = seen.map(|name| response.header(name).map(str::to_owned));
                (response.status, headers, response.decoded())
            };
            let (ours, theirs) = (ask(&httpd, finished), ask(&stock, false));
            // Stock httpd knows no mark, and lets it through.
            let theirs = (theirs.0, [theirs.1[0].clone(), theirs.1[1].clone(), theirs.1[2].clone(), None], theirs.2);
            assert!(
                ours == theirs,
                "{row:?}, {protocol:?}, {kind}: {:?} and {:?}",
                (ours.0, &ours.1, ours.2.len()),
                (theirs.0, &theirs.1, theirs.2.len())
            );
            assert_eq!(ours.0, 200, "{row:?}, {protocol:?}, {kind}");
        }
    }
    httpd.stop();
    stock.stop();
}

/// Answers with a known text that caches may keep; then works in the background.
const PAGE: &str = r#"
    function handle(r)
        local background = dofile(r.document_root .. "/background.lua")
        local query = r:parseargs()
        r.content_type = "text/plain"
        r.headers_out["Cache-Control"] = "max-age=600"
        if query.kind ~= "unmarked" then
            r.headers_out["Content-Length"] = "4096"
        end
        if query.kind == "marked" then
            r.headers_out["X-Finish-Request"] = "on"
        elseif query.kind == "Auto" then
            r.headers_out["Connection"] = "close"
        end
        r:write(background.body(4096))
        r:flush()
        background.run(r, query.id, 0)
        return apache2.OK
    end
"#;

on_every_mpm!(a_cache_answers_the_next_request);

/// What was finished early, by a mark, by `Auto` or by digits, is in the cache while its work runs on, and the next request is answered from there.
fn a_cache_answers_the_next_request(mpm: Mpm) {
    const STORES: [(&str, &str); 2] = [
        ("cache_disk", "CacheEnable disk /\nCacheRoot \"${ROOT}/run\""),
        ("cache_socache", "CacheEnable socache /\nCacheSocache shmcb:${ROOT}/run/cache(512000)"),
    ];
    let cases = STORES.into_iter().flat_map(|store| ["On", "Off"].map(|quick| (store, quick)));
    side_by_side(cases, |((store, config), quick)| {
        let config = format!(
            "FinishRequest Auto\nCacheHeader on\nCacheKeyBaseURL http://localhost\nCacheQuickHandler {quick}\n{config}\n\
             <Files late.cgi>\nSetEnv finish-request late\n</Files>"
        );
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .handler(Handler::Cgi)
            .modules(&["cache", store, "env"])
            .config(&config)
            .start();
        httpd.may_be_full();
        httpd.install("page.lua", PAGE);
        httpd.install("late.cgi", include_str!("../marks/late/app.cgi"));
        for &protocol in mpm.protocols() {
            // mod_cache_socache keeps no response that tells no length (AH02346), with or without this module.
            let kinds = ["marked", "Auto", "unmarked", "late"];
            for kind in if store == "cache_socache" { &kinds[..2] } else { &kinds[..] } {
                let kind = *kind;
                let background = httpd.background();
                let page = match kind {
                    "late" => {
                        let digits = "n4096.f.d0-64.f.w.tLATE&header=Cache-Control:max-age%3D600";
                        format!("{}&do={digits}", background.query("late.cgi"))
                    }
                    _ => format!("{}&kind={kind}", background.query("page.lua")),
                };
                let client = Client::connect(&httpd, protocol);
                let first = client.get(&page, &[]);
                // The cache has it at its end, which a client sees by more than the last byte.
                let finished = (kind != "unmarked").then(|| first.released());
                if finished.is_none() {
                    ran_to_its_end(&background);
                }
                let first = finished.unwrap_or_else(|| first.response());
                assert!(first.header("X-Cache").is_some_and(|cache| cache.starts_with("MISS")), "{kind}, {quick}");
                // Also where the first connection was closed.
                let second = Client::connect(&httpd, protocol).get(&page, &[]).response();
                assert!(second.header("X-Cache").is_some_and(|cache| cache.starts_with("HIT")), "{kind}, {quick}");
                for response in [&first, &second] {
                    assert_body(response, &body(4096));
                    assert_eq!(response.header("X-Finish-Request"), None);
                }
                if kind != "unmarked" {
                    assert!(!background.is_done(), "{kind} waited for its work");
                    ran_to_its_end(&background);
                }
            }
        }
        httpd.stop();
    });
}
