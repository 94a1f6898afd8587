//! What the terminal can do.

use std::env;
use std::fmt::Display;
use std::io::{IsTerminal, stdout};

use crate::sentence::{self, say};

/// Where the demo is shown.
#[derive(Clone, Copy)]
pub struct Terminal {
    /// Whether lines that were printed can be printed anew, in colour.
    pub lively: bool,
}

/// How a text is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    Good,
    Bad,
    Faint,
}

impl Terminal {
    /// Standard output.
    pub fn get() -> Terminal {
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Terminal { lively: stdout().is_terminal() && !dumb && !unwanted }
    }

    /// `text` in this style, where there are styles.
    pub fn paint(self, style: Style, text: impl Display) -> String {
        let code = match style {
            _ if !self.lively => return text.to_string(),
            Style::Plain => return text.to_string(),
            Style::Strong => 1,
            Style::Good => 32,
            Style::Bad => 31,
            Style::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints a line that stands out.
    pub fn title(self, text: &str) {
        say!("{}\n", self.paint(Style::Strong, text));
    }

    /// Moves up by so many lines, to print them anew.
    pub fn up(self, lines: usize) {
        if self.lively && lines > 0 {
            sentence::print(format_args!("\x1b[{lines}A\r"));
        }
    }
}
