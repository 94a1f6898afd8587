//! What Drupal and Magento do, as scripts: their idioms, not their code, as Debian packages neither.

use super::visit::{self, Application, Place, Visitor};

/// A buffer for each page; the response is sent, all buffers are closed, and what was registered is done: Drupal's terminate.
const DRUPAL: &str = r#"<?php
require_once '@BACKGROUND@';
ob_start();
session_save_path('@STATE@');
session_start();
$page = $_GET['q'] ?? 'node';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $_SESSION['title'] = $_POST['title'];
    header('Location: /state/drupal.php?q=saved', true, 303);
} elseif ($page === 'file') {
    header('Content-Type: application/octet-stream');
    header('Content-Disposition: attachment; filename="file.bin"');
    header('Content-Length: 60000');
    echo body(60000);
} elseif ($page === 'missing') {
    http_response_code(404);
    echo 'Not found';
} else {
    header('Cache-Control: must-revalidate, no-cache, private');
    header('X-Generator: An idiom');
    echo '<title>', htmlspecialchars($_SESSION['title'] ?? $page), '</title>', body(20000);
}
session_write_close();
if (function_exists('fastcgi_finish_request')) {
    fastcgi_finish_request();
} elseif (PHP_SAPI !== 'cli') {
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    flush();
}
if (isset($_SERVER['HTTP_X_GATE'])) {
    background($_SERVER['HTTP_X_GATE'], 0);
}
"#;

/// The page is compressed by PHP, the response sent in a destructor's place, and the work done by functions that run at the shutdown: Magento's.
const MAGENTO: &str = r#"<?php
require_once '@BACKGROUND@';
register_shutdown_function(function () {
    session_write_close();
    if (function_exists('fastcgi_finish_request')) {
        fastcgi_finish_request();
    }
    if (isset($_SERVER['HTTP_X_GATE'])) {
        background($_SERVER['HTTP_X_GATE'], 0);
    }
});
ini_set('zlib.output_compression', '1');
session_save_path('@STATE@');
session_start();
header('Pragma: no-cache');
header('X-Frame-Options: SAMEORIGIN');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $_SESSION['order'] = $_POST['order'];
    header('Location: /state/magento.php?page=success');
    exit;
}
if (($_GET['page'] ?? '') === 'json') {
    header('Content-Type: application/json');
    exit(json_encode(['items' => range(1, 3000)]));
}
echo '<title>', htmlspecialchars($_SESSION['order'] ?? 'Shop'), '</title>', body(50000);
"#;

fn install(place: &Place) {
    place.write("drupal.php", DRUPAL);
    place.write("magento.php", MAGENTO);
    place.write("style.css", &"p { margin: 0 }\n".repeat(400));
}

fn drupal(visitor: &mut Visitor<'_>) {
    for page in ["node", "file", "missing"] {
        visitor.get(&format!("/state/drupal.php?q={page}"));
    }
    visitor.asset("/state/style.css");
    visitor.post("/state/drupal.php", &[("title", "A title")]);
    assert!(visitor.get("/state/drupal.php?q=saved").contains("<title>A title"), "the session has been lost");
}

fn magento(visitor: &mut Visitor<'_>) {
    for page in ["home", "json"] {
        visitor.get(&format!("/state/magento.php?page={page}"));
    }
    visitor.asset("/state/style.css");
    visitor.post("/state/magento.php", &[("order", "An order")]);
    assert!(visitor.get("/state/magento.php?page=success").contains("<title>An order"), "the session has been lost");
}

fn idiom(name: &'static str, visit: fn(&mut Visitor<'_>)) {
    visit::visit(&Application {
        name,
        config: "Alias /state \"${ROOT}/gates/state\"".to_owned(),
        php_ini: Vec::new(),
        install: Box::new(install),
        visit,
        random: &[],
    });
}

#[test]
#[ignore = "make apps"]
fn of_drupal() {
    idiom("Drupal's idiom", drupal);
}

#[test]
#[ignore = "make apps"]
fn of_magento() {
    idiom("Magento's idiom", magento);
}
