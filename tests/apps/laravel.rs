//! Laravel's framework: terminable middleware, jobs that are dispatched after the response, a session in a file.

use std::fs;

use support::wait_for;

use super::visit::{self, Application, Place, Visitor};

const CODE: &str = "/usr/share/php/Illuminate/Foundation/Application.php";

const CONFIG: [(&str, &str); 3] = [
    (
        "config/app.php",
        "<?php return ['env' => 'production', 'key' => str_repeat('k', 32), 'cipher' => 'AES-256-CBC', 'timezone' => 'UTC', 'locale' => 'en',
            'fallback_locale' => 'en', 'debug' => true, 'url' => 'http://localhost', 'providers' => [
            Illuminate\\Bus\\BusServiceProvider::class, Illuminate\\Filesystem\\FilesystemServiceProvider::class,
            Illuminate\\Session\\SessionServiceProvider::class, Illuminate\\Cookie\\CookieServiceProvider::class,
            Illuminate\\Cache\\CacheServiceProvider::class, Illuminate\\Encryption\\EncryptionServiceProvider::class,
            Illuminate\\View\\ViewServiceProvider::class, Illuminate\\Translation\\TranslationServiceProvider::class,
            Illuminate\\Foundation\\Providers\\FoundationServiceProvider::class], 'aliases' => []];\n",
    ),
    (
        "config/session.php",
        "<?php return ['driver' => 'file', 'lifetime' => 120, 'files' => '@STATE@/sessions', 'cookie' => 'session', 'path' => '/',
            'domain' => null, 'lottery' => [0, 100], 'expire_on_close' => false];\n",
    ),
    ("config/view.php", "<?php return ['paths' => [], 'compiled' => '@STATE@'];\n"),
];

fn install(place: &Place) {
    for folder in ["sessions", "bootstrap/cache", "storage/logs"] {
        fs::create_dir_all(place.state.join(folder)).unwrap();
    }
    for (name, text) in CONFIG {
        place.write(name, text);
    }
    place.write("file.txt", &"A line of the file.\n".repeat(5000));
    place.write("sent", "");
    place.write("public/index.php", include_str!("laravel.php"));
}

fn visitor(visitor: &mut Visitor<'_>) {
    for page in ["", "short", "json", "empty", "redirect", "streamed", "download", "nowhere"] {
        visitor.get(&format!("/laravel/index.php/{page}"));
    }
    let page = visitor.get("/laravel/index.php/short");
    assert_eq!(page, "Short.");
    let file = visitor.state().join("sent");
    let sent = || fs::read_to_string(&file).unwrap().lines().count();
    let before = sent();
    visitor.post("/laravel/index.php/form", &[("name", "A visitor")]);
    // It is done behind the middleware's work.
    wait_for("the job", || (sent() == before + 1).then_some(()));
    assert!(visitor.get("/laravel/index.php/form").contains("Sent: A visitor"), "the session has been lost");
}

#[test]
#[ignore = "make apps"]
fn each_page_is_the_same_and_finishes_early() {
    if !visit::has("Laravel", &[CODE]) {
        return;
    }
    visit::visit(&Application {
        name: "Laravel",
        config: "Alias \"/laravel\" \"${ROOT}/gates/state/public\"".to_owned(),
        php_ini: Vec::new(),
        install: Box::new(install),
        visit: visitor,
        random: &[(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "DATE")],
    });
}
