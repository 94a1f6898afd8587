//! The manual cannot drift: `docs/directives.md` says what the module's table says.

use std::collections::BTreeMap;

use mod_finish_request::directives::{Context, MANUAL};

const PAGE: &str = include_str!("../docs/directives.md");

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
            Context::Server => ("server config", ""),
        };
        assert_eq!(field("Context"), context, "{name}");
        assert_eq!(field("Override"), over_ride, "{name}");
        assert!(!field("Compatibility").is_empty(), "{name}");
        assert!(directive.syntax.starts_with(name) && directive.default.starts_with(name));
    }
}

/// The text of each directive's section, by its name.
fn sections() -> BTreeMap<&'static str, &'static str> {
    PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}
