//! Bytes of other people's in messages of the module's own.

use std::fmt::Write as _;

/// How many bytes of a value are shown. The longest value of a mark that parses without padding (`boundary="…"` with 70 characters) has 81.
const SHOWN: usize = 96;

/// Escapes a value for the error log: printable ASCII is kept, but for the backslash; it and all
/// else becomes `\xNN`. The first 96 bytes are shown, and `...` where there are more.
pub fn escaped(value: &[u8]) -> String {
    let shown = value.get(..SHOWN).unwrap_or(value);
    let mut text = String::with_capacity(shown.len());
    for &byte in shown {
        match byte {
            b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    if shown.len() < value.len() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn escaped_is_printable_and_short() {
        assert_eq!(escaped(b""), "");
        assert_eq!(escaped(b"length=\"5\"; ~"), "length=\"5\"; ~");
        assert_eq!(escaped(b"a\0\r\n\t\x7f\xff\\x00%s"), "a\\x00\\x0d\\x0a\\x09\\x7f\\xff\\x5cx00%s");
        assert_eq!(escaped(&[b'x'; 96]), "x".repeat(96));
        assert_eq!(escaped(&[b'x'; 97]), format!("{}...", "x".repeat(96)));
        assert_eq!(escaped(&[0; 1000]).len(), 4 * 96 + 3);
    }
}
