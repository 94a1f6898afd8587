//! What a client sees of an application without a mark is what it sees from stock httpd, with the module `On`, with `Auto`, whose
//! every way of finishing changes nothing but the time, and with `late`, which ends a response at its digits as if the application ended there.
//!
//! Stock httpd is the oracle, also where its answer depends on chance: what it says is sampled, and any of it is right.

mod case;
mod examples;
mod observe;
mod origin;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use support::{Handler, Httpd, Mpm};

use case::{App, Case};
use observe::{Observation, Seen, observe};

/// The folders of the server with the module, and what is set there.
const MODES: [(&str, &str); 5] = [
    ("on", "FinishRequest On"),
    ("auto", "FinishRequest Auto"),
    ("keep", "FinishRequest Auto\nFinishRequestConnection Keep"),
    ("continue", "FinishRequest Auto\nFinishRequestOnAbort Continue"),
    (LATE, "FinishRequest On\nSetEnv finish-request late"),
];

/// The folder where applications are given digits.
const LATE: &str = "late";

/// How many cases each of the servers is asked, where `DIFFERENTIAL_CASES` does not say; and by how many threads.
const CASES: u32 = 80;
const THREADS: u32 = 4;

/// How much slower the application is made to see what else stock httpd may answer: before each write, and before the end. Every
/// second time that it is not, its short pauses are left out.
const SLOWER: [(u64, u64); 14] = [
    (0, 0),
    (0, 0),
    (0, 15),
    (15, 0),
    (15, 15),
    (0, 60),
    (40, 60),
    (0, 0),
    (0, 1),
    (1, 0),
    (0, 0),
    (2, 2),
    (0, 0),
    (0, 0),
];

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| support::body(400_000));
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    std::iter::successors(Some(17u64), |state| Some(*state))
        .scan(17u64, move |state, _| next(state))
        .take(400_000)
        .collect()
});
static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&TEXT[..20_000]).unwrap();
    encoder.finish().unwrap()
});
static ORIGIN: LazyLock<SocketAddr> = LazyLock::new(|| origin::start(data));

fn data(name: char) -> &'static [u8] {
    match name {
        'Z' => &NOISE,
        'G' => &PACKED,
        _ => &TEXT,
    }
}

/// A server without the module and one with it, alike in all else.
struct Stand {
    stock: Httpd,
    module: Httpd,
    php: Handler,
    mpm: Mpm,
}

impl Stand {
    fn start(php: Handler, mpm: Mpm) -> Stand {
        let (stock, module) = (server(php, mpm, false), server(php, mpm, true));
        Stand { stock, module, php, mpm }
    }

    /// Whether each mode shows what stock httpd does.
    ///
    /// # Errors
    ///
    /// What is different.
    fn judge(&self, case: &Case) -> Result<(), String> {
        let Some((mode, seen, stock)) = self.differences(case).into_iter().next() else { return Ok(()) };
        let Stand { php, mpm, .. } = self;
        let stock: String = stock.iter().map(|stock| format!("\n  or{stock:?}")).collect();
        Err(format!("{case:?}\n  under {mpm:?}, PHP by {php:?}\n  with {mode}:{seen:?}\n  stock:{stock}"))
    }

    /// The modes that show something else than stock httpd, with both.
    fn differences(&self, case: &Case) -> Vec<(&'static str, Observation, Vec<Observation>)> {
        let (mut stock, seen) = thread::scope(|scope| {
            let stock = scope.spawn(|| observe(&self.stock, "on", case));
            let modes = MODES.map(|(mode, _)| (mode, scope.spawn(move || observe(&self.module, mode, case))));
            // A client that waits in vain has said so.
            let join = |mode: &str, thread: thread::ScopedJoinHandle<'_, Observation>| {
                thread.join().unwrap_or_else(|_| {
                    eprintln!("with {mode} there is no end of {case:?}");
                    Observation(vec![Seen::Hangs])
                })
            };
            let stock = vec![join("stock httpd", stock)];
            (stock, modes.map(|(mode, thread)| (mode, join(mode, thread))))
        });
        let (trimmed, at_digits, bare) = (case.without_late(), case.until_digits(), case.header_alone());
        let mut cut: Vec<Observation> = Vec::new();
        let mut late: Vec<Observation> = Vec::new();
        // What certainly comes late is certainly dropped, unless the module is only `On`.
        let recognises = |mode: &str| mode != "on" && mode != LATE;
        let drops = |mode: &str| recognises(mode) && case.ends_for_certain();
        let right =
            |mode: &str, seen: &Observation, stock: &[Observation], late: &[Observation], cut: &[Observation]| {
                if mode == LATE && (at_digits.is_some() || bare.is_some()) {
                    let ends_so = seen.is_response_of(cut);
                    if ends_so || at_digits.is_some() {
                        return ends_so;
                    }
                }
                !drops(mode) && seen.is_among(stock) || recognises(mode) && seen.is_among(late)
            };
        let mut other: Vec<(&'static str, Observation)> =
            seen.into_iter().filter(|(mode, seen)| !right(mode, seen, &stock, &late, &cut)).collect();
        for (round, (before_each, before_end)) in SLOWER.into_iter().enumerate() {
            if other.is_empty() {
                break;
            }
            let timed = |case: &Case| match (before_each, before_end) {
                (0, 0) if round % 2 == 0 => case.faster(),
                _ => case.slower(before_each, before_end),
            };
            let (again, trimmed) = (timed(case), trimmed.as_ref().map(timed));
            let ended = [&at_digits, &bare].into_iter().flatten();
            cut.extend(ended.map(timed).flat_map(|case| self.sample(&case)));
            stock.extend(self.sample(&again));
            late.extend(trimmed.iter().flat_map(|trimmed| self.sample(trimmed)));
            other.retain(|(mode, seen)| !right(mode, seen, &stock, &late, &cut));
        }
        stock.extend(late);
        stock.extend(cut);
        let mut distinct: Vec<Observation> = Vec::new();
        stock.into_iter().for_each(|one| {
            if !distinct.contains(&one) {
                distinct.push(one);
            }
        });
        other.retain(|(mode, seen)| !self.is_a_matter_of_moments(case, mode, seen, &distinct));
        other.into_iter().map(|(mode, seen)| (mode, seen, distinct.clone())).collect()
    }

    /// Whether it was so but once, on a busy machine. Either the client got the same, only its end told in another way: the end of a program
    /// outside httpd may come in the same moment as what it wrote last; where it comes much later that cannot be. Or stock httpd answers so where the
    /// application makes no pauses.
    fn is_a_matter_of_moments(&self, case: &Case, mode: &str, seen: &Observation, stock: &[Observation]) -> bool {
        let outside = case.app != App::Lua && case.app != App::File;
        let the_same = outside && stock.iter().any(|stock| stock.without_framing() == seen.without_framing());
        let at_once = [Some(case.at_once()), case.until_digits().map(|case| case.at_once())];
        let mut right: Vec<Observation> = at_once.iter().flatten().flat_map(|case| self.sample(case)).collect();
        let fits = |seen: &Observation, right: &[Observation]| match mode {
            LATE => seen.is_response_of(right),
            _ => seen.is_among(right),
        };
        let is_known = the_same || fits(seen, &right);
        right.extend_from_slice(stock);
        let again = if the_same { &case.slower(0, 500) } else { case };
        is_known && (0..8).all(|_| fits(&observe(&self.module, mode, again), &right))
    }

    /// What stock httpd answers to some clients at once, with as much to do as when the modes were looked at.
    fn sample(&self, case: &Case) -> Vec<Observation> {
        thread::scope(|scope| {
            let clients: Vec<_> = MODES.iter().map(|_| scope.spawn(|| observe(&self.stock, "on", case))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    }

    /// Stops both. What stock httpd complains of the other may complain of too.
    fn stop(self) {
        let log = self.stock.log();
        let codes: BTreeSet<&str> = log.lines().filter(|line| !line.contains("exit signal")).filter_map(code).collect();
        for code in codes {
            self.stock.allow_log(code);
            self.module.allow_log(code);
        }
        self.module.stop();
        self.stock.stop();
    }
}

/// The code of a line that complains, `AH` and five digits and a colon.
fn code(line: &str) -> Option<&str> {
    let complains = line.contains(":warn]") || line.contains(":error]");
    let at = line.find("AH").filter(|_| complains)?;
    line.get(at..at + 8)
}

fn server(php: Handler, mpm: Mpm, with_module: bool) -> Httpd {
    let builder = Httpd::builder(mpm).handler(php).handler(Handler::Cgi).handler(Handler::Lua);
    let folders: String = MODES
        .iter()
        .map(|(mode, settings)| {
            format!(
                "ProxyPass /{mode}/origin/ http://{}/ disablereuse=on\nAlias /{mode} \"${{WWW}}\"\n\
                 <IfModule finish_request_module>\n<Location /{mode}/>\n{settings}\n</Location>\n</IfModule>\n",
                *ORIGIN
            )
        })
        .collect();
    let builder = builder
        .modules(&["alias", "env", "filter", "deflate", "mime", "proxy", "proxy_http"])
        .config("<IfModule fcgid_module>\nFcgidMaxRequestLen 1000000\n</IfModule>\nKeepAliveTimeout 20\nTypesConfig /dev/null\nAddType text/plain .txt\nAddOutputFilterByType DEFLATE text/plain text/html")
        .config(&folders);
    let httpd = if with_module { builder } else { builder.without_module() }.start();
    httpd.install("steps.php", include_str!("apps/steps.php"));
    httpd.install("steps.cgi", include_str!("apps/steps.cgi"));
    httpd.install("steps.lua", include_str!("apps/steps.lua"));
    let www = httpd.root().join("www");
    for name in ['T', 'Z', 'G'] {
        fs::write(www.join(format!("{name}.dat")), data(name)).unwrap();
    }
    fs::write(www.join("file.txt"), &TEXT[..3000]).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::options().write(true).open(www.join("file.txt")).unwrap().set_modified(then).unwrap();
    httpd
}

/// Asks both servers as many cases as there are to be, from several threads; the first difference fails, made as small as it can be.
fn same_as_stock(php: Handler, mpm: Mpm) {
    let cases = std::env::var("DIFFERENTIAL_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    // Always the same cases, unless others are wished.
    let seed: u8 = std::env::var("DIFFERENTIAL_SEED").map_or(1, |seed| seed.parse().unwrap());
    let stand = Stand::start(php, mpm);
    let begun = Instant::now();
    let failures = Mutex::new(Vec::new());
    let examples = examples::all().into_iter().filter(|case| mpm.has_http2() || !case.way.is_http2());
    failures.lock().unwrap().extend(examples.filter_map(|case| stand.judge(&case).err()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stand, failures) = (&stand, &failures);
            scope.spawn(move || {
                let mut bytes = [seed; 32];
                bytes[..3].copy_from_slice(&[thread as u8, php as u8, mpm as u8]);
                let config = Config {
                    cases: cases.div_ceil(THREADS),
                    max_shrink_iters: 40,
                    failure_persistence: None,
                    ..Config::default()
                };
                let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
                let strategy = case::cases(mpm.has_http2(), PACKED.len());
                let result = runner.run(&strategy, |case| stand.judge(&case).map_err(TestCaseError::fail));
                if let Err(TestError::Fail(reason, _)) = result {
                    failures.lock().unwrap().push(reason.message().to_owned());
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n\n"));
    println!("{mpm:?} {php:?}: {cases} cases in {:?}", begun.elapsed());
    stand.stop();
}

#[test]
fn mod_fcgid_on_event() {
    same_as_stock(Handler::ModFcgid, Mpm::Event);
}

#[test]
fn php_fpm_on_worker() {
    same_as_stock(Handler::PhpFpm, Mpm::Worker);
}

#[test]
fn mod_php_on_prefork() {
    same_as_stock(Handler::ModPhp, Mpm::Prefork);
}
