//! The house: rooms use only what stands below them, in the order that CONTRIBUTING.md has, and no two files of a room use each other. What the
//! unsafe code rests on is numbered in docs/safety.md, and cited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

const CONTRIBUTING: &str = include_str!("../../CONTRIBUTING.md");
const SAFETY: &str = include_str!("../../docs/safety.md");

#[test]
fn no_room_uses_what_stands_above_it() {
    let uses = uses(&sources());
    assert!(uses.len() > 200, "{} uses", uses.len());
    let breaks = breaks(&order(CONTRIBUTING), &uses);
    assert!(breaks.is_empty(), "{}", breaks.join("\n"));
}

#[test]
fn no_files_of_a_room_use_each_other() {
    let circles = circles(&uses(&sources()));
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// A file of the crate.
struct Source {
    /// From `src/` on.
    path: String,
    /// Its module, from the crate on.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        Self { path: path.to_owned(), module: module.split('/').map(str::to_owned).collect(), text: text.to_owned() }
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let source = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name != "lib.rs").then(|| Source::new(&name, &fs::read_to_string(&path).unwrap()))
    };
    found.into_iter().filter_map(source).collect()
}

/// One use of the crate's own.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    path: String,
    line: usize,
    from: Vec<String>,
    /// From the crate on; the last part may be an item.
    to: Vec<String>,
}

/// All that the files use of the crate: in `use` lines, in paths, and in what is given to macros.
fn uses(sources: &[Source]) -> Vec<Use> {
    let mut found = Vec::new();
    for source in sources {
        let file = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
        let mut finder = Finder { source, inner: Vec::new(), found: &mut found };
        finder.visit_file(&file);
    }
    found
}

struct Finder<'a> {
    source: &'a Source,
    /// The modules inside the file.
    inner: Vec<String>,
    found: &'a mut Vec<Use>,
}

impl Finder<'_> {
    fn add(&mut self, parts: &[String], line: usize) {
        let mut module = [&self.source.module[..], &self.inner[..]].concat();
        let mut parts = parts;
        match parts.first().map(String::as_str) {
            Some("crate") => {
                module.clear();
                parts = &parts[1..];
            }
            Some("self") => parts = &parts[1..],
            Some("super") => {
                while parts.first().is_some_and(|part| part == "super") {
                    module.pop();
                    parts = &parts[1..];
                }
            }
            _ => return,
        }
        let to = [&module[..], parts].concat();
        self.found.push(Use { path: self.source.path.clone(), line, from: self.source.module.clone(), to });
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        let depth = before.len();
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                if ident != "self" {
                    before.push(ident.to_string());
                }
                self.add(before, ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => self.add(before, glob.star_token.spans[0].start().line),
        }
        before.truncate(depth);
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut line, mut colons): (Vec<String>, _, _) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add(&std::mem::take(&mut path), line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.add(&std::mem::take(&mut path), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.add(&path, line);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first().filter(|_| parts.len() > 1) {
            self.add(&parts, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inner.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inner.pop();
    }
}

/// The rooms of each floor, from the ground up: the line of CONTRIBUTING.md that names `sys` first.
fn order(text: &str) -> Vec<Vec<&str>> {
    let line = text.lines().map(str::trim).find(|line| line.starts_with("sys ") && line.contains(" < "));
    let floors = line.unwrap_or_default().split(" < ");
    floors.map(|floor| floor.split(' ').collect()).collect()
}

/// The uses that break the order, each in a sentence.
fn breaks(order: &[Vec<&str>], uses: &[Use]) -> Vec<String> {
    let floor = |room: &str| order.iter().position(|floor| floor.contains(&room));
    let mut sentences = BTreeSet::new();
    for Use { path, line, from, to } in uses {
        let (Some(from), Some(to_room)) = (from.first(), to.first()) else { continue };
        if from == to_room {
            continue;
        }
        let what = format!("src/{path}:{line}: {from} uses {}", to.join("::"));
        match (floor(from), floor(to_room)) {
            (Some(own), Some(other)) if other < own => {
                if to_room == "sys" && from != "httpd" {
                    sentences.insert(format!("{what}, which is for httpd alone"));
                }
            }
            (Some(_), Some(_)) => _ = sentences.insert(format!("{what}, which does not stand below it")),
            (None, _) => _ = sentences.insert(format!("src/{path}: {from} has no place in CONTRIBUTING.md's order")),
            (_, None) => _ = sentences.insert(format!("{what}, which has no place in CONTRIBUTING.md's order")),
        }
    }
    sentences.into_iter().collect()
}

/// The files of a room that use each other, be it by way of others. What a folder's `mod.rs` names is looked for there, and not here.
fn circles(uses: &[Use]) -> Vec<String> {
    let paths: BTreeMap<&[String], &str> = uses.iter().map(|each| (&each.from[..], &each.path[..])).collect();
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Use { path, from, to, .. } in uses {
        let used = (1..=to.len()).rev().find_map(|length| paths.get(&to[..length]));
        if let Some(used) = used.filter(|used| !used.ends_with("mod.rs") && !path.ends_with("mod.rs"))
            && *used != path
            && from.first() == to.first()
        {
            next.entry(path).or_default().insert(used);
        }
    }
    let reached = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(each) = open.pop() {
            open.extend(next.get(each).into_iter().flatten().copied().filter(|each| seen.insert(*each)));
        }
        seen.into_iter().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let all: BTreeMap<_, _> = next.keys().map(|path| (*path, reached(path))).collect();
    let in_circle = all.iter().filter(|(path, reached)| reached.contains(**path));
    in_circle.map(|(path, reached)| format!("src/{path} uses itself by way of {reached:?}")).collect()
}

#[test]
fn every_way_to_break_the_order_is_seen() {
    let order = order("The order:\n\n    sys rules < httpd < directives < filters response < finish\n");
    assert_eq!(order.len(), 5);
    for (path, text, seen) in [
        ("directives/mod.rs", "use crate::finish;", true),
        ("directives/mod.rs", "use crate::{httpd::Pool, finish::finish as end};", true),
        ("directives/mod.rs", "use crate::finish::*;", true),
        ("directives/mod.rs", "fn f() { crate::finish::finish() }", true),
        ("directives/mod.rs", "fn f(a: Vec<crate::finish::What>) {}", true),
        ("directives/mod.rs", "fn f() { log::info!(\"{}\", crate::finish::what()) }", true),
        ("directives/mod.rs", "macro_rules! m { () => { $crate::finish::what() } }", true),
        ("directives/mod.rs", "use super::finish;", true),
        ("directives/max.rs", "use super::super::finish;", true),
        ("directives/max.rs", "mod tests { use super::super::super::finish; }", true),
        ("directives/max.rs", "mod tests { fn f() { super::super::super::finish::f() } }", true),
        ("filters/mod.rs", "use crate::response;", true),
        ("filters/mod.rs", "use crate::sys;", true),
        ("filters/mod.rs", "use crate::attic;", true),
        ("attic.rs", "use crate::sys;", true),
        ("httpd/pool.rs", "use crate::sys; use super::Brigade;", false),
        ("finish.rs", "use crate::{directives, filters::a, response::{self, b}}; use log::info;", false),
        ("directives/max.rs", "mod tests { use super::*; use super::super::Settings; }", false),
        ("directives/max.rs", "use std::finish; fn f() { let finish = 1; finish::<u8>() }", false),
    ] {
        let breaks = breaks(&order, &uses(&[Source::new(path, text)]));
        assert_eq!(!breaks.is_empty(), seen, "{path}: {text}: {breaks:?}");
        let line = format!("src/{path}");
        assert!(breaks.iter().all(|sentence| sentence.starts_with(&line)), "{breaks:?}");
    }
    let two = [Source::new("a/b.rs", "use super::c::d;"), Source::new("a/c.rs", "use crate::a::b::d;")];
    assert_eq!(circles(&uses(&two)).len(), 2);
    assert!(circles(&uses(&two[..1])).is_empty());
}

/// The numbers of the list in docs/safety.md.
fn invariants(page: &str) -> BTreeSet<u32> {
    page.lines().filter_map(|line| line.split_once(". ")?.0.parse().ok()).collect()
}

/// The numbers behind the word in a file: `invariant 3`, `invariants 1 and 2`.
fn cited(text: &str) -> BTreeSet<u32> {
    // A comment goes on in the next line.
    let text: String = text.lines().map(|line| line.trim().trim_start_matches('/').to_owned() + " ").collect();
    let mut numbers = BTreeSet::new();
    for (place, _) in text.match_indices("invariant") {
        let words = text[place..].split_whitespace().skip(1);
        let word = |word: &str| word.trim_end_matches([')', ',', '.', ';', ':']).parse::<u32>().ok();
        numbers.extend(words.take_while(|each| *each == "and" || word(each).is_some()).filter_map(word));
    }
    numbers
}

#[test]
fn what_unsafe_code_rests_on_is_numbered_and_cited() {
    let known = invariants(SAFETY);
    assert_eq!(known, (1..=u32::try_from(known.len()).unwrap()).collect());
    assert!(known.len() > 3);
    let mut all = BTreeSet::new();
    for source in sources() {
        for sentence in source.text.split("SAFETY:").skip(1) {
            // Its comment goes on in the next lines.
            let lines = sentence.lines().enumerate();
            let comment = lines.take_while(|(number, line)| *number == 0 || line.trim().starts_with("//"));
            let text = comment.map(|(_, line)| line.trim()).collect::<Vec<_>>().join(" ");
            let refers = ["invariant", "as ", "the caller's promise"].iter().any(|words| text.contains(words));
            assert!(refers, "src/{}: SAFETY:{text}: it rests on nothing", source.path);
        }
        let cited = cited(&source.text);
        let unknown: Vec<_> = cited.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "src/{} cites invariants that docs/safety.md does not have: {unknown:?}",
            source.path
        );
        all.extend(cited);
    }
    let unused: Vec<_> = known.difference(&all).collect();
    assert!(unused.is_empty(), "nothing cites these invariants of docs/safety.md: {unused:?}");
}

/// docs/safety.md has each part of `make check` and each target of the fuzzers, and says where each line of its threat model is tested.
#[test]
fn what_is_checked_is_in_the_documents() {
    let run = include_str!("../check/run.sh");
    let parts: BTreeSet<_> =
        run.split_once("${PARTS:-").unwrap().1.split('}').next().unwrap().split_whitespace().collect();
    let table = SAFETY.split_once("| part | what it looks at |").unwrap().1.split("\n\n").next().unwrap();
    let rows: BTreeSet<_> = table.lines().skip(2).filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    assert_eq!(parts, rows);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = fs::read_dir(project.join("fuzz/fuzz_targets")).unwrap().count();
    assert!(SAFETY.contains(&format!("| {targets} targets,")), "{targets} targets");
    let threats = SAFETY.split_once("| who | is trusted |").unwrap().1.split("\n\n").next().unwrap();
    for cell in threats.lines().skip(2).filter_map(|row| row.trim_end_matches(" |").rsplit('|').next()) {
        for test in cell.split('`').skip(1).step_by(2) {
            let place = project.join("tests").join(test);
            assert!(place.is_dir() || place.with_extension("rs").is_file(), "there is no tests/{test}");
        }
    }
}

#[test]
fn citations_are_found() {
    assert_eq!(cited("// SAFETY: it is live (invariant 1), as invariants 2, 3 and 14 say.\n"), [1, 2, 3, 14].into());
    assert_eq!(cited("    // SAFETY: it is live (invariant\n    // 1), and that is it.\n"), [1].into());
    assert_eq!(cited("// Two invariants hold.\n"), BTreeSet::new());
    assert_eq!(invariants("# List\n\n1. One.\n2. Two.\n\nNot 3. this\n"), [1, 2].into());
}
