//! DokuWiki: the picture on each page whose program indexes. It does not look for php-fpm's function, but has a recipe of its own: a length,
//! and `Connection: close`. With `FinishRequest Auto` for its program that ends early.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::visit::{self, Application, Place, Visitor};

const CODE: &str = "/usr/share/dokuwiki";

/// A plug-in that works where the index is made.
const PLUGIN: &str = r#"<?php
class action_plugin_gate extends DokuWiki_Action_Plugin
{
    public function register(Doku_Event_Handler $controller)
    {
        $controller->register_hook('INDEXER_TASKS_RUN', 'BEFORE', $this, 'work');
    }

    public function work(Doku_Event $event)
    {
        if (isset($_SERVER['HTTP_X_GATE'])) {
            require_once $_SERVER['DOCUMENT_ROOT'] . '/background.php';
            background($_SERVER['HTTP_X_GATE'], 0);
        }
    }
}
"#;

const LOCAL: &str = "<?php
$conf['title'] = 'Wiki';
$conf['savedir'] = '@STATE@/data';
$conf['useacl'] = 0;
$conf['rss_update'] = 0;
$conf['cachetime'] = 0;
";

/// A copy of the package's files, with the plug-in, and with its configuration where the server says.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let code = folder.path().join("dokuwiki");
    visit::run(Command::new("cp").arg("-rL").arg(CODE).arg(&code));
    let preload = code.join("inc/preload.php");
    let text = fs::read_to_string(&preload).unwrap();
    let own = "<?php if (!defined('DOKU_CONF')) define('DOKU_CONF', getenv('WIKI_CONF') . '/'); ?>";
    fs::write(&preload, format!("{own}{text}")).unwrap();
    let plugin = code.join("lib/plugins/gate");
    fs::create_dir(&plugin).unwrap();
    fs::write(plugin.join("action.php"), PLUGIN).unwrap();
    fs::write(
        plugin.join("plugin.info.txt"),
        "base gate\nauthor -\nemail -\ndate 2026-01-01\nname gate\ndesc -\nurl -\n",
    )
    .unwrap();
    visit::open(folder.path());
    folder
}

fn install(place: &Place) {
    for name in
        ["attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta", "meta", "pages", "tmp"]
    {
        fs::create_dir_all(place.state.join("data").join(name)).unwrap();
    }
    place.write("conf/local.php", LOCAL);
    for name in ["acl.auth.php", "users.auth.php", "userprint.css", "userstyle.css"] {
        place.write(&format!("conf/{name}"), "");
    }
    place.write("data/pages/start.txt", "====== Start ======\n\nA page with a [[link]] and {{picture.png}}.\n");
    let picture = Path::new(CODE).join("lib/images/license/badge/cc-by.png");
    fs::create_dir_all(place.state.join("data/media")).unwrap();
    fs::copy(picture, place.state.join("data/media/picture.png")).unwrap();
}

fn visitor(visitor: &mut Visitor<'_>) {
    visitor.asset("/dokuwiki/doku.php?id=start");
    visitor.get("/dokuwiki/lib/exe/taskrunner.php?id=start");
    visitor.asset("/dokuwiki/lib/exe/css.php?t=dokuwiki");
    visitor.asset("/dokuwiki/lib/exe/js.php?t=dokuwiki");
    visitor.asset("/dokuwiki/lib/images/smileys/fixme.svg");
    visitor.asset("/dokuwiki/lib/exe/fetch.php?media=picture.png");
    visitor.asset("/dokuwiki/doku.php?id=nowhere");
    visitor.asset("/dokuwiki/doku.php?id=page&do=edit");
    let edits = fs::read_to_string(visitor.state().join("data/meta/page.changes")).unwrap_or_default().lines().count();
    let text = format!("Edit {edits}.");
    // A redirect.
    visitor.form(
        "/dokuwiki/doku.php?id=page",
        &[("id", "page"), ("wikitext", &text), ("do[save]", "Save"), ("summary", "")],
    );
    let page = visitor.asset("/dokuwiki/doku.php?id=page");
    assert!(page.contains(&text), "the edit has not been kept");
    visitor.get("/dokuwiki/lib/exe/taskrunner.php?id=page");
    visitor.asset("/dokuwiki/doku.php?id=page&do=export_raw");
}

#[test]
#[ignore = "make apps"]
fn its_indexer_finishes_early() {
    if !visit::has("DokuWiki", &[&format!("{CODE}/doku.php")]) {
        return;
    }
    let folder = copy();
    visit::visit(&Application {
        name: "DokuWiki",
        config: format!(
            "Alias \"/dokuwiki\" \"{0}/dokuwiki\"\n<Directory \"{0}\">\nAllowOverride None\n</Directory>\nSetEnv WIKI_CONF \"${{ROOT}}/gates/state/conf\"\n\
             <IfModule finish_request_module>\n<FilesMatch \"^taskrunner\\.php$\">\nFinishRequest Auto\n</FilesMatch>\n</IfModule>",
            folder.path().display()
        ),
        php_ini: Vec::new(),
        install: Box::new(install),
        visit: visitor,
        random: &[
            (r"\d{4}/\d\d/\d\d \d\d:\d\d", "DATE"),
            (r"\d{10}", "TIME"),
            (r"[0-9a-f]{32}", "DIGEST"),
            (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "DATE"),
        ],
    });
}
