//! The documents cannot drift: `docs/directives.md` and the README say what the module's table says, and `docs/operations.md` has the
//! messages that the module logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mod_finish_request::directives::{Context, MANUAL};

const PAGE: &str = include_str!("../../docs/directives.md");
const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

#[test]
fn the_manual_has_each_directive_as_the_table_has_it() {
    let sections = sections();
    let documented: Vec<_> = sections.keys().copied().collect();
    let mut known: Vec<_> = MANUAL.iter().map(|directive| directive.name.to_str().unwrap()).collect();
    known.sort_unstable();
    assert_eq!(documented, known);

    for directive in MANUAL {
        let name = directive.name.to_str().unwrap();
        let section = &sections[name];
        let field = |field: &str| {
            let start = format!("| {field} | ");
            let line = section.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default();
            line.trim_end_matches('|').trim().replace("\\|", "|")
        };
        assert_eq!(field("Description"), directive.help.to_str().unwrap(), "{name}");
        assert_eq!(field("Syntax"), format!("`{}`", directive.syntax), "{name}");
        assert_eq!(field("Default"), format!("`{}`", directive.default), "{name}");
        let (context, over_ride) = match directive.context {
            Context::FileInfo => ("server config, virtual host, directory, .htaccess", "FileInfo"),
            Context::Directory => ("server config, virtual host, directory", ""),
            Context::VirtualHost => ("server config, virtual host", ""),
        };
        assert_eq!(field("Context"), context, "{name}");
        assert_eq!(field("Override"), over_ride, "{name}");
        assert!(!field("Compatibility").is_empty(), "{name}");
        assert!(directive.syntax.starts_with(name) && directive.default.starts_with(name));
    }
}

/// The README's table has each directive, with its default, and says which may stand in .htaccess.
#[test]
fn the_readme_has_each_directive() {
    let rows: BTreeMap<_, _> = README
        .lines()
        .filter_map(|line| {
            let mut fields = line.strip_prefix("| `FinishRequest")?.splitn(3, " | ");
            let (syntax, default) = (fields.next()?, fields.next()?);
            let name = format!("FinishRequest{}", syntax.split(' ').next()?);
            Some((name, (default.trim_matches('`'), syntax.ends_with('†'))))
        })
        .collect();
    assert_eq!(rows.len(), MANUAL.len());
    for directive in MANUAL {
        let name = directive.name.to_str().unwrap();
        let default = directive.default.strip_prefix(name).unwrap().trim_start();
        let default = if default.starts_with("(unset") { "unset" } else { default };
        assert_eq!(rows.get(name), Some(&(default, directive.context == Context::FileInfo)), "{name}");
    }
}

/// The text of each directive's section, by its name.
fn sections() -> BTreeMap<&'static str, &'static str> {
    PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

/// `docs/operations.md` has each message of the error log that an administrator may see, with its level, and no other.
#[test]
fn the_operations_page_has_each_message() {
    let mut messages = Vec::new();
    collect_messages(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut messages);
    let rows: Vec<_> = OPERATIONS
        .lines()
        .filter_map(|line| {
            let (level, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
            let quote = rest.split_once('`')?.0.trim_end_matches('…');
            ["info", "notice", "warn", "error"].contains(&level).then_some((level, quote))
        })
        .collect();

    let says = |message: &Message, row: &(&str, &str)| message.level == row.0 && begins(&message.texts, row.1);
    for message in &messages {
        assert!(rows.iter().any(|row| says(message, row)), "not on the page: {message:?}");
    }
    for row in &rows {
        assert!(messages.iter().any(|message| says(message, row)), "not in the module: {row:?}");
    }
}

/// A message of the module, as its source has it.
#[derive(Debug)]
struct Message {
    level: &'static str,
    /// What stands between its variables.
    texts: Vec<String>,
}

/// Whether a message of these texts, with anything between them, can begin like this.
fn begins(texts: &[String], quote: &str) -> bool {
    /// Shorter ones are found anywhere.
    const SHORTEST: usize = 8;
    let [text, more @ ..] = texts else { return false };
    let after = |rest: &str| rest.char_indices().any(|(index, _)| begins(more, &rest[index..]));
    quote.len() >= SHORTEST && text.starts_with(quote) || quote.strip_prefix(text.as_str()).is_some_and(after)
}

/// The messages of all sources in a folder.
fn collect_messages(folder: &Path, messages: &mut Vec<Message>) {
    /// Messages that are made elsewhere.
    const INDIRECT: [&str; 2] = ["{sentence}", "{what}: "];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_messages(&path, messages);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let mut collect = |call: &str, level| {
            for behind in source.split(call).skip(1) {
                let Some(literal) = behind.trim_start().strip_prefix('"') else {
                    assert!(behind.starts_with("what: &str"), "{}: {call} has no text", path.display());
                    continue;
                };
                let text = literal.split('"').next().unwrap();
                if !INDIRECT.iter().any(|indirect| text.starts_with(indirect)) {
                    messages.push(Message { level, texts: texts(text) });
                }
            }
        };
        collect("log::info!(", "info");
        collect("log::warn!(", "warn");
        collect("log::error!(", "error");
        collect("resources::warn(", "warn");
        collect("notice(server, &format!(", "notice");
        if path.ends_with("background/mod.rs") || path.ends_with("httpd/module.rs") {
            collect("format!(", "error");
        }
    }
}

/// What stands between the variables of a format string; one that goes on in the next line, as the compiler reads it.
fn texts(format: &str) -> Vec<String> {
    let format: Vec<_> = format.split("\\\n").map(str::trim_start).collect();
    let format = format.concat();
    format.split('{').map(|text| text.rsplit('}').next().unwrap().to_owned()).collect()
}
