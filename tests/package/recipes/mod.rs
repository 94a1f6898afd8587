//! The recipes that are found on the web, in applications that know nothing of the module: with `FinishRequest Auto`
//! they do what they are meant to do, whatever runs them.

mod measure;
mod observe;
mod page;
mod recipe;

use std::{env, fs};

use measure::Place;
use observe::{Seen, What};
use recipe::{Platform, Promise};

/// Set, it has the page written instead of compared.
const WRITE: &str = "WRITE_RECIPES";

macro_rules! on_each_platform {
    ($($name:ident: $platform:ident, $output_buffering:literal;)*) => {
        $(
            #[test]
            fn $name() {
                keep_their_promises(Platform::$platform, $output_buffering);
            }
        )*
    };
}

on_each_platform! {
    mod_php_unbuffered: ModPhp, 0;
    mod_php_buffered: ModPhp, 4096;
    mod_fcgid_unbuffered: ModFcgid, 0;
    mod_fcgid_buffered: ModFcgid, 4096;
    php_fpm_unbuffered: PhpFpm, 0;
    php_fpm_buffered: PhpFpm, 4096;
    mod_cgi: ModCgi, 0;
    mod_cgid: ModCgid, 0;
}

/// The right body always; before the work ends where that is promised; the work completes; nothing leaks.
fn keep_their_promises(platform: Platform, output_buffering: u32) {
    let place = |with_module| Place { platform, output_buffering, with_module };
    let seen = place(true).measured();
    let mut broken = Vec::new();
    for recipe in platform.recipes() {
        for &protocol in platform.protocols() {
            for gzip in [false, true] {
                let expected = match recipe.promise(platform, protocol, gzip, output_buffering) {
                    Promise::Released => clean(What::Released),
                    Promise::Waits => clean(What::Held),
                    Promise::Missing => clean(What::Missing),
                    Promise::Broken => clean(What::Broken),
                    Promise::AsOnStock => place(false).measured().of(recipe, protocol, gzip),
                };
                let seen = seen.of(recipe, protocol, gzip);
                if seen != expected {
                    broken.push(format!("{} {protocol:?} gzip={gzip}: {seen}, not {expected}", recipe.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{platform:?}, output_buffering {output_buffering}:\n{}", broken.join("\n"));
}

fn clean(what: What) -> Seen {
    Seen { what, leaks: false, killed: false }
}

/// The table for everyone to see says what the tests have seen.
#[test]
fn the_page_says_what_is_so() {
    let tables = page::tables();
    let (mut text, place) = page::read();
    if env::var_os(WRITE).is_some() {
        text.replace_range(place, &tables);
        fs::write(page::path(), text).expect("the page can be written");
        return;
    }
    assert!(
        text[place.clone()] == tables,
        "docs/recipes.md is out of date ({WRITE}=1 has it written). It says:\n{}\nand this was seen:\n{tables}",
        &text[place],
    );
}
