//! The section of mod_status's page: counts, and the requests in background work.

use std::fmt::Write;

use crate::background::{self, Entry, Overview};
use crate::httpd::{Reply, Request, StatusFlags, StatusHook, now};
use crate::rules::VERSION;
use crate::rules::quote::escaped;

/// A virtual host: its name, and its figures.
type Host = (Vec<u8>, Overview);

/// The end of the page of `/server-status`.
pub struct StatusPage;

impl StatusHook for StatusPage {
    fn status_hook(request: Request<'_>, flags: StatusFlags) -> Reply {
        let Some(overview) = background::overview() else { return Reply::Declined };
        // Whose requests they are is for those who may see the requests of others too: as mod_status has it.
        let hosts = if flags.is_extended() { background::hosts() } else { Vec::new() };
        let text = if flags.is_short() {
            short(&overview, &hosts)
        } else {
            let entries = flags.is_extended().then(background::entries);
            let entries: Vec<_> = entries.into_iter().flatten().collect();
            page(&overview, &hosts, &entries, now(), !flags.has_no_tables())
        };
        // An error says that the client has gone, which mod_status finds out too.
        let _ = request.write(&text);
        Reply::Ok
    }
}

/// The numbers, by their names for programs.
fn numbers(overview: &Overview) -> [(&'static str, u64); 6] {
    let &Overview { finished, running, limit, kept, over_limit, timed_out } = overview;
    [
        ("Finished", finished),
        ("Running", running.into()),
        ("Max", limit.into()),
        ("Kept", kept),
        ("OverLimit", over_limit),
        ("TimedOut", timed_out),
    ]
}

/// Lines for programs: `?auto`.
fn short(overview: &Overview, hosts: &[Host]) -> String {
    let mut text = concat!("FinishRequestVersion: ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
    // Writing to a String does not fail.
    for (name, number) in numbers(overview) {
        _ = writeln!(text, "FinishRequest{name}: {number}");
    }
    for (index, (host, overview)) in hosts.iter().enumerate() {
        _ = writeln!(text, "FinishRequestHost[{index}]Name: {}", escaped(host));
        for (name, number) in numbers(overview) {
            _ = writeln!(text, "FinishRequestHost[{index}]{name}: {number}");
        }
    }
    text
}

/// A part of a page: with a table, or for browsers that have none.
fn page(overview: &Overview, hosts: &[Host], entries: &[Entry], now: i64, table: bool) -> String {
    let Overview { finished, running, limit, kept, over_limit, timed_out } = overview;
    let mut text = format!(
        "<hr />\n<h2>Requests finished early</h2>\n<dl>\n<dt>{VERSION}</dt>\n\
         <dt>Finished: {finished}, in background work now: {running} of at most {limit}</dt>\n\
         <dt>Connections kept: {kept}, over the limit: {over_limit}, timed out: {timed_out}</dt>\n</dl>\n"
    );
    text += &host_table(hosts, table);
    if entries.is_empty() {
        return text;
    }
    // Writing to a String does not fail.
    if table {
        text += "<table border=\"0\"><tr><th>PID</th><th>Seconds</th><th>Marked by</th><th>VHost</th><th>Request</th></tr>\n";
    }
    for entry in entries {
        let Entry { pid, since, source, vhost, request } = entry;
        let (seconds, source) = ((now - since).max(0) / 1_000_000, source.as_str());
        let (vhost, request) = (html(vhost), html(request));
        _ = if table {
            writeln!(
                text,
                "<tr><td>{pid}</td><td>{seconds}</td><td>{source}</td><td nowrap>{vhost}</td><td nowrap>{request}</td></tr>"
            )
        } else {
            writeln!(text, "<b>pid {pid}</b> {seconds} s, marked by {source}, <i>{vhost} {{{request}}}</i><br />")
        };
    }
    if table {
        text += "</table>\n";
    }
    text
}

/// The virtual hosts. Where there is but one, its figures are the server's.
fn host_table(hosts: &[Host], table: bool) -> String {
    let mut text = String::new();
    if hosts.len() < 2 {
        return text;
    }
    if table {
        text += "<table border=\"0\"><tr><th>VHost</th><th>Finished</th><th>In background work</th><th>Of at most</th>\
                 <th>Connections kept</th><th>Over the limit</th><th>Timed out</th></tr>\n";
    }
    for (name, overview) in hosts {
        let (name, Overview { finished, running, limit, kept, over_limit, timed_out }) = (html(name), overview);
        // Writing to a String does not fail.
        _ = if table {
            writeln!(
                text,
                "<tr class=\"vhost\"><td nowrap>{name}</td><td>{finished}</td><td>{running}</td><td>{limit}</td><td>{kept}</td>\
                 <td>{over_limit}</td><td>{timed_out}</td></tr>"
            )
        } else {
            writeln!(
                text,
                "<i>{name}</i> finished {finished}, in background work {running} of at most {limit}, connections kept {kept}, over the \
                 limit {over_limit}, timed out {timed_out}<br />"
            )
        };
    }
    if table {
        text += "</table>\n";
    }
    text
}

/// Text for a page: bytes that are no printable ASCII become `\xNN`.
fn html(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'<' => text.push_str("&lt;"),
            b'>' => text.push_str("&gt;"),
            b'&' => text.push_str("&amp;"),
            b'"' => text.push_str("&quot;"),
            b'\'' => text.push_str("&#39;"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::mark::Source;

    const OVERVIEW: Overview = Overview { finished: 1, running: 2, limit: 3, kept: 4, over_limit: 5, timed_out: 6 };

    fn hosts() -> Vec<Host> {
        let overview = |finished| Overview { finished, running: 8, limit: 9, kept: 10, over_limit: 11, timed_out: 12 };
        vec![(b"a.example".to_vec(), overview(7)), (b"<b>\n".to_vec(), overview(6))]
    }

    #[test]
    fn lines_for_programs() {
        let server = concat!("FinishRequestVersion: ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
            + "FinishRequestFinished: 1\nFinishRequestRunning: 2\nFinishRequestMax: 3\nFinishRequestKept: 4\n\
               FinishRequestOverLimit: 5\nFinishRequestTimedOut: 6\n";
        assert_eq!(short(&OVERVIEW, &[]), server);
        assert_eq!(
            short(&OVERVIEW, &hosts()),
            server
                + "FinishRequestHost[0]Name: a.example\nFinishRequestHost[0]Finished: 7\nFinishRequestHost[0]Running: 8\n\
                   FinishRequestHost[0]Max: 9\nFinishRequestHost[0]Kept: 10\nFinishRequestHost[0]OverLimit: 11\n\
                   FinishRequestHost[0]TimedOut: 12\n\
                   FinishRequestHost[1]Name: <b>\\x0a\nFinishRequestHost[1]Finished: 6\nFinishRequestHost[1]Running: 8\n\
                   FinishRequestHost[1]Max: 9\nFinishRequestHost[1]Kept: 10\nFinishRequestHost[1]OverLimit: 11\n\
                   FinishRequestHost[1]TimedOut: 12\n"
        );
    }

    #[test]
    fn hosts_are_shown_where_there_are_several() {
        let one: Vec<_> = hosts().into_iter().take(1).collect();
        assert!(!page(&OVERVIEW, &one, &[], 0, true).contains("a.example"));
        for table in [true, false] {
            let text = page(&OVERVIEW, &hosts(), &[], 0, table);
            assert!(text.contains("a.example") && text.contains("&lt;b&gt;\\x0a") && !text.contains("<b>"), "{text}");
            assert_eq!(text.contains("<table"), table);
        }
    }

    #[test]
    fn nothing_of_a_request_is_markup() {
        let entry = Entry {
            pid: 7,
            since: 5_000_000,
            source: Source::Header,
            vhost: b"<b>&\xe4".to_vec(),
            request: b"GET /\"'>\n\x00\x7f HTTP/1.1".to_vec(),
        };
        for table in [true, false] {
            let text = page(&OVERVIEW, &[], std::slice::from_ref(&entry), 7_999_999, table);
            for part in ["&lt;b&gt;&amp;\\xe4", "GET /&quot;&#39;&gt;\\x0a\\x00\\x7f HTTP/1.1", "header", "7", "2"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(text.contains("<table"), table);
            assert!(!text.contains("<b>&"));
        }
        // The clock may have been set back.
        assert!(page(&OVERVIEW, &[], &[entry], 0, true).contains("<td>0</td>"));
        assert!(!page(&OVERVIEW, &[], &[], 0, true).contains("<table"));
    }
}
