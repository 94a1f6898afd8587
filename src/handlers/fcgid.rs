//! mod_fcgid: what it reads of a program's output, record by record (`fcgid_bucket.c`).

use std::cell::Cell;
use std::ffi::CStr;

use crate::httpd::{OriginalRead, ReplacedRead, Request, Source};
use crate::rules::header_end::{HeaderEnd, Seen};

/// Stands in the place of what reads a program's next record.
pub struct NextRecord;

/// The knowledge of this thread of the header that its handler reads.
#[derive(Clone, Copy)]
enum Header {
    /// Nothing: it is no program's of mod_fcgid, or none that may be marked; or the header has been read.
    Unknown,
    /// It is being read, from a program that the first bucket tells.
    Reading(Option<Source>, HeaderEnd),
    /// It has been read to its end, and so has what the program has sent with it.
    Ended(Source),
}

thread_local! {
    static HEADER: Cell<Header> = const { Cell::new(Header::Unknown) };
}

/// The handler is about to run, for a response that may be marked if `may_be_marked`.
///
/// mod_fcgid looks at the byte behind each line of a program's header, to see whether the line goes on (`getsfunc_fcgid_BRIGADE`). Behind
/// the blank line it would wait for it, though the program may have no more to say: the header is not seen before. So the bucket that stands
/// for the program's next record gives nothing there, once.
pub fn before_handler(request: Request<'_>, may_be_marked: bool) {
    let reads = may_be_marked && request.handler() == Some(b"fcgid-script");
    HEADER.set(if reads { Header::Reading(None, HeaderEnd::START) } else { Header::Unknown });
}

impl ReplacedRead for NextRecord {
    const MODULE: &'static CStr = c"mod_fcgid.c";
    const OF: &'static CStr = c"ap_bucket_type_fcgid_header";

    fn original() -> &'static OriginalRead {
        static ORIGINAL: OriginalRead = OriginalRead::new();
        &ORIGINAL
    }

    fn pauses(program: Source) -> bool {
        match HEADER.get() {
            Header::Ended(own) if own == program => {
                HEADER.set(Header::Unknown);
                true
            }
            _ => false,
        }
    }

    fn read(program: Source, bytes: &[u8]) {
        if let Header::Reading(own, mut end) = HEADER.get()
            && own.is_none_or(|own| own == program)
        {
            HEADER.set(match end.next(bytes) {
                Seen::More => Header::Reading(Some(program), end),
                Seen::End => Header::Ended(program),
                Seen::Body => Header::Unknown,
            });
        } else if let Header::Ended(own) = HEADER.get()
            && own == program
        {
            // The next byte is there.
            HEADER.set(Header::Unknown);
        }
    }
}
