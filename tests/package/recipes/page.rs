//! The tables of `docs/recipes.md`: written from what was measured, and compared with the page.

use std::fs;
use std::path::PathBuf;

use support::Protocol;

use super::measure::Place;
use super::recipe::{Platform, Recipe};

/// Where the tables are on the page.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// A table: a column for each platform and protocol, which has two parts: stock httpd, and with the module.
struct Table {
    title: &'static str,
    columns: &'static [(Platform, Protocol)],
}

const TABLES: [Table; 3] = [
    Table {
        title: "PHP over HTTP/1.1",
        columns: &[
            (Platform::ModPhp, Protocol::Http1),
            (Platform::ModFcgid, Protocol::Http1),
            (Platform::PhpFpm, Protocol::Http1),
        ],
    },
    Table {
        title: "PHP over HTTP/2",
        columns: &[(Platform::ModFcgid, Protocol::Http2), (Platform::PhpFpm, Protocol::Http2)],
    },
    Table {
        title: "CGI scripts",
        columns: &[
            (Platform::ModCgi, Protocol::Http1),
            (Platform::ModCgid, Protocol::Http1),
            (Platform::ModCgid, Protocol::Http2),
        ],
    },
];

/// The page's path.
pub fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "docs", "recipes.md"].iter().collect()
}

/// The page's text, and where its tables are.
pub fn read() -> (String, std::ops::Range<usize>) {
    let page = fs::read_to_string(path()).expect("docs/recipes.md");
    let begin = page.find(BEGIN).expect("the page says where its tables begin") + BEGIN.len();
    let end = page.find(END).expect("the page says where its tables end");
    (page, begin..end)
}

/// The tables, from what was measured.
pub fn tables() -> String {
    TABLES.iter().map(Table::text).collect()
}

impl Table {
    fn text(&self) -> String {
        let name = |(platform, protocol): &(Platform, Protocol)| match (*platform, *protocol) {
            (Platform::ModCgid, Protocol::Http2) => " mod_cgid, HTTP/2: stock | the same: module |".to_owned(),
            _ => format!(" {0}: stock | {0}: module |", platform.name()),
        };
        let heads: String = self.columns.iter().map(name).collect();
        let lines = "| --- ".repeat(2 * self.columns.len() + 2);
        let mut text = format!("\n{}:\n\n| recipe | obs |{heads}\n{lines}|\n", self.title);
        let (first, _) = self.columns[0];
        for recipe in first.recipes() {
            let row = |obs: &u32| self.cells(recipe, *obs);
            let rows: Vec<_> = first.buffers().iter().map(row).collect();
            match &rows[..] {
                [only] => text += &line(recipe, "", only),
                [none, some] if none == some => text += &line(recipe, "any", none),
                _ => {
                    for (obs, cells) in first.buffers().iter().zip(&rows) {
                        text += &line(recipe, &obs.to_string(), cells);
                    }
                }
            }
        }
        text
    }

    fn cells(&self, recipe: &Recipe, output_buffering: u32) -> Vec<String> {
        let cell = |platform, protocol, with_module| {
            let measured = Place { platform, output_buffering, with_module }.measured();
            let [plain, gzip] = [false, true].map(|gzip| measured.of(recipe, protocol, gzip));
            if with_module && recipe.wants_php_8_4(platform) {
                // That it is as promised with this PHP, each platform's own test says.
                return "8.4".to_owned();
            }
            if plain == gzip { plain.to_string() } else { format!("{plain} / {gzip}") }
        };
        self.columns
            .iter()
            .flat_map(|&(platform, protocol)| [false, true].map(|module| cell(platform, protocol, module)))
            .collect()
    }
}

fn line(recipe: &Recipe, obs: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!(" {cell} |")).collect();
    format!("| `{}` | {obs} |{cells}\n", recipe.name)
}

/// Whether the page says that stock httpd releases a client early. It tells the tests how long to wait; what they
/// see is compared with the page in the end.
pub fn early_on_stock(
    platform: Platform,
    recipe: &Recipe,
    protocol: Protocol,
    gzip: bool,
    output_buffering: u32,
) -> bool {
    let (page, tables) = read();
    let Some((table, column)) = TABLES
        .iter()
        .find_map(|table| Some((table, table.columns.iter().position(|column| *column == (platform, protocol))?)))
    else {
        return false;
    };
    let name = format!("`{}`", recipe.name);
    page[tables]
        .split(table.title)
        .nth(1)
        .unwrap_or_default()
        .lines()
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|row| row.len() > 3 && row[1] == name)
        .filter(|row| row[2].parse().is_ok_and(|obs: u32| obs == output_buffering) || row[2].parse::<u32>().is_err())
        .filter_map(|row| {
            let cell = row.get(3 + 2 * column)?;
            let (plain, gzipped) = cell.split_once(" / ").unwrap_or((cell, cell));
            Some(if gzip { gzipped } else { plain }.starts_with("yes"))
        })
        .next()
        .unwrap_or(false)
}
