//! The directives: settings, how they are inherited, how they are parsed, and their table.

mod max;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use self::max::Max;
use crate::httpd::{Args, Commands, Directive, PerDir, command};
pub use crate::httpd::{Context, Manual};

/// `FinishRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The module does nothing.
    Off,
    /// Marked responses finish early.
    On,
    /// Besides, the idioms in use on the web count as a mark.
    Auto,
}

/// `FinishRequestLog`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogAt {
    /// A finished request is logged when its client is released.
    Client,
    /// It is logged when the background work ends.
    End,
}

/// `FinishRequestConnection`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// The client's connection is closed when its response is finished.
    Close,
    /// It goes on, where client and server agreed on keep-alive.
    Keep,
}

/// `FinishRequestBuffer`: how many bytes may wait in memory for slow clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Of one response. Zero: none wait.
    pub response: usize,
    /// Of all responses in a child process.
    pub total: usize,
}

/// `FinishRequestTimeout`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeLimit {
    /// Background work may run so long.
    After(Duration),
    /// It may run, and be silent, for ever.
    Never,
}

/// `FinishRequestOnAbort`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnAbort {
    /// A client that goes away too early ends the application, as without the module.
    Stop,
    /// The application runs to its end.
    Continue,
}

/// The settings of one place of the configuration. `None` is not set here.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    mode: Option<Mode>,
    bypass: Option<Arc<[Box<[u8]>]>>,
    connection: Option<After>,
    buffer: Option<Buffer>,
    log: Option<LogAt>,
    max: Option<Max>,
    time_limit: Option<TimeLimit>,
    on_abort: Option<OnAbort>,
}

/// True if the configuration that is being read, or was read last, has `Keep` somewhere.
static KEEP: AtomicBool = AtomicBool::new(false);

/// True if it has a `FinishRequest` that is not `Off`.
static USED: AtomicBool = AtomicBool::new(false);

/// True if it is taken for `Off` everywhere.
static IS_OFF: AtomicBool = AtomicBool::new(false);

/// `pre_config`: the configuration is going to be read, and nothing of it is known.
pub fn forget() {
    IS_OFF.store(false, Ordering::Relaxed);
    KEEP.store(false, Ordering::Relaxed);
    USED.store(false, Ordering::Relaxed);
}

/// `post_config`: whatever the configuration says, and a .htaccess later, the module is `Off`.
pub fn act_as_off() {
    IS_OFF.store(true, Ordering::Relaxed);
    USED.store(false, Ordering::Relaxed);
}

/// True if the module is not `Off` somewhere, as far as the configuration has been read: a .htaccess is when it is needed.
pub fn is_used() -> bool {
    USED.load(Ordering::Relaxed)
}

/// True if `FinishRequestConnection Keep` stands somewhere in the server's own configuration. In a .htaccess it comes too late
/// to have an effect here.
pub fn wants_keep() -> bool {
    KEEP.load(Ordering::Relaxed)
}

/// The default of `FinishRequestBypass`.
const BYPASS: [&[u8]; 2] = [b"DEFLATE", b"BROTLI_COMPRESS"];

/// The default of `FinishRequestBuffer`.
const BUFFER: Buffer = Buffer { response: 1024 * 1024, total: 64 * 1024 * 1024 };

impl Settings {
    /// Returns the value that holds for `FinishRequest`.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Off)
    }

    /// Returns the value that holds for `FinishRequestConnection`.
    pub fn connection(&self) -> After {
        self.connection.unwrap_or(After::Close)
    }

    /// Returns the value that holds for `FinishRequestBuffer`.
    pub fn buffer(&self) -> Buffer {
        self.buffer.unwrap_or(BUFFER)
    }

    /// Returns the value that holds for `FinishRequestLog`.
    pub fn log(&self) -> LogAt {
        self.log.unwrap_or(LogAt::Client)
    }

    /// Returns the value that holds for `FinishRequestMax`: the server's, or the part of it that a virtual host may have.
    pub fn max(&self) -> Max {
        self.max.unwrap_or_default()
    }

    /// Returns the value that holds for `FinishRequestTimeout`; none: the handlers' own time limits.
    pub fn time_limit(&self) -> Option<TimeLimit> {
        self.time_limit
    }

    /// Returns the value that holds for `FinishRequestOnAbort`.
    pub fn on_abort(&self) -> OnAbort {
        self.on_abort.unwrap_or(OnAbort::Stop)
    }

    /// Returns true if responses with a mark of their own skip the output filter of this name (in any case).
    pub fn bypasses(&self, filter: &[u8]) -> bool {
        match &self.bypass {
            Some(names) => names.iter().any(|name| name.eq_ignore_ascii_case(filter)),
            None => BYPASS.iter().any(|name| name.eq_ignore_ascii_case(filter)),
        }
    }
}

impl PerDir for Settings {
    fn merge(outer: &Self, inner: &Self) -> Self {
        Self {
            mode: inner.mode.or(outer.mode),
            bypass: inner.bypass.as_ref().or(outer.bypass.as_ref()).cloned(),
            connection: inner.connection.or(outer.connection),
            buffer: inner.buffer.or(outer.buffer),
            log: inner.log.or(outer.log),
            max: inner.max.or(outer.max),
            time_limit: inner.time_limit.or(outer.time_limit),
            on_abort: inner.on_abort.or(outer.on_abort),
        }
    }
}

struct FinishRequest;

impl Directive<Settings> for FinishRequest {
    const MANUAL: Manual = Manual {
        name: c"FinishRequest",
        help: c"Off, On: finish marked responses early, or Auto: besides, recognise the idioms in use",
        syntax: "FinishRequest Off|On|Auto",
        default: "FinishRequest Off",
        context: Context::FileInfo,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        let mode = match args {
            [value] if value.eq_ignore_ascii_case(b"off") => Mode::Off,
            [value] if value.eq_ignore_ascii_case(b"on") => Mode::On,
            [value] if value.eq_ignore_ascii_case(b"auto") => Mode::Auto,
            _ => return Err(refused(args, "Off, On or Auto")),
        };
        if mode != Mode::Off && !IS_OFF.load(Ordering::Relaxed) {
            USED.store(true, Ordering::Relaxed);
        }
        settings.mode = Some(mode);
        Ok(())
    }
}

struct FinishRequestBypass;

impl Directive<Settings> for FinishRequestBypass {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestBypass",
        help: c"The output filters that a response with a mark of its own skips, or none",
        syntax: "FinishRequestBypass FILTER [FILTER] ...|none",
        default: "FinishRequestBypass DEFLATE BROTLI_COMPRESS",
        context: Context::FileInfo,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        let none = |name: &&[u8]| name.eq_ignore_ascii_case(b"none");
        settings.bypass = Some(match args {
            [only] if none(only) => Arc::new([]),
            [] => return Err(refused(args, "the names of output filters, or none")),
            names if names.iter().any(|name| none(name) || name.is_empty()) => {
                return Err(refused(args, "the names of output filters, or none alone"));
            }
            names => names.iter().map(|name| Box::from(*name)).collect(),
        });
        Ok(())
    }

    /// Compression is the application's affair. What else filters responses is the administrator's.
    fn set_in_htaccess(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        let is_free = |name: &&[u8]| BYPASS.iter().any(|free| free.eq_ignore_ascii_case(name));
        match args {
            [only] if only.eq_ignore_ascii_case(b"none") => {}
            [_, ..] if args.iter().all(is_free) => {}
            _ => return Err(refused(args, "DEFLATE, BROTLI_COMPRESS or none in a .htaccess")),
        }
        Self::set(settings, args)
    }
}

struct FinishRequestConnection;

impl Directive<Settings> for FinishRequestConnection {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestConnection",
        help: c"What becomes of the client's HTTP/1 connection after a finished response: Close, or Keep it alive",
        syntax: "FinishRequestConnection Close|Keep",
        default: "FinishRequestConnection Close",
        context: Context::FileInfo,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        settings.connection = Some(match args {
            [value] if value.eq_ignore_ascii_case(b"close") => After::Close,
            [value] if value.eq_ignore_ascii_case(b"keep") => {
                KEEP.store(true, Ordering::Relaxed);
                After::Keep
            }
            _ => return Err(refused(args, "Close or Keep")),
        });
        Ok(())
    }
}

struct FinishRequestBuffer;

impl Directive<Settings> for FinishRequestBuffer {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestBuffer",
        help: c"How much of a marked response may wait in memory for a slow client, and how much in all for a child process",
        syntax: "FinishRequestBuffer BYTES [TOTAL]",
        default: "FinishRequestBuffer 1M 64M",
        context: Context::Directory,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        const ACCEPTED: &str = "one or two numbers of bytes, with K or M behind them for kilobytes or megabytes, the second \
                                not less than the first; 0 turns it off";
        let sizes: Option<Vec<usize>> = args.iter().copied().map(size).collect();
        let buffer = match sizes.as_deref() {
            Some(&[response]) => Buffer { response, total: BUFFER.total.max(response) },
            Some(&[response, total]) if total >= response => Buffer { response, total },
            _ => return Err(refused(args, ACCEPTED)),
        };
        settings.buffer = Some(buffer);
        Ok(())
    }
}

/// A number of bytes: digits, and perhaps K or M.
fn size(text: &[u8]) -> Option<usize> {
    let (digits, unit) = match text.split_last()? {
        (b'k' | b'K', digits) => (digits, 1024),
        (b'm' | b'M', digits) => (digits, 1024 * 1024),
        _ => (text, 1),
    };
    let number = digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
    number.flatten()?.checked_mul(unit)
}

struct FinishRequestLog;

impl Directive<Settings> for FinishRequestLog {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestLog",
        help: c"When a finished request is logged: when its Client is released, or at the End of its work",
        syntax: "FinishRequestLog Client|End",
        default: "FinishRequestLog Client",
        context: Context::Directory,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        settings.log = Some(match args {
            [value] if value.eq_ignore_ascii_case(b"client") => LogAt::Client,
            [value] if value.eq_ignore_ascii_case(b"end") => LogAt::End,
            _ => return Err(refused(args, "Client or End")),
        });
        Ok(())
    }
}

struct FinishRequestMax;

impl Directive<Settings> for FinishRequestMax {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestMax",
        help: c"How many requests may run on after their clients were released, at once: a number, PERCENT% of the workers, or none",
        syntax: "FinishRequestMax NUMBER|PERCENT%|none",
        default: "FinishRequestMax 75%",
        context: Context::VirtualHost,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        let max = match args {
            [value] => Max::parse(value),
            _ => None,
        };
        let accepted = "a number of requests, a percentage of the workers from 1% to 100%, or none";
        settings.max = Some(max.ok_or_else(|| refused(args, accepted))?);
        Ok(())
    }
}

struct FinishRequestTimeout;

impl Directive<Settings> for FinishRequestTimeout {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestTimeout",
        help: c"How many seconds background work may run, or none: without a limit",
        syntax: "FinishRequestTimeout SECONDS|none",
        default: "FinishRequestTimeout (unset: the handler's own time limits)",
        context: Context::Directory,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        let seconds = |value: &[u8]| {
            let digits = value.iter().all(u8::is_ascii_digit);
            str::from_utf8(value).ok()?.parse::<u32>().ok().filter(|seconds| digits && *seconds > 0)
        };
        let limit = match args {
            [value] if value.eq_ignore_ascii_case(b"none") => Some(TimeLimit::Never),
            [value] => seconds(value).map(|seconds| TimeLimit::After(Duration::from_secs(seconds.into()))),
            _ => None,
        };
        settings.time_limit =
            Some(limit.ok_or_else(|| refused(args, &format!("a number of seconds from 1 to {}, or none", u32::MAX)))?);
        Ok(())
    }
}

struct FinishRequestOnAbort;

impl Directive<Settings> for FinishRequestOnAbort {
    const MANUAL: Manual = Manual {
        name: c"FinishRequestOnAbort",
        help: c"Whether the application is to Stop or to Continue when its client goes away too early",
        syntax: "FinishRequestOnAbort Stop|Continue",
        default: "FinishRequestOnAbort Stop",
        context: Context::FileInfo,
    };

    fn set(settings: &mut Settings, args: Args<'_>) -> Result<(), String> {
        settings.on_abort = Some(match args {
            [value] if value.eq_ignore_ascii_case(b"stop") => OnAbort::Stop,
            [value] if value.eq_ignore_ascii_case(b"continue") => OnAbort::Continue,
            _ => return Err(refused(args, "Stop or Continue")),
        });
        Ok(())
    }
}

/// The sentence about a wrong value: httpd puts the file and line, and the module the directive, before it.
fn refused(args: Args<'_>, accepted: &str) -> String {
    let value = args.iter().map(|arg| crate::rules::quote::escaped(arg)).collect::<Vec<_>>().join(" ");
    match args {
        [] => format!("there is no value; it takes {accepted}"),
        _ => format!("the value '{value}' is not understood; it takes {accepted}"),
    }
}

/// The table, as httpd reads it and as the manual has it.
macro_rules! directives {
    ($($directive:ty),* $(,)?) => {
        /// The directives as the manual, `docs/directives.md`, has them.
        pub const MANUAL: &[Manual] = &[$(<$directive>::MANUAL),*];

        /// For the module record.
        pub(crate) static COMMANDS: Commands<{ MANUAL.len() }> = Commands::new([$(command::<_, $directive>()),*]);
    };
}

directives!(
    FinishRequest,
    FinishRequestBypass,
    FinishRequestConnection,
    FinishRequestBuffer,
    FinishRequestLog,
    FinishRequestMax,
    FinishRequestTimeout,
    FinishRequestOnAbort,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn set<D: Directive<Settings>>(args: Args<'_>) -> Result<Settings, String> {
        let mut settings = Settings::default();
        D::set(&mut settings, args).map(|()| settings)
    }

    #[test]
    fn unset_settings_have_the_defaults() {
        let settings = Settings::default();
        assert_eq!(settings.mode(), Mode::Off);
        assert!(settings.bypasses(b"deflate") && settings.bypasses(b"brotli_compress"));
        assert!(!settings.bypasses(b"includes"));
    }

    #[test]
    fn the_inner_setting_wins_and_an_unset_one_is_inherited() {
        let outer = set::<FinishRequest>(&[b"on"])
            .and_then(|_| set::<FinishRequestBypass>(&[b"none"]))
            .map(|outer| Settings { mode: Some(Mode::On), ..outer });
        let inner = set::<FinishRequest>(&[b"OFF"]);
        let (Ok(outer), Ok(inner)) = (outer, inner) else { unreachable!() };
        let merged = Settings::merge(&outer, &inner);
        assert_eq!(merged.mode(), Mode::Off);
        assert!(!merged.bypasses(b"deflate"));
        assert_eq!(Settings::merge(&outer, &Settings::default()).mode(), Mode::On);
    }

    #[test]
    fn a_htaccess_may_bypass_compression_alone() {
        let set = |args| FinishRequestBypass::set_in_htaccess(&mut Settings::default(), args);
        let allowed: [Args<'_>; 3] = [&[b"DEFLATE"], &[b"brotli_compress", b"Deflate"], &[b"NONE"]];
        for args in allowed {
            assert_eq!(set(args), Ok(()));
        }
        let refused: [Args<'_>; 8] = [
            &[],
            &[b""],
            &[b"SED"],
            &[b"DEFLATE", b"INCLUDES"],
            &[b"includes", b"deflate"],
            &[b"BYTYPE:DEFLATE"],
            &[b"DEFLATE "],
            &[b"none", b"DEFLATE"],
        ];
        for args in refused {
            assert!(
                set(args).is_err_and(|sentence| sentence.ends_with("DEFLATE, BROTLI_COMPRESS or none in a .htaccess"))
            );
        }
    }

    #[test]
    fn sizes_have_units() {
        let buffer = |args| set::<FinishRequestBuffer>(args).map(|settings| settings.buffer());
        let mega = 1024 * 1024;
        assert_eq!(buffer(&[b"0"]), Ok(Buffer { response: 0, total: 64 * mega }));
        assert_eq!(buffer(&[b"100k", b"2m"]), Ok(Buffer { response: 102_400, total: 2 * mega }));
        assert_eq!(buffer(&[b"100M"]), Ok(Buffer { response: 100 * mega, total: 100 * mega }));
        assert_eq!(Settings::default().buffer(), Buffer { response: mega, total: 64 * mega });
    }

    #[test]
    fn a_bypass_list_replaces_the_default() {
        let Ok(settings) = set::<FinishRequestBypass>(&[b"SUBSTITUTE"]) else { unreachable!() };
        assert!(settings.bypasses(b"substitute") && !settings.bypasses(b"deflate"));
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_accepted() {
        let wrong: [Args<'_>; 3] = [&[], &[b"maybe"], &[b"on", b"off"]];
        for wrong in wrong {
            let sentence = set::<FinishRequest>(wrong).err();
            assert!(sentence.is_some_and(|sentence| sentence.contains("Off, On or Auto")));
        }
        let wrong: [Args<'_>; 7] =
            [&[], &[b""], &[b"K"], &[b"-1"], &[b"1G"], &[b"2M", b"1M"], &[b"99999999999999999999"]];
        for wrong in wrong {
            assert!(set::<FinishRequestBuffer>(wrong).is_err());
        }
        let wrong: [Args<'_>; 4] = [&[], &[b"none", b"DEFLATE"], &[b"DEFLATE", b"None"], &[b""]];
        for wrong in wrong {
            assert!(set::<FinishRequestBypass>(wrong).is_err());
        }
        let wrong: [Args<'_>; 4] = [&[], &[b"go on"], &[b""], &[b"stop", b"continue"]];
        for wrong in wrong {
            assert!(set::<FinishRequestOnAbort>(wrong).is_err());
        }
        assert_eq!(
            set::<FinishRequest>(&[b"may\x07be"]).err().as_deref(),
            Some("the value 'may\\x07be' is not understood; it takes Off, On or Auto")
        );
    }

    #[test]
    fn the_inner_time_limit_wins() {
        let outer = Settings {
            time_limit: Some(TimeLimit::After(Duration::from_secs(5))),
            on_abort: Some(OnAbort::Continue),
            ..Settings::default()
        };
        let inner =
            Settings { time_limit: Some(TimeLimit::Never), on_abort: Some(OnAbort::Stop), ..Settings::default() };
        let inherited = Settings::merge(&outer, &Settings::default());
        assert_eq!((inherited.time_limit(), inherited.on_abort()), (outer.time_limit, OnAbort::Continue));
        let merged = Settings::merge(&outer, &inner);
        assert_eq!((merged.time_limit(), merged.on_abort()), (Some(TimeLimit::Never), OnAbort::Stop));
    }

    #[test]
    fn a_time_limit_is_a_number_of_seconds() {
        let limit = |arg: &[u8]| set::<FinishRequestTimeout>(&[arg]).ok().and_then(|settings| settings.time_limit());
        let after = |seconds| Some(TimeLimit::After(Duration::from_secs(seconds)));
        assert_eq!(Settings::default().time_limit(), None);
        assert_eq!(limit(b"None"), Some(TimeLimit::Never));
        assert_eq!((limit(b"1"), limit(b"0300")), (after(1), after(300)));
        assert_eq!(limit(b"4294967295"), after(4_294_967_295));
        for wrong in
            [&b"0"[..], b"-1", b"+1", b"1.5", b"5s", b"", b" 1", b"4294967296", b"99999999999999999999", b"\xff"]
        {
            assert_eq!(limit(wrong), None);
        }
        assert!(set::<FinishRequestTimeout>(&[]).is_err());
        assert!(set::<FinishRequestTimeout>(&[b"1", b"2"]).is_err());
    }
}
