//! A reverse proxy in front, which speaks with the server as it likes: its client is released early all the same.

use support::http1::Connection;
use support::{Handler, Httpd, Mpm, Proxy, ProxyKind, body};

macro_rules! behind {
    ($($name:ident: $kind:ident, $keep_alive:literal, $connection:literal;)*) => {
        $(
            #[test]
            fn $name() {
                released_behind(ProxyKind::$kind, $keep_alive, $connection);
            }
        )*
    };
}

behind! {
    nginx: Nginx, false, "Close";
    nginx_with_kept_connections: Nginx, true, "Close";
    nginx_and_keep: Nginx, true, "Keep";
    haproxy: HaProxy, false, "Close";
    haproxy_with_kept_connections: HaProxy, true, "Close";
    haproxy_and_keep: HaProxy, true, "Keep";
}

fn released_behind(kind: ProxyKind, keep_alive: bool, connection: &str) {
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Cgi)
        .handler(Handler::Lua)
        .modules(&["filter", "deflate"])
        .config(&format!(
            "FinishRequest Auto
             FinishRequestBypass none
             FinishRequestConnection {connection}
             AddOutputFilterByType DEFLATE text/plain
             LogFormat %{{remote}}p port
             CustomLog \"${{ROOT}}/ports.log\" port"
        ))
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
    if connection == "Keep" {
        let ports = std::fs::read_to_string(httpd.root().join("ports.log")).unwrap();
        let first = ports.lines().next().unwrap();
        assert!(ports.lines().all(|port| port == first), "the proxy needed more than one connection: {ports}");
    }
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
