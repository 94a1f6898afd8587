//! The blank line behind a script's header, as `ap_scan_script_header_err_core` finds it.

/// Looks for the blank line in what a program prints. Whatever the pieces in which it comes, the answer is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEnd {
    line_is_empty: bool,
}

/// How far the header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes on.
    More,
    /// It has ended with the last of these bytes.
    End,
    /// It has ended before the last of these bytes: the body has begun.
    Body,
}

impl HeaderEnd {
    /// Nothing has been seen.
    pub const START: Self = Self { line_is_empty: true };

    /// Takes the next bytes. To be called until the header has ended.
    pub fn next(&mut self, bytes: &[u8]) -> Seen {
        let mut left = bytes.iter();
        while let Some(byte) = left.next() {
            match byte {
                b'\n' if self.line_is_empty => return if left.len() == 0 { Seen::End } else { Seen::Body },
                b'\n' => self.line_is_empty = true,
                // mod_fcgid takes no notice of it, wherever it stands.
                b'\r' => {}
                _ => self.line_is_empty = false,
            }
        }
        Seen::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(pieces: &[&[u8]]) -> Seen {
        let mut end = HeaderEnd::START;
        let mut last = Seen::More;
        for piece in pieces {
            last = if last == Seen::More { end.next(piece) } else { Seen::Body };
        }
        last
    }

    #[test]
    fn a_blank_line_ends_it() {
        for (text, expected) in [
            (&b"A: b\r\n\r\n"[..], Seen::End),
            (b"A: b\n\n", Seen::End),
            (b"A: b\n\r\n", Seen::End),
            (b"\n", Seen::End),
            (b"\r\r\n", Seen::End),
            (b"A: b\r\n\r\nx", Seen::Body),
            (b"A: b\r\n", Seen::More),
            (b"A: b\r\n\r", Seen::More),
            (b"A: b\n \n", Seen::More),
            (b"", Seen::More),
        ] {
            assert_eq!(seen(&[text]), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 1..12), cut in 0usize..12) {
            let (first, second) = text.split_at(cut.min(text.len() - 1));
            prop_assert_eq!(seen(&[first, second]), seen(&[&text]));
        }
    }
}
