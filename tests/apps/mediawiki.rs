//! MediaWiki on SQLite: what it defers until after the response, and the jobs of an edit.

use std::fs;
use std::process::Command;

use support::wait_for;

use super::visit::{self, Application, Place, Visitor};

const CODE: &str = "/usr/share/mediawiki";

/// In LocalSettings.php: a deferred update for each request that names a gate.
const SETTINGS: &str = r#"
$wgServer = (isset($_SERVER['HTTPS']) ? 'https' : 'http') . '://localhost';
$wgUsePathInfo = false;
$wgShowExceptionDetails = true;
$wgEnableUploads = false;
$wgCacheDirectory = '@STATE@/cache';
$wgMainCacheType = CACHE_NONE;
$wgTmpDirectory = '@STATE@';
$wgExtensionFunctions[] = function () {
    if (isset($_SERVER['HTTP_X_GATE'])) {
        DeferredUpdates::addCallableUpdate(function () {
            require_once '@BACKGROUND@';
            background($_SERVER['HTTP_X_GATE'], 0);
        });
    }
};
"#;

fn install(place: &Place) {
    fs::create_dir_all(place.state.join("cache")).unwrap();
    let mut command = Command::new("php");
    let state = place.state.display().to_string();
    let config = format!("{state}/config");
    fs::create_dir(&config).unwrap();
    command.arg(format!("{CODE}/maintenance/install.php"));
    command.args(["--dbtype=sqlite", "--dbname=wiki", "--server=http://localhost", "--scriptpath=/mediawiki"]);
    command.args(["--pass=a-long-password", "--with-extensions=", "--skins=Vector"]);
    command.args([format!("--dbpath={state}/data"), format!("--confpath={config}")]);
    command.args(["Wiki", "Admin"]);
    visit::run(&mut command);
    let made = fs::read_to_string(format!("{config}/LocalSettings.php")).unwrap();
    place.write("LocalSettings.php", &(made + SETTINGS));
}

fn visitor(visitor: &mut Visitor<'_>) {
    let wiki = "/mediawiki/index.php";
    visitor.get(&format!("{wiki}?title=Main_Page"));
    visitor.get(&format!("{wiki}?title=Special:RecentChanges"));
    // A redirect.
    visitor.get(&format!("{wiki}?title=Special:MyPage"));
    visitor.get("/mediawiki/load.php?modules=startup&only=scripts&raw=1&skin=vector&lang=en");
    visitor.get("/mediawiki/load.php?modules=skins.vector.styles.legacy&only=styles&skin=vector&lang=en");
    visitor.asset("/mediawiki/resources/assets/mediawiki.png");
    visitor.get("/mediawiki/api.php?action=query&meta=siteinfo&format=json");
    visitor.get(&format!("{wiki}?title=Nowhere"));
    // An edit, by its form, and what it links to in a table that a deferred update fills.
    visitor.get(&format!("{wiki}?title=Page&action=edit"));
    let before = count(visitor);
    visitor.post(
        &format!("{wiki}?title=Page&action=submit"),
        &[
            ("wpTextbox1", &format!("Edit {before}, which links to [[Linked {before}]].")),
            ("wpSummary", "An edit"),
            ("wpEditToken", "+\\"),
            ("wpUnicodeCheck", "ℳ𝒲♥𝓊𝓃𝒾𝒸ℴ𝒹ℯ"),
            ("wpUltimateParam", "1"),
            ("wpSave", "Save"),
        ],
    );
    let page = visitor.get(&format!("{wiki}?title=Page"));
    assert!(page.contains(&format!("Edit {before}, which links to")), "the edit has not been kept");
    visitor.get(&format!("{wiki}?title=Special:WhatLinksHere/Linked_{before}"));
    wait_for("the deferred update", || (count(visitor) == before + 1).then_some(()));
    // A download.
    visitor.get(&format!("{wiki}?title=Page&action=raw"));
    visitor.get(&format!("{wiki}?title=Special:Export/Page"));
}

/// How many edits the page has had, by the table of recent changes, which a deferred update fills.
fn count(visitor: &Visitor<'_>) -> u64 {
    let query = "select count(*) from recentchanges where rc_title = 'Page'";
    let script = "echo (new PDO('sqlite:' . $argv[1]))->query($argv[2])->fetchColumn();";
    let mut command = Command::new("php");
    command.args(["-r", script, "--"]).arg(visitor.state().join("data/wiki.sqlite")).arg(query);
    String::from_utf8_lossy(&command.output().unwrap().stdout).trim().parse().unwrap()
}

#[test]
#[ignore = "make apps"]
fn each_page_is_the_same_and_finishes_early() {
    if !visit::has("MediaWiki", &[&format!("{CODE}/maintenance/install.php")]) {
        return;
    }
    visit::visit(&Application {
        name: "MediaWiki",
        config: format!(
            "Alias \"/mediawiki\" \"{CODE}\"\nSetEnv MW_CONFIG_FILE \"${{ROOT}}/gates/state/LocalSettings.php\""
        ),
        php_ini: Vec::new(),
        install: Box::new(install),
        visit: visitor,
        random: &[
            (r#""(wgRequestId|wgBackendResponseTime|wgHostname)":("[^"]*"|\d+)"#, "$1"),
            (r#""wgRequestId":"[^"]*""#, "ID"),
            (r"\d{14}", "TIME"),
            (r"\d\d:\d\d(:\d\d)?", "HH:MM"),
            (r"\d\d%3A\d\d", "HH:MM"),
            (r"\d{4}-\d\d-\d\dTHH:MMZ", "DATE"),
            (r#"value="[0-9a-z]{20,}""#, "TOKEN"),
            (r#""version":"[0-9a-z]+""#, "VERSION"),
            (r"in [0-9.]+ seconds|CPU time usage: .*|Real time usage: .*", "SECONDS"),
            (r"(?s)<!-- \nNewPP limit report.*?-->", "REPORT"),
            (r"(?s)<!--\nTransclusion expansion time report.*?-->", "REPORT"),
            (r"(?s)<!-- Saved in parser cache.*?-->", "CACHE"),
            (r#""(limitreport|cputime|walltime)[^}]*\}"#, "REPORT"),
        ],
    });
}
