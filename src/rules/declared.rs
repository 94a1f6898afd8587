//! A length that an application declared, which may turn out wrong.

/// How much of a body is left before the end that was declared for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// None, once more has come.
    left: Option<u64>,
}

impl Declared {
    /// A body of so many bytes, of which nothing has come.
    pub const fn new(length: u64) -> Self {
        Self { left: Some(length) }
    }

    /// So many bytes more have come.
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        Self { left: self.left.and_then(|left| left.checked_sub(bytes)) }
    }

    /// True if what has come is what was declared. Where more follows it was no end.
    pub const fn is_reached(self) -> bool {
        matches!(self.left, Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reached_once_and_more_makes_it_wrong() {
        let declared = Declared::new(5);
        assert!(!declared.is_reached() && Declared::new(0).is_reached());
        let reached = declared.after(2).after(0).after(3);
        assert!(!declared.after(4).is_reached() && reached.is_reached() && reached.after(0).is_reached());
        assert!(!reached.after(1).is_reached() && !declared.after(u64::MAX).after(0).is_reached());
    }
}
