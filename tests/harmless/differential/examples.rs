//! Cases that have names: applications that declare something odd or wrong, as they are in the wild.

use super::case::{App, Case, LONG, Piece, Step, Way};

pub fn all() -> Vec<Case> {
    let groups = [
        characters_counted(),
        a_newline_more(),
        a_footer_that_is_gone(),
        no_chunk_in_it(),
        a_slice_of_a_page(),
        a_client_that_closes(),
        an_ordinary_page(),
        a_head_of_a_file(),
        late_words(),
        found_before(),
        a_text_in_two_records(),
        a_redirect_with_a_text(),
    ];
    groups.concat()
}

/// The length counts characters, and some of them have more than one byte.
fn characters_counted() -> Vec<Case> {
    let text = format!("Zażółć gęślą jaźń. {}→", "Only ASCII from here on. ".repeat(9));
    let steps =
        vec![text_plain(), length(text.chars().count()), close(), Step::Write(vec![Piece::Raw(text)]), Step::Flush];
    [Way::Close, Way::Kept, Way::H2Tls]
        .into_iter()
        .flat_map(|way| {
            let case = Case::get(App::Php, way, steps.clone());
            [case.clone(), case.with("Accept-Encoding", "gzip")]
        })
        .collect()
}

/// A shell's `echo` adds a newline that its length leaves out.
fn a_newline_more() -> Vec<Case> {
    let steps = vec![
        text_plain(),
        length(110),
        close(),
        Step::Write(vec![Piece::Data('T', 0, 110), Piece::Raw("\n".to_owned())]),
    ];
    [Way::Http10, Way::Close, Way::Kept, Way::H2].map(|way| Case::get(App::Cgi, way, steps.clone())).into()
}

/// The template had a footer once; its length is still counted.
fn a_footer_that_is_gone() -> Vec<Case> {
    let steps = vec![text_plain(), length(145), close(), data(113)];
    [Way::Http10, Way::Close, Way::Tls, Way::H2].map(|way| Case::get(App::Cgi, way, steps.clone())).into()
}

/// It says that it chunks, and does not; what it says instead may look like a chunk's size.
fn no_chunk_in_it() -> Vec<Case> {
    ["Opening hours\r\n", "face the wall\r\n"]
        .into_iter()
        .flat_map(|first| {
            let steps = vec![text_plain(), own_chunks(), raw(first), data(264), Step::Flush];
            [Way::Close, Way::H2Tls].map(|way| Case::get(App::Php, way, steps.clone()))
        })
        .collect()
}

/// Sent, right, before the script ends, and asked for in part.
fn a_slice_of_a_page() -> Vec<Case> {
    let steps = vec![text_plain(), length(210), close(), data(210), Step::Flush, Step::Pause(50)];
    [App::Php, App::Lua, App::Cgi]
        .map(|app| Case::get(app, Way::Kept, steps.clone()).with("Range", "bytes=10-24"))
        .into()
}

/// A right length, and a connection that is closed anyway.
fn a_client_that_closes() -> Vec<Case> {
    let steps = vec![text_plain(), length(297), data(297), Step::Flush, Step::Pause(50)];
    [App::Php, App::Lua, App::Cgi]
        .into_iter()
        .flat_map(|app| [Way::Http10, Way::Close].map(|way| Case::get(app, way, steps.clone())))
        .collect()
}

/// The commonest page: its script ends right behind the body.
fn an_ordinary_page() -> Vec<Case> {
    let steps = vec![Step::Header("Content-Type: text/html".to_owned()), length(390), data(390)];
    [Way::Kept, Way::H2].map(|way| Case::get(App::Php, way, steps.clone())).into()
}

fn a_head_of_a_file() -> Vec<Case> {
    [Way::Kept, Way::H2Tls]
        .map(|way| {
            let mut case = Case::get(App::File, way, Vec::new()).with("Accept-Encoding", "gzip");
            case.method = "HEAD";
            case
        })
        .into()
}

/// Written behind a length that was right, and later: the one thing that `Auto` drops.
fn late_words() -> Vec<Case> {
    let steps = vec![text_plain(), close(), length(200), data(200), Step::Flush, Step::Pause(LONG), data(50)];
    [App::Lua, App::Php, App::Cgi, App::Origin]
        .into_iter()
        .flat_map(|app| [Way::Close, Way::H2].map(|way| Case::get(app, way, steps.clone())))
        .collect()
}

/// PHP makes two FastCGI records of a large text, and eight bytes divide the first: the rest, which the length leaves out, is in the second.
/// mod_proxy_fcgi cuts it at its own buffer's size as well.
fn a_text_in_two_records() -> Vec<Case> {
    let all = |bytes| vec![Piece::Data('T', 0, bytes), Piece::Raw("→".to_owned())];
    let pages = [(20_000, 19_999), (8192, 8191), (16_384, 30_000), (65_528, 70_000)];
    let steps =
        |(declared, written)| vec![text_plain(), length(declared), close(), Step::Write(all(written)), Step::Flush];
    pages
        .map(steps)
        .into_iter()
        .flat_map(|steps| [Way::Close, Way::H2].map(|way| Case::get(App::Php, way, steps.clone())))
        .collect()
}

/// Nothing says that it has no body.
fn a_redirect_with_a_text() -> Vec<Case> {
    let location = Step::Header("Location: /elsewhere".to_owned());
    let steps = vec![Step::Status(302), location, Step::Flush, Step::Pause(LONG), data(50), Step::Flush];
    [App::Lua, App::Php]
        .into_iter()
        .flat_map(|app| [Way::Close, Way::H2].map(|way| Case::get(app, way, steps.clone())))
        .collect()
}

/// Others that were wrong once, as they were found.
fn found_before() -> Vec<Case> {
    let mut head = Case::get(App::Cgi, Way::H2, vec![text_plain(), length(100), Step::Flush, Step::Pause(LONG)]);
    head.method = "HEAD";
    let short = vec![text_plain(), close(), length(245), data(256), Step::Flush, Step::Pause(20)];
    let twice =
        vec![text_plain(), close(), length(40), length(40), data(40), Step::Flush, Step::Pause(LONG), data(100)];
    let no_such_range = |app, way| {
        let page = Step::Write(vec![Piece::Data('T', 0, 1), Piece::Digits(0, 64)]);
        Case::get(app, way, vec![text_plain(), page, Step::Pause(5)]).with("Range", "bytes=90000000-")
    };
    let last = raw("4\r\nlast\r\n0\r\n\r\n");
    let parts = vec![text_plain(), close(), length(1507), data(7), Step::Pause(30), data(1500), Step::Pause(5)];
    vec![
        head,
        Case::get(App::Lua, Way::Close, short).with("Accept-Encoding", "gzip"),
        Case::get(App::Cgi, Way::Close, vec![text_plain(), close(), length(132), data(100), Step::Pause(20)]),
        Case::get(App::Cgi, Way::H2, vec![text_plain(), length(100), data(100), Step::Flush, Step::Pause(LONG)]),
        Case::get(App::Php, Way::Close, twice),
        Case::get(App::Php, Way::H2, vec![text_plain(), own_chunks(), data(280), Step::Flush]),
        Case::get(App::Php, Way::Kept, vec![text_plain(), own_chunks(), last, Step::Flush, Step::Pause(LONG)]),
        Case::get(App::Php, Way::Close, parts).with("Accept-Encoding", "gzip").with("Range", "bytes=10-24"),
        no_such_range(App::Cgi, Way::Kept),
        no_such_range(App::Php, Way::Tls).with("Accept-Encoding", "gzip"),
    ]
}

fn text_plain() -> Step {
    Step::Header("Content-Type: text/plain".to_owned())
}

fn close() -> Step {
    Step::Header("Connection: close".to_owned())
}

fn own_chunks() -> Step {
    Step::Header("Transfer-Encoding: chunked".to_owned())
}

fn length(bytes: usize) -> Step {
    Step::Header(format!("Content-Length: {bytes}"))
}

fn data(bytes: usize) -> Step {
    Step::Write(vec![Piece::Data('T', 0, bytes)])
}

fn raw(text: &str) -> Step {
    Step::Write(vec![Piece::Raw(text.to_owned())])
}
