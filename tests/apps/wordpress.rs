//! WordPress on MariaDB: what a plug-in does behind each page, wp-cron, and the mail on a comment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Process, wait_for};
use tempfile::TempDir;

use super::visit::{self, Application, Place, Visitor};

const CODE: &str = "/usr/share/wordpress";

/// wp-config.php.
const CONFIG: &str = r"<?php
// Each server has its own.
define('DB_NAME', preg_replace('/[^A-Za-z0-9]/', '_', basename(dirname(getenv('WP_STATE'), 2))));
define('DB_USER', 'root');
define('DB_PASSWORD', '');
define('DB_HOST', 'localhost:@FOLDER@/socket');
define('DB_CHARSET', 'utf8mb4');
define('WP_HOME', (isset($_SERVER['HTTPS']) ? 'https' : 'http') . '://localhost/wordpress');
define('WP_SITEURL', WP_HOME);
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
foreach (['AUTH_KEY', 'SECURE_AUTH_KEY', 'LOGGED_IN_KEY', 'NONCE_KEY', 'AUTH_SALT', 'SECURE_AUTH_SALT', 'LOGGED_IN_SALT', 'NONCE_SALT'] as $name) {
    define($name, $name);
}
$table_prefix = 'wp_';
define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
";

/// A plug-in that works behind each page, as plug-ins do, but under wp-cron, which finishes by itself. A comment is an event for wp-cron.
const PLUGIN: &str = r"<?php
add_filter('comment_flood_filter', '__return_false', 100);
// No mail goes from wordpress@localhost, which it takes for no address.
add_filter('wp_mail_from', function () {
    return 'blog@example.com';
});
add_action('comment_post', function ($id) {
    wp_schedule_single_event(time() - 1, 'gate_event', [$id]);
});
add_action('gate_event', function () {
    file_put_contents(getenv('WP_STATE') . '/events', 'x', FILE_APPEND);
});
add_action('shutdown', function () {
    if (isset($_SERVER['HTTP_X_GATE'])) {
        if (!wp_doing_cron() && function_exists('fastcgi_finish_request')) {
            fastcgi_finish_request();
        }
        require_once $_SERVER['DOCUMENT_ROOT'] . '/background.php';
        background($_SERVER['HTTP_X_GATE'], 0);
    }
}, PHP_INT_MAX);
";

const INSTALL: &str = r"
$_SERVER['HTTP_HOST'] = 'localhost';
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
define('WP_INSTALLING', true);
require getenv('WP_CODE') . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Blog', 'admin', 'admin@example.com', true, '', 'a-long-password');
update_option('comment_moderation', '0');
update_option('comment_previously_approved', '0');
update_option('comments_notify', '1');
";

/// A database server, WordPress's files with a configuration and a plug-in, and what takes its mails.
struct Site {
    folder: TempDir,
    _database: Process,
}

impl Site {
    fn start() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        visit::run(Command::new("cp").arg("-rL").arg(CODE).arg(folder.path().join("wordpress")));
        let code = folder.path().join("wordpress");
        fs::write(code.join("wp-config.php"), CONFIG.replace("@FOLDER@", &here)).unwrap();
        fs::create_dir_all(code.join("wp-content/mu-plugins")).unwrap();
        fs::write(code.join("wp-content/mu-plugins/gate.php"), PLUGIN).unwrap();
        fs::write(folder.path().join("sendmail"), format!("#!/bin/sh\ncat >>{here}/mails/all\n")).unwrap();
        fs::create_dir(folder.path().join("mails")).unwrap();
        fs::write(folder.path().join("mails/all"), "").unwrap();
        visit::open(folder.path());
        // The server's user writes there, and whoever installs.
        fs::set_permissions(folder.path().join("mails/all"), fs::Permissions::from_mode(0o666)).unwrap();

        let data = format!("--datadir={here}/data");
        // It refuses to run as root where that is not said.
        let with_user = |command: &mut Command| {
            if is_root() {
                command.arg("--user=root");
            }
        };
        let mut make = Command::new("mariadb-install-db");
        make.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
        with_user(&mut make);
        visit::run(&mut make);
        let mut command = Command::new(mariadbd());
        command.args(["--no-defaults", "--skip-networking", "--skip-grant-tables", &data]);
        command.arg(format!("--socket={here}/socket")).arg(format!("--pid-file={here}/pid"));
        with_user(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("log")).unwrap());
        let database = Process::spawn(command).expect("mariadbd can be run");
        let socket = folder.path().join("socket");
        wait_for("the database", || socket.exists().then_some(()));
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        Site { folder, _database: database }
    }
}

fn is_root() -> bool {
    // SAFETY: the call takes nothing.
    unsafe { libc::geteuid() == 0 }
}

fn mariadbd() -> PathBuf {
    let places = ["/usr/sbin/mariadbd", "/usr/bin/mariadbd"];
    places.iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_default()
}

/// The database that belongs to a server's folder.
fn database(root: &Path) -> String {
    root.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn install(site: &Site, place: &Place) {
    let here = site.folder.path().display().to_string();
    let root = place.state.parent().unwrap().parent().unwrap();
    let query = format!("create database {}", database(root));
    visit::run(Command::new("mariadb").args(["--no-defaults", &format!("--socket={here}/socket"), "-e", &query]));
    place.write("events", "");
    let mut command = Command::new("php");
    command.args(["-d", &format!("sendmail_path=/bin/sh {here}/sendmail"), "-r", INSTALL]);
    command.env("WP_CODE", format!("{here}/wordpress")).env("WP_STATE", &place.state);
    visit::run(&mut command);
}

fn visitor(visitor: &mut Visitor<'_>) {
    for page in ["", "?p=1", "?page_id=2", "?feed=rss2", "?p=99", "wp-login.php", "?rest_route=/wp/v2/posts"] {
        visitor.get(&format!("/wordpress/{page}"));
    }
    for file in [
        "wp-includes/css/dist/block-library/style.min.css",
        "wp-includes/images/wpspin.gif",
        "wp-includes/js/wp-embed.min.js",
    ] {
        visitor.asset(&format!("/wordpress/{file}"));
    }
    let events = || fs::read_to_string(visitor.state().join("events")).unwrap().len();
    let before = events();
    let text = format!("Comment {before}.");
    let fields = [
        ("comment_post_ID", "1"),
        ("author", "Somebody"),
        ("email", "some@example.com"),
        ("comment", &text),
        ("submit", "Post"),
    ];
    // A redirect.
    let answer = visitor.post("/wordpress/wp-comments-post.php", &fields);
    let page = visitor.get("/wordpress/?p=1");
    assert!(page.contains(&text), "the comment has not been kept: {answer:.600} {page}");
    visitor.get("/wordpress/wp-cron.php");
    let file = visitor.state().join("events");
    wait_for("wp-cron's event", || (fs::read_to_string(&file).unwrap().len() == before + 1).then_some(()));
    // In, by a form, to a page that only users see.
    visitor.post(
        "/wordpress/wp-login.php",
        &[("log", "admin"), ("pwd", "a-long-password"), ("wp-submit", "Log In"), ("testcookie", "1")],
    );
    visitor.get("/wordpress/wp-admin/profile.php");
}

#[test]
#[ignore = "make apps"]
fn each_page_is_the_same_and_finishes_early() {
    if !visit::has("WordPress", &[&format!("{CODE}/wp-load.php"), "/usr/bin/mariadb-install-db"]) {
        return;
    }
    let site = Site::start();
    let here = site.folder.path().display().to_string();
    let mails = site.folder.path().join("mails/all");
    let application = Application {
        name: "WordPress",
        config: format!("Alias \"/wordpress\" \"{here}/wordpress\"\nSetEnv WP_STATE \"${{ROOT}}/gates/state\"\n"),
        install: Box::new(move |place| install(&site, place)),
        visit: visitor,
        random: &[(r#"data-pw="[^"]*""#, "PASSWORD"), (r"[0-9a-f]{10}", "NONCE"), (r"\d\d:\d\d(:\d\d)?", "TIME")],
        php_ini: vec![("sendmail_path", format!("/bin/sh {here}/sendmail"))],
    };
    visit::visit(&application);
    // The folder goes with the application.
    assert!(fs::read_to_string(&mails).unwrap().contains("Somebody"), "no mail");
}
