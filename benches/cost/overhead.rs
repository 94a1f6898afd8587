//! Requests a second, where the module has nothing to do.

use std::time::Duration;

use support::{Handler, Httpd, Mpm};

use crate::load::requests_per_second;
use crate::ratio::Ratio;

const ROUNDS: usize = 14;
const ROUND: Duration = Duration::from_millis(500);

const PAGES: [&str; 2] = ["/small.txt", "/hello.lua"];

/// The servers: the first is what the others are compared with, the second shows the noise.
const SERVERS: [(&str, Option<&str>); 4] = [
    ("without the module", None),
    ("without, once more", None),
    ("FinishRequest Off", Some("FinishRequest Off")),
    ("On, unmarked", Some("FinishRequest On")),
];

/// Measures, and prints.
pub fn measure() {
    println!("Requests a second, event MPM, kept connections ({ROUNDS} rounds of {} s):\n", ROUND.as_secs_f64());
    println!("{:<38}{:>18}{:>18}", "", "small file", "Lua handler");
    let servers: Vec<Httpd> = SERVERS.iter().map(|(_, directive)| start(*directive)).collect();
    let columns = PAGES.map(|page| ratios(&servers, page));
    for (index, (name, _)) in SERVERS.iter().enumerate().skip(1) {
        let title = format!("{name} / without");
        println!("{title:<38}{:>18}{:>18}", columns[0][index], columns[1][index]);
    }
}

fn start(directive: Option<&str>) -> Httpd {
    // All responses have the same length: no header counts down, and no ETag is weak while its file is new.
    let config = "MaxKeepAliveRequests 0\nFileETag None\nLogLevel warn";
    let builder = Httpd::builder(Mpm::Event).handler(Handler::Lua).config(config);
    let builder = match directive {
        Some(directive) => builder.config(directive),
        None => builder.without_module(),
    };
    let httpd = builder.start();
    httpd.install("small.txt", &"small\n".repeat(100));
    httpd.install(
        "hello.lua",
        "function handle(r)\n\
           r.content_type = 'text/plain'\n\
           r.headers_out['Content-Length'] = '600'\n\
           r:write(('small\\n'):rep(100))\n\
           return apache2.OK\n\
         end\n",
    );
    httpd
}

fn ratios(servers: &[Httpd], page: &str) -> Vec<Ratio> {
    let rate = |server: &Httpd| requests_per_second(server.address(), page, ROUND);
    servers.iter().map(rate).for_each(drop);

    let mut rounds = vec![Vec::new(); servers.len()];
    for round in 0..ROUNDS {
        let mut rates = vec![0.0; servers.len()];
        for turn in 0..servers.len() {
            // Each round begins with another server.
            let index = (round + turn) % servers.len();
            rates[index] = rate(&servers[index]);
        }
        for (ratios, rate) in rounds.iter_mut().zip(&rates) {
            ratios.push(rate / rates[0]);
        }
    }
    rounds.iter().map(|ratios| Ratio::of(ratios)).collect()
}
