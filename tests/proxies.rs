//! A reverse proxy in front, which speaks with the server as it likes: its client is released early all the same.

use support::http1::Connection;
use support::{Handler, Httpd, Mpm, Proxy, ProxyKind, body};

macro_rules! behind {
    ($($name:ident: $kind:ident, $keep_alive:literal;)*) => {
        $(
            #[test]
            fn $name() {
                released_behind(ProxyKind::$kind, $keep_alive);
            }
        )*
    };
}

behind! {
    nginx: Nginx, false;
    nginx_with_kept_connections: Nginx, true;
    haproxy: HaProxy, false;
    haproxy_with_kept_connections: HaProxy, true;
}

fn released_behind(kind: ProxyKind, keep_alive: bool) {
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Cgi)
        .handler(Handler::Lua)
        .modules(&["filter", "deflate"])
        .config(
            "FinishRequest Auto
             FinishRequestBypass none
             AddOutputFilterByType DEFLATE text/plain",
        )
        .start();
    let proxy = Proxy::start(kind, httpd.address(), keep_alive);

    // One client, one connection: each request may meet what the one before it has left behind.
    let client = Connection::plain(proxy.address());
    for _ in 0..3 {
        for page in [Handler::Cgi.page(), Handler::Lua.page()] {
            for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
                released(&httpd, &client, page, accept);
            }
            // A response that the module has nothing to do with, on the connection that the proxy may have kept.
            client.get(&format!("/{page}?mark=none&length=none"), &[]);
            assert_eq!(client.response().body, body(4096));
        }
    }
    assert!(client.rest().is_empty());
    drop(client);
    drop(proxy);
    httpd.stop();
}

fn released(httpd: &Httpd, client: &Connection, page: &str, accept: &[(&str, &str)]) {
    let background = httpd.background();
    client.get(&(background.query(page) + "&after=20000"), accept);
    let response = client.response();
    assert!(!background.is_done());
    assert_eq!(response.header("Content-Encoding").is_some(), !accept.is_empty());
    assert_eq!(response.decoded(), body(4096));
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
    let rest = client.rest();
    assert!(rest.is_empty(), "behind the response: \"{}\"", rest.escape_ascii());
    assert!(!client.has_ended(), "the proxy has closed its client's connection");
}
