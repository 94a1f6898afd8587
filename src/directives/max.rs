//! `FinishRequestMax`: how many requests may be in background work at once.

/// The value of `FinishRequestMax`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Max {
    /// So many requests.
    Number(u32),
    /// So many of a hundred workers that the MPM can have.
    Percent(u32),
    /// As many as there are places in the table.
    None,
}

impl Default for Max {
    fn default() -> Self {
        Self::Percent(75)
    }
}

impl Max {
    /// Parses `NUMBER`, `PERCENT%` from 1% to 100%, or `none`.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.eq_ignore_ascii_case(b"none") {
            return Some(Self::None);
        }
        match value.strip_suffix(b"%") {
            Some(percent) => number(percent).filter(|percent| (1..=100).contains(percent)).map(Self::Percent),
            None => number(value).map(Self::Number),
        }
    }

    /// Returns the value as a number, for an atomic: each has another.
    pub fn bits(self) -> u64 {
        let (kind, number) = match self {
            Self::None => (1, 0),
            Self::Number(number) => (2, number),
            Self::Percent(percent) => (3, percent),
        };
        kind << u32::BITS | u64::from(number)
    }

    /// Returns how many requests that is, where the MPM can have so many workers and the table has so many places.
    pub fn requests(self, workers: u32, places: u32) -> u32 {
        let requests = match self {
            Self::Number(number) => number,
            Self::Percent(percent) => {
                let part = u64::from(workers) * u64::from(percent) / 100;
                u32::try_from(part).unwrap_or(u32::MAX).max(1)
            }
            Self::None => places,
        };
        requests.min(places)
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Max;

    #[test]
    fn values() {
        for (value, max) in [
            ("0", Some(Max::Number(0))),
            ("4294967295", Some(Max::Number(u32::MAX))),
            ("1%", Some(Max::Percent(1))),
            ("100%", Some(Max::Percent(100))),
            ("None", Some(Max::None)),
            ("0%", None),
            ("101%", None),
            ("4294967296", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("75 %", None),
            ("%", None),
            ("", None),
            ("many", None),
        ] {
            assert_eq!(Max::parse(value.as_bytes()), max, "{value}");
        }
    }

    #[test]
    fn the_number_of_requests() {
        assert_eq!(Max::default().requests(64, 1024), 48);
        assert_eq!(Max::Percent(1).requests(64, 1024), 1);
        assert_eq!(Max::Percent(100).requests(u32::MAX, 1024), 1024);
        assert_eq!(Max::Number(0).requests(64, 1024), 0);
        assert_eq!(Max::Number(5000).requests(64, 1024), 1024);
        assert_eq!(Max::None.requests(64, 1024), 1024);
    }
}
