//! What is not marked, and whatever comes where the module is `Off`, the client sees exactly as
//! from a server without the module: the same bytes, on connections that are kept or closed alike.

mod observe;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;

use support::{DEADLINE, Handler, Httpd, Mpm};

use crate::finished::compression::{Compression, with_compressions};
use observe::Field;

on_every_handler_and_mpm!(as_without_the_module);

fn as_without_the_module(handler: Handler, mpm: Mpm) {
    let stock = server(Httpd::builder(mpm).handler(handler).without_module());
    let with_module = server(Httpd::builder(mpm).handler(handler));

    thread::scope(|scope| {
        for &protocol in mpm.protocols() {
            for compression in Compression::ALL {
                for setting in ["on", "off"] {
                    let field = Field { handler, protocol, compression, setting };
                    let servers = (&stock, &with_module);
                    // The name is part of the message of a failure.
                    thread::Builder::new()
                        .name(format!("{mpm:?} {field:?}"))
                        .spawn_scoped(scope, move || compare(field, servers))
                        .unwrap();
                }
            }
        }
    });
    with_module.stop();
    stock.stop();
}

fn server(builder: support::Builder) -> Httpd {
    with_compressions(builder, &["on", "off"])
        .config(
            "<IfModule finish_request_module>
               FinishRequest On
               <Location /off/>
                 FinishRequest Off
               </Location>
             </IfModule>",
        )
        .start()
}

fn compare(field: Field, (stock, with_module): (&Httpd, &Httpd)) {
    let expected = field.observe(stock);
    let seen = field.observe(with_module);
    for (expected, seen) in expected.iter().zip(&seen) {
        assert_eq!(seen, expected, "with the module (left) and without it (right)");
    }
    assert_eq!(seen.len(), expected.len());
}

on_every_mpm!(an_upload_reaches_its_backend_while_it_is_sent);

/// With the length that its client has said, also where a backend may speak FastCGI.
fn an_upload_reaches_its_backend_while_it_is_sent(mpm: Mpm) {
    const BYTES: usize = 400_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let origin = listener.local_addr().unwrap();
    let mut config = format!("<Proxy balancer://origins>\nBalancerMember http://{origin}\n</Proxy>\n");
    for mode in ["Off", "On", "Auto"] {
        config += &format!(
            "<Location /{mode}/>\nFinishRequest {mode}\n</Location>\nProxyPass /{mode}/direct http://{origin}/\n\
             ProxyPass /{mode}/balancer balancer://origins/\n"
        );
    }
    let modules = ["proxy", "proxy_http", "proxy_balancer", "slotmem_shm", "lbmethod_byrequests"];
    let httpd = Httpd::builder(mpm).modules(&modules).config(&config).start();
    let (seen, has_header) = mpsc::channel();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let head = loop {
                let length = socket.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..length]);
                if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    break String::from_utf8(bytes[..end].to_vec()).unwrap();
                }
                assert!(length > 0, "no header");
            };
            let rest = head.len() + 4 + BYTES - bytes.len();
            if seen.send(head).is_err() {
                return;
            }
            io::copy(&mut (&socket).take(rest as u64), &mut io::sink()).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    for path in ["Off", "On", "Auto"].iter().flat_map(|mode| ["direct", "balancer"].map(|way| format!("/{mode}/{way}")))
    {
        let client = httpd.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BYTES}\r\n\r\n"));
        client.send(vec![b'x'; BYTES / 2]);
        let head = has_header.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{path}: the whole body is awaited"));
        client.send(vec![b'x'; BYTES - BYTES / 2]);
        assert_eq!(client.response().body, b"ok", "{path}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("\r\ncontent-length: {BYTES}\r\n")), "{path}: {head}");
        assert!(!head.contains("transfer-encoding"), "{path}: {head}");
    }
    httpd.stop();
}
