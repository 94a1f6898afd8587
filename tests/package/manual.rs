//! The manual holds together: every link and anchor leads somewhere, the contents have every page, every directive has an example that runs,
//! and whatever an administrator may meet is in it by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mod_finish_request::directives::MANUAL;
use mod_finish_request::rules::mark;
use support::{Client, Handler, Httpd, Mpm, Protocol};

use crate::administrator::status::{page, with_status};
use crate::judge::ran_to_its_end;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each page, by its path in the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from);
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).chain(names);
    pages.map(|path| (path.clone(), fs::read_to_string(Path::new(ROOT).join(&path)).unwrap())).collect()
}

/// The lines of a page that are no code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence && !line.starts_with("    ")
    })
}

/// A line without what stands in backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(page).filter(|line| line.starts_with('#')) {
        let name = anchor(line.trim_start_matches('#').trim());
        let free = (0..).map(|n| if n == 0 { name.clone() } else { format!("{name}-{n}") });
        anchors.insert(free.into_iter().find(|name| !anchors.contains(name)).unwrap());
    }
    anchors
}

/// Where the links of a page lead.
fn links(page: &str) -> Vec<String> {
    let lines = prose(page).map(without_code).collect::<Vec<_>>();
    let parts = lines.iter().flat_map(|line| line.split("](").skip(1));
    parts.map(|part| part.split(')').next().unwrap().to_owned()).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut seen = 0;
    for (path, page) in &pages {
        for link in links(page).iter().filter(|link| !link.starts_with("https://")) {
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                _ => {
                    let joined = Path::new(ROOT).join(path.parent().unwrap()).join(file);
                    let found = joined.canonicalize().unwrap_or_else(|_| panic!("{}: {link}", path.display()));
                    found.strip_prefix(Path::new(ROOT).canonicalize().unwrap()).unwrap().to_owned()
                }
            };
            if !anchor.is_empty() {
                let page = pages.get(&target).unwrap_or_else(|| panic!("{}: {link} is no page", path.display()));
                assert!(anchors(page).contains(anchor), "{}: {link}", path.display());
            }
        }
    }
    assert!(seen > 50, "{seen}");
    assert_eq!(anchor("Programs that cannot say yet"), "programs-that-cannot-say-yet");
    assert_eq!(anchor("Servers of their own: Node, Java"), "servers-of-their-own-node-java");
}

#[test]
fn the_contents_have_every_page() {
    let pages = pages();
    let contents = Path::new("docs/README.md");
    let listed: BTreeSet<_> = links(&pages[contents])
        .iter()
        .filter(|link| link.ends_with(".md"))
        .map(|link| Path::new(ROOT).join("docs").join(link))
        .collect();
    let listed: BTreeSet<_> = listed.iter().map(|path| path.canonicalize().unwrap()).collect();
    let there = pages.keys().filter(|path| *path != contents);
    assert_eq!(listed, there.map(|path| Path::new(ROOT).join(path).canonicalize().unwrap()).collect());
}

/// The text of each directive's section.
fn sections() -> BTreeMap<String, String> {
    let page = pages().remove(Path::new("docs/directives.md")).unwrap();
    let sections = page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// Each directive's example is a configuration with which marked responses finish early.
#[test]
fn every_directive_has_an_example() {
    for (name, section) in sections() {
        let (_, rest) = section.split_once("```apache\n").unwrap_or_else(|| panic!("{name} has no example"));
        let example = rest.split("```").next().unwrap();
        assert!(example.lines().any(|line| line.trim().split(' ').next() == Some(&name)), "{name}: {example}");
        let httpd =
            Httpd::builder(Mpm::Event).handler(Handler::Lua).config(&format!("FinishRequest On\n{example}")).start();
        let background = httpd.background();
        let response = Client::connect(&httpd, Protocol::Http1).get(&background.query("app.lua"), &[]).response();
        assert_eq!(response.status, 200, "{name}");
        assert!(!background.is_done(), "{name}: the client had to wait for the work");
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
        httpd.stop();
    }
}

/// Each word that a directive's syntax has for a value is explained in its section.
#[test]
fn every_value_is_explained() {
    let sections = sections();
    for directive in MANUAL {
        let (name, values) = directive.syntax.split_once(' ').unwrap();
        let explained = sections[name].split("\n\n").skip(2).collect::<String>();
        for value in values.split(['|', ' ', '[', ']']).filter(|value| !["", "..."].contains(value)) {
            let example = match value {
                "NUMBER" | "FILTER" | "SECONDS" => continue,
                "PERCENT%" => "%",
                value => value,
            };
            assert!(explained.contains(example), "{name}: {value}");
        }
    }
}

/// The texts in the sources that are in quotes and begin like this.
fn quoted(beginning: &str) -> BTreeSet<String> {
    fn collect(folder: &Path, beginning: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, beginning, found);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("\n#[cfg(test)]").next().unwrap();
            let texts = source.split(['"', '\n']).flat_map(|text| text.split("\\n"));
            found.extend(texts.filter(|text| text.starts_with(beginning)).map(str::to_owned));
        }
    }
    let mut found = BTreeSet::new();
    collect(&Path::new(ROOT).join("src"), beginning, &mut found);
    found
}

/// A note by which the module and the PHP file understand each other.
const OWN: &str = "finish-request-empty-subrequests";

/// The names of mod_status's numbers, as a server has them that has had a marked response.
fn numbers_of_status() -> BTreeSet<String> {
    let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua)).start();
    let background = httpd.background();
    Client::connect(&httpd, Protocol::Http1).get(&background.query("app.lua"), &[]).released();
    ran_to_its_end(&background);
    let page = page(&httpd, "?auto");
    httpd.stop();
    let lines = page.lines().filter(|line| line.starts_with("FinishRequest"));
    lines.map(|line| line.split_once(": ").unwrap().0.to_owned()).collect()
}

/// Marks, who marks, request notes, variables, and the status page's numbers.
#[test]
fn every_name_is_in_the_manual() {
    let manual: String = pages().into_values().collect();
    let mut names = BTreeSet::new();
    // The sentence about a wrong mark names all marks.
    let sentence = mark::Error::Unknown.to_string();
    let (_, marks) = sentence.split_once("accepted is one of: ").expect("the marks");
    let marks =
        marks.split([',', ';']).map(|mark| mark.trim().trim_start_matches("and ").replace(" in the variable", ""));
    let marks: Vec<_> = marks.collect();
    assert!(marks.contains(&"on".to_owned()) && marks.contains(&"late".to_owned()), "{marks:?}");
    names.extend(marks);
    names.extend(quoted("finish-request").into_iter().filter(|name| !name.contains(' ') && name != OWN));
    let numbers = numbers_of_status();
    assert!(numbers.contains("FinishRequestFinished") && numbers.contains("FinishRequestHost[0]Name"), "{numbers:?}");
    names.extend(numbers);
    names.extend(["X-Finish-Request", "FINISH_REQUEST", "REDIRECT_finish-request"].map(str::to_owned));
    for source in [mark::Source::Header, mark::Source::Env, mark::Source::Auto, mark::Source::Api] {
        names.insert(source.as_str().to_owned());
    }
    assert!(names.contains("finish-request-us") && names.contains("finish-request-version"), "{names:?}");
    for name in names {
        assert!(manual.contains(&format!("`{name}")) || manual.contains(&format!("{{{name}}}")), "{name}");
    }
}

/// The changes of the version that `Cargo.toml` names stand at their head, released or not yet.
#[test]
fn the_changes_are_of_this_version() {
    let changes = &pages()[Path::new("CHANGELOG.md")];
    let version = env!("CARGO_PKG_VERSION");
    let heading = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    let (name, day) = heading.split_once(" - ").unwrap_or((heading, ""));
    assert!(name == "Unreleased" || name == version && day.len() == "2026-11-26".len(), "{heading}");
}
