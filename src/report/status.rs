//! The section of mod_status's page: counts, and the requests in background work.

use std::fmt::Write;

use crate::background::{self, Entry, Overview};
use crate::httpd::{Reply, Request, StatusFlags, StatusHook, now};
use crate::rules::VERSION;

/// The end of the page of `/server-status`.
pub struct StatusPage;

impl StatusHook for StatusPage {
    fn status_hook(request: Request<'_>, flags: StatusFlags) -> Reply {
        let Some(overview) = background::overview() else { return Reply::Declined };
        let text = if flags.is_short() {
            short(&overview)
        } else {
            // Whose requests they are is for those who may see the requests of others too: as mod_status has it.
            let entries = flags.is_extended().then(background::entries);
            page(&overview, &entries.into_iter().flatten().collect::<Vec<_>>(), now(), !flags.has_no_tables())
        };
        // An error says that the client has gone, which mod_status finds out too.
        let _ = request.write(&text);
        Reply::Ok
    }
}

/// Lines for programs: `?auto`.
fn short(overview: &Overview) -> String {
    let Overview { finished, running, kept, over_limit, timed_out, .. } = overview;
    format!(
        "FinishRequestVersion: {}\nFinishRequestFinished: {finished}\nFinishRequestRunning: {running}\nFinishRequestKept: {kept}\n\
         FinishRequestOverLimit: {over_limit}\nFinishRequestTimedOut: {timed_out}\n",
        env!("CARGO_PKG_VERSION"),
    )
}

/// A part of a page: with a table, or for browsers that have none.
fn page(overview: &Overview, entries: &[Entry], now: i64, table: bool) -> String {
    let Overview { finished, running, limit, kept, over_limit, timed_out } = overview;
    let mut text = format!(
        "<hr />\n<h2>Requests finished early</h2>\n<dl>\n<dt>{VERSION}</dt>\n\
         <dt>Finished: {finished}, in background work now: {running} of at most {limit}</dt>\n\
         <dt>Connections kept: {kept}, over the limit: {over_limit}, timed out: {timed_out}</dt>\n</dl>\n"
    );
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

    #[test]
    fn lines_for_programs() {
        assert_eq!(
            short(&OVERVIEW),
            concat!("FinishRequestVersion: ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
                + "FinishRequestFinished: 1\nFinishRequestRunning: 2\nFinishRequestKept: 4\n\
             FinishRequestOverLimit: 5\nFinishRequestTimedOut: 6\n"
        );
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
            let text = page(&OVERVIEW, std::slice::from_ref(&entry), 7_999_999, table);
            for part in ["&lt;b&gt;&amp;\\xe4", "GET /&quot;&#39;&gt;\\x0a\\x00\\x7f HTTP/1.1", "header", "7", "2"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(text.contains("<table"), table);
            assert!(!text.contains("<b>&"));
        }
        // The clock may have been set back.
        assert!(page(&OVERVIEW, &[entry], 0, true).contains("<td>0</td>"));
        assert!(!page(&OVERVIEW, &[], 0, true).contains("<table"));
    }
}
