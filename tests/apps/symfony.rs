//! Symfony's components: listeners of `kernel.terminate`, and a session in a file.

use std::fs;

use support::wait_for;

use super::visit::{self, Application, Place, Visitor};

fn install(place: &Place) {
    fs::create_dir_all(place.state.join("sessions")).unwrap();
    place.write("file.txt", &"A line of the file.\n".repeat(5000));
    place.write("sent", "");
    place.write("public/style.css", &"p { margin: 0 }\n".repeat(400));
    place.write("public/index.php", include_str!("symfony.php"));
}

fn visitor(visitor: &mut Visitor<'_>) {
    for page in ["", "short", "json", "empty", "redirect", "unchanged", "cached", "streamed", "download", "part"] {
        visitor.get(&format!("/symfony/index.php/{page}"));
    }
    visitor.asset("/symfony/style.css");
    let sent = |visitor: &Visitor<'_>| fs::read_to_string(visitor.state().join("sent")).unwrap().lines().count();
    let before = sent(visitor);
    visitor.post("/symfony/index.php/form", &[("name", "A visitor")]);
    // It is done behind the gate.
    wait_for("the listener", || (sent(visitor) == before + 1).then_some(()));
    assert!(visitor.get("/symfony/index.php/form").contains("Sent: A visitor"), "the session has been lost");
}

#[test]
#[ignore = "make apps"]
fn each_page_is_the_same_and_finishes_early() {
    let parts = ["EventDispatcher", "HttpFoundation", "HttpKernel", "Routing"];
    let files = parts.map(|part| format!("/usr/share/php/Symfony/Component/{part}/autoload.php"));
    if !visit::has("Symfony", &files.each_ref().map(String::as_str)) {
        return;
    }
    visit::visit(&Application {
        name: "Symfony",
        config: "Alias \"/symfony\" \"${ROOT}/gates/state/public\"".to_owned(),
        php_ini: Vec::new(),
        install: Box::new(install),
        visit: visitor,
        random: &[(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "DATE")],
    });
}
