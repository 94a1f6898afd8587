#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::declared::Standing;
use super::*;
use crate::rules::quote::escaped;
use proptest::prelude::*;

const TOKEN: &str = "0123456789abcdef";

fn boundary(token: &str) -> Result<Mark, Error> {
    Ok(Mark::Boundary(Token::new(token.as_bytes()).unwrap()))
}

#[test]
fn each_mark_parses() {
    assert_eq!(parse(b"on"), Ok(Mark::On));
    assert_eq!(parse(b"off"), Ok(Mark::Off));
    assert_eq!(parse(b"flush"), Ok(Mark::Flush));
    assert_eq!(parse(b"length=0"), Ok(Mark::Length(0)));
    assert_eq!(parse(b"length=65536"), Ok(Mark::Length(65_536)));
    assert_eq!(parse(b"boundary=\"0123456789abcdef\""), boundary(TOKEN));
}

#[test]
fn case_and_space_around_do_not_matter() {
    assert_eq!(parse(b" \tOn\t "), Ok(Mark::On));
    assert_eq!(parse(b"OFF"), Ok(Mark::Off));
    assert_eq!(parse(b"Length=7 "), Ok(Mark::Length(7)));
    assert_eq!(parse(b"BOUNDARY=\"0123456789abcdef\"\t"), boundary(TOKEN));
    // A token is a token: its case matters.
    assert_ne!(parse(b"boundary=\"0123456789ABCDEF\""), boundary(TOKEN));
}

#[test]
fn empty_parameters_are_ignored() {
    for value in [&b"on;"[..], b";on", b" ; ;\ton ;; "] {
        assert_eq!(parse(value), Ok(Mark::On), "{}", value.escape_ascii());
    }
    for value in [&b""[..], b" ", b";", b" ;\t; "] {
        assert_eq!(parse(value), Err(Error::Empty), "{}", value.escape_ascii());
    }
}

#[test]
fn one_parameter_is_the_limit() {
    for value in [
        &b"on;on"[..],
        b"on; off",
        b"off; on",
        b"on; color=red",
        b"length=5;length=5",
        b"length=5 ; on",
        b"length=5 on",
        b"on off",
        b"on, on",
        b"flush;length=1",
        b"boundary=\"0123456789abcdef\"; flush",
    ] {
        assert_eq!(parse(value), Err(Error::Several), "{}", value.escape_ascii());
    }
}

#[test]
fn what_is_not_known_is_no_mark() {
    for value in [
        &b"yes"[..],
        b"1",
        b"onn",
        b"o",
        b"color=red; on",
        b"lenght=5",
        b"\"on\"",
        b"=5",
        b"\0",
        b"\xffon",
        "ön".as_bytes(),
        b"\r\non",
    ] {
        assert_eq!(parse(value), Err(Error::Unknown), "{}", value.escape_ascii());
    }
    for value in [&b"on\0"[..], b"on\r", b"on\x0b", b"off\xa0"] {
        assert_eq!(parse(value), Err(Error::Several), "{}", value.escape_ascii());
    }
}

#[test]
fn what_takes_no_value_takes_none() {
    for value in [&b"on=1"[..], b"off=", b"flush=\"\"", b"on=1; off"] {
        assert_eq!(parse(value), Err(Error::Value), "{}", value.escape_ascii());
    }
}

#[test]
fn a_length_is_digits_that_fit() {
    assert_eq!(parse(b"length=9223372036854775807"), Ok(Mark::Length(MAX_LENGTH)));
    assert_eq!(parse(b"length=0000000000000000000000000000012"), Ok(Mark::Length(12)));
    assert_eq!(parse(b"length=\"12\""), Ok(Mark::Length(12)));
    assert_eq!(parse(b"length=\"1\\2\""), Ok(Mark::Length(12)));
    for value in [
        &b"length"[..],
        b"length=",
        b"length =5",
        b"length= 5",
        b"length=;on",
        b"length=\"\"",
        b"length=\" 5\"",
        b"length=\"5",
        b"length=\"5\"5",
        b"length=-1",
        b"length=+1",
        b"length=0x10",
        b"length=1e3",
        b"length=1.0",
        b"length=1_000",
        b"length=1,2",
        b"length=5\0",
        b"length=\xd9\xa1",
        b"length=9223372036854775808",
        b"length=18446744073709551615",
        b"length=18446744073709551616",
        b"length=99999999999999999999999999999999999999999",
    ] {
        // Of `length =5` and the like the name is known, so what is wrong is its value.
        assert_eq!(parse(value), Err(Error::Length), "{}", value.escape_ascii());
    }
}

#[test]
fn a_boundary_is_16_to_70_boundary_characters() {
    let all = "'()+_,-./:=? 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn";
    assert_eq!(parse(format!("boundary=\"{all}\"").as_bytes()), boundary(all));
    let long = "x".repeat(70);
    assert_eq!(parse(format!("boundary=\"{long}\"").as_bytes()), boundary(&long));
    assert_eq!(parse(b"boundary=0123456789abcdef"), boundary(TOKEN));
    assert_eq!(parse(b"boundary=\"\\0123456789abc\\def\""), boundary(TOKEN));
    assert_eq!(parse(b"boundary=\" ;\""), Err(Error::Boundary));
    for value in [
        &b"boundary"[..],
        b"boundary=",
        b"boundary=\"\"",
        b"boundary=\"0123456789abcde\"",
        b"boundary=\"0123456789abcdef",
        b"boundary=\"0123456789abcdef\\\"",
        b"boundary=\"0123456789abcdef\"x",
        b"boundary=\"0123456789abcdef \"",
        b"boundary=\"0123456789abc;def\"",
        b"boundary=\"0123456789abc\\\"def\"",
        b"boundary=\"0123456789abc\\\\def\"",
        b"boundary=\"0123456789abc\tdef\"",
        b"boundary=\"0123456789abc\0def\"",
        b"boundary=\"0123456789abc\xffdef\"",
        b"boundary=0123456789abcdef/",
        b"boundary='0123456789 abcdef'",
        b"boundary= \"0123456789abcdef\"",
    ] {
        assert_eq!(parse(value), Err(Error::Boundary), "{}", value.escape_ascii());
    }
    let longer = format!("boundary=\"{}\"", "x".repeat(71));
    assert_eq!(parse(longer.as_bytes()), Err(Error::Boundary));
    assert_eq!(Token::new(all.as_bytes()).unwrap().as_bytes(), all.as_bytes());
}

#[test]
#[cfg_attr(miri, ignore = "too large for an interpreter")]
fn a_huge_value_is_refused_like_a_small_one() {
    assert_eq!(parse(&b"x".repeat(1 << 20)), Err(Error::Unknown));
    assert_eq!(parse(&b";".repeat(1 << 20)), Err(Error::Empty));
    assert_eq!(parse(&[&b"length="[..], &b"9".repeat(1 << 20)].concat()), Err(Error::Length));
    assert_eq!(parse(&[&b"boundary=\""[..], &b"\\x".repeat(1 << 20)].concat()), Err(Error::Boundary));
}

#[test]
fn errors_say_what_is_accepted() {
    for error in [
        Error::Empty,
        Error::Unknown,
        Error::Several,
        Error::Value,
        Error::Length,
        Error::Boundary,
        Error::Repeated,
        Error::Late,
    ] {
        let text = error.to_string();
        assert!(
            text.ends_with(
                "; accepted is one of: on, length=N, boundary=\"TOKEN\", flush, off; and late in the variable"
            )
        );
    }
}

fn choice(said: &Said<'_>) -> Choice {
    choose(said).0
}

#[test]
fn who_is_first_wins() {
    let auto = Said { auto: true, ..Said::default() };
    assert_eq!(choice(&auto), Choice::Declared);
    let env = Said { env: &[b"length=1", b"length=2"], ..auto };
    assert_eq!(choice(&env), Choice::Marked(Mark::Length(1), Source::Env));
    let header = Said { header: &[b"flush"], ..env };
    assert_eq!(choice(&header), Choice::Marked(Mark::Flush, Source::Header));
    let api = Said { api: true, ..header };
    assert_eq!(choice(&api), Choice::Marked(Mark::Flush, Source::Api));
    assert_eq!(choice(&Said::default()), Choice::Unmarked);
}

#[test]
fn late_is_for_the_variable_and_behind_all_others() {
    let auto = Said { auto: true, ..Said::default() };
    assert_eq!(choose(&Said { env: &[b" Late;"], ..Said::default() }), (Choice::Unmarked, vec![]));
    assert_eq!(choice(&Said { env: &[b"late"], ..auto }), Choice::Declared);
    assert_eq!(
        choice(&Said { env: &[b"late"], header: &[b"flush"], ..auto }),
        Choice::Marked(Mark::Flush, Source::Header)
    );
    assert_eq!(choice(&Said { env: &[b"late", b"flush"], ..Said::default() }), Choice::Unmarked);
    assert_eq!(choice(&Said { env: &[b"flush", b"late"], ..auto }), Choice::Marked(Mark::Flush, Source::Env));
    assert_eq!(choice(&Said { env: &[b"late", b"off"], ..auto }), Choice::Off);
    let header = Said { header: &[b"late"], ..auto };
    assert_eq!(
        choose(&header),
        (Choice::Unmarked, vec![Rejected { source: Source::Header, value: b"late", error: Error::Late }])
    );
    assert_eq!(parse(b"late=1"), Err(Error::Value));

    assert!(is_late([&b"LATE"[..]]) && is_late([&b"late"[..], b"on"]));
    let others: [&[&[u8]]; 5] = [&[], &[b"on", b"late"], &[b"late", b"off"], &[b"late", b"what"], &[b"what"]];
    assert!(!others.into_iter().any(|env| is_late(env.iter().copied())));
}

#[test]
fn off_anywhere_wins() {
    let all = Said { api: true, header: &[b"on"], env: &[b"on"], auto: true };
    let header = Said { header: &[b"off"], ..all };
    assert_eq!(choose(&header), (Choice::Off, vec![]));
    assert_eq!(choice(&Said { env: &[b"on", b"off"], ..all }), Choice::Off);
    assert_eq!(choice(&Said { env: &[b"off"], header: &[], api: false, auto: false }), Choice::Off);
    assert_eq!(choice(&Said { env: &[b"off"], header: &[], api: false, auto: true }), Choice::Off);
    let (choice, rejected) = choose(&Said { header: &[b"what"], env: &[b"off"], ..all });
    assert_eq!(choice, Choice::Off);
    assert_eq!(rejected, [Rejected { source: Source::Header, value: b"what", error: Error::Unknown }]);
}

#[test]
fn what_does_not_parse_leaves_the_response_unmarked() {
    let good = Said { api: true, header: &[b"on"], env: &[b"on"], auto: true };
    let (choice, rejected) = choose(&Said { header: &[b"length=-1"], ..good });
    assert_eq!(choice, Choice::Unmarked);
    assert_eq!(rejected, [Rejected { source: Source::Header, value: b"length=-1", error: Error::Length }]);

    let (choice, rejected) = choose(&Said { env: &[b"on", b"of"], ..good });
    assert_eq!(choice, Choice::Unmarked);
    assert_eq!(rejected, [Rejected { source: Source::Env, value: b"of", error: Error::Unknown }]);

    let (choice, rejected) = choose(&Said { header: &[b""], env: &[b"\0"], ..good });
    assert_eq!(choice, Choice::Unmarked);
    assert_eq!(rejected.len(), 2);
}

#[test]
fn a_repeated_header_does_not_parse_unless_one_is_off() {
    for header in [[&b"on"[..], b"on"], [b"on", b"length=5"], [b"on", b"what"], [b"", b""]] {
        let (choice, rejected) = choose(&Said { header: &header, env: &[b"on"], ..Said::default() });
        assert_eq!(choice, Choice::Unmarked);
        assert_eq!(rejected, [Rejected { source: Source::Header, value: header[1], error: Error::Repeated }]);
    }
    let off = Said { header: &[b"on", b"off"], ..Said::default() };
    assert_eq!(choose(&off), (Choice::Off, vec![]));
}

#[test]
fn auto_recognises_the_idioms_only() {
    for (http2, closes, length, chunked, marked) in [
        (false, true, Some(0), false, true),
        (false, true, Some(5), false, true),
        (false, false, Some(5), false, false),
        (true, false, Some(5), false, true),
        (true, true, Some(5), false, true),
        (true, false, None, false, false),
        (true, true, None, false, false),
        (false, true, None, false, false),
        (false, false, None, true, true),
        (true, false, None, true, true),
        (false, false, Some(5), true, true),
        (false, false, None, false, false),
    ] {
        let idiom = Idiom { http2, closes, content_length: length, chunked, bodiless: false };
        assert_eq!(recognise(&idiom).is_some(), marked, "{idiom:?}");
        let idiom = Idiom { bodiless: true, ..idiom };
        let standing = recognise(&idiom).map(|declared| declared.standing());
        assert_eq!(standing.is_some(), http2 || closes || chunked, "{idiom:?}");
        assert!(chunked || standing.is_none_or(|standing| standing == Standing::AtEnd), "{idiom:?}");
    }
}

#[test]
fn of_two_lengths_none_counts_unless_they_are_one() {
    for (values, length) in [
        (&[][..], None),
        (&[&b"5"[..]], Some(5)),
        (&[b"5", b" 5"], Some(5)),
        (&[b"5", b"6"], None),
        (&[b"5", b"x"], None),
        (&[b"x", b"5"], None),
        (&[b"5, 5"], None),
        (&[b"19 bytes"], None),
        (&[b"0x13"], None),
        (&[b""], None),
    ] {
        assert_eq!(declared_length(values.iter().copied()), length, "{values:?}");
    }
}

#[test]
fn headers_of_the_idioms() {
    for value in [&b"close"[..], b"Close", b" close ", b"keep-alive, close", b"a,,\tCLOSE ,b"] {
        assert!(has_close(value), "{}", value.escape_ascii());
    }
    for value in [&b""[..], b"keep-alive", b"closed", b"clo se", b"close;q=1", b"\"close\""] {
        assert!(!has_close(value), "{}", value.escape_ascii());
    }
    assert!(is_chunked(b"chunked") && is_chunked(b" Chunked\t"));
    for value in [&b""[..], b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked;a=b"] {
        assert!(!is_chunked(value), "{}", value.escape_ascii());
    }
    assert_eq!(parse_length(b"0"), Some(0));
    assert_eq!(parse_length(b" 0042\t"), Some(42));
    assert_eq!(parse_length(b"9223372036854775807"), Some(MAX_LENGTH));
    for value in [&b""[..], b" ", b"-1", b"+1", b"1 2", b"1, 1", b"1;", b"0x1", b"9223372036854775808"] {
        assert_eq!(parse_length(value), None, "{}", value.escape_ascii());
    }
}

#[test]
fn sources_have_their_names() {
    let names = [Source::Header, Source::Env, Source::Auto, Source::Api].map(Source::as_str);
    assert_eq!(names, ["header", "env", "auto", "api"]);
}

fn padding() -> impl Strategy<Value = String> {
    "[ \t;]{0,4}"
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(value in any::<Vec<u8>>()) {
        let known = [&b"on"[..], b"off", b"flush", b"length", b"boundary"];
        let lower = value.to_ascii_lowercase();
        if parse(&value).is_ok() {
            prop_assert!(known.iter().any(|name| lower.windows(name.len()).any(|part| part == *name)));
        }
        prop_assert!(escaped(&value).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }

    #[test]
    fn a_length_comes_back(length in any::<u64>(), zeros in "0{0,30}", before in padding(), after in padding()) {
        let value = format!("{before}lEnGtH={zeros}{length}{after}");
        let wanted = if length <= MAX_LENGTH { Ok(Mark::Length(length)) } else { Err(Error::Length) };
        prop_assert_eq!(parse(value.as_bytes()), wanted);
    }

    #[test]
    fn a_boundary_comes_back(token in "[0-9A-Za-z'()+_,./:=? -]{0,80}", before in padding(), after in padding()) {
        let value = format!("{before}boundary=\"{token}\"{after}");
        let fits = (16..=70).contains(&token.len()) && !token.ends_with(' ');
        match parse(value.as_bytes()) {
            Ok(Mark::Boundary(found)) => prop_assert!(fits && found.as_bytes() == token.as_bytes()),
            other => prop_assert!(!fits && other == Err(Error::Boundary)),
        }
    }

    #[test]
    fn escaped_can_be_read_back(value in any::<Vec<u8>>()) {
        let text = escaped(&value);
        let shown = if value.len() > 96 { text.strip_suffix("...").unwrap() } else { &text };
        let mut bytes = Vec::new();
        let mut rest = shown.as_bytes();
        while let [byte, after @ ..] = rest {
            rest = after;
            if *byte == b'\\' {
                let (code, after) = rest.split_at(3);
                prop_assert_eq!(code[0], b'x');
                bytes.push(u8::from_str_radix(std::str::from_utf8(&code[1..]).unwrap(), 16).unwrap());
                rest = after;
            } else {
                bytes.push(*byte);
            }
        }
        prop_assert_eq!(&bytes[..], &value[..value.len().min(96)]);
    }
}
