//! What is not marked, and whatever comes where the module is `Off`, the client sees exactly as
//! from a server without the module: the same bytes, on connections that are kept or closed alike.

mod observe;

use std::thread;

use support::{Handler, Httpd, Mpm};

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
