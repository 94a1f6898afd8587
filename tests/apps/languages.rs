//! What `docs/applications.md` has for frameworks and servers in other languages works as it stands. Only the places of files and the ports are
//! another machine's; what the applications call `work` waits at the test's gate.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Client, Httpd, Mpm, Process, wait_for};
use tempfile::TempDir;

use crate::package::applications::{finishes, folder, fragment, fragments, place};

/// Those that the page speaks of. Worker is event's sibling.
const MPMS: [Mpm; 2] = [Mpm::Event, Mpm::Prefork];

/// What `work` runs for the request whose query is in the environment: it waits at the gate.
fn work(httpd: &Httpd) -> String {
    let www = httpd.root().join("www");
    format!("cd '{}'; . ./background.sh; query id ''; background \"$id\" 200", www.display())
}

/// A file of an application's.
fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
}

/// `work` in Python; `query` is the expression that gives the query.
fn python_work(httpd: &Httpd, query: &str) -> String {
    format!(
        "import os\nimport subprocess\n\n\ndef work(request):\n    env = {{**os.environ, 'QUERY_STRING': {query}}}\n    \
         subprocess.run(['/bin/sh', '-c', {:?}], env=env, stdout=subprocess.DEVNULL)\n",
        work(httpd)
    )
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).unwrap().port()
}

/// A server of an application's own, that listens.
struct Server {
    _process: Process,
}

impl Server {
    fn start(mut command: Command, folder: &Path, port: u16) -> Server {
        let said = folder.join("said");
        let log = fs::File::create(&said).unwrap();
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::spawn(command).expect("the application's server can be run");
        wait_for("the application's server", || {
            assert!(!process.has_ended(), "{}", fs::read_to_string(&said).unwrap());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        Server { _process: process }
    }
}

/// The lines of configuration of a section, with another port.
fn proxy(lines: &str, theirs: u16, port: u16) -> String {
    assert!(lines.contains(&format!(":{theirs}/")), "{lines}");
    lines.replace(&format!(":{theirs}/"), &format!(":{port}/"))
}

/// Runs a program that prepares an application.
fn run(command: &mut Command) {
    let output = command.output().expect("the program is there");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
#[ignore = "make apps"]
fn django() {
    let folder = folder(&[("app.wsgi", &fragment("Django", "python"))]);
    let config = place(&fragment("WSGI", "apache"), folder.path());
    for mpm in MPMS {
        let httpd = Httpd::builder(mpm).modules(&["alias", "wsgi"]).config(&config).start();
        // Its children do not end by themselves, without the module either.
        httpd.allow_log("AH0004[5-7]");
        write(folder.path(), "work.py", &python_work(&httpd, "request['QUERY_STRING']"));
        finishes(&httpd, mpm, "app/");
        httpd.stop();
    }
}

#[test]
#[ignore = "make apps"]
fn plack() {
    for mpm in MPMS {
        let folder = folder(&[]);
        write(folder.path(), "app.psgi", &place(&fragment("Plack", "perl"), folder.path()));
        let config = place(&fragment("Plack", "apache"), folder.path());
        // mod_perl's %ENV is not that of the process.
        let httpd = Httpd::builder(mpm).modules(&["perl"]).config(&config).start();
        let text = format!(
            "package Work;\nsub work {{\n    my $query = sprintf q(QUERY_STRING='%s'; ), shift->{{QUERY_STRING}};\n    \
             system '/bin/sh', '-c', 'exec >/dev/null; ' . $query . q({});\n}}\n1;\n",
            work(&httpd)
        );
        write(folder.path(), "Work.pm", &text);
        finishes(&httpd, mpm, "thanks");
        httpd.stop();
    }
}

#[test]
#[ignore = "make apps"]
fn passenger() {
    for mpm in MPMS {
        let folder = folder(&[("config.ru", &fragment("Rack", "ruby"))]);
        fs::create_dir(folder.path().join("public")).unwrap();
        fs::set_permissions(folder.path().join("public"), fs::Permissions::from_mode(0o755)).unwrap();
        let config = place(&fragment("Rack", "apache"), folder.path());
        // Without root it runs the application as itself, with root as nobody, who may not write into the gates.
        let more = "PassengerUserSwitching off\nPassengerDefaultUser www-data\nPassengerInstanceRegistryDir \"${ROOT}/run\"\nPassengerLogLevel 1\n\
                    PassengerDisableSecurityUpdateCheck on\nPassengerDisableAnonymousTelemetry on";
        let httpd = Httpd::builder(mpm).modules(&["alias", "passenger"]).config(&config).config(more).start();
        let text = format!(
            "def work(env)\n  system({{ 'QUERY_STRING' => env['QUERY_STRING'] }}, '/bin/sh', '-c', {:?}, out: '/dev/null')\nend\n",
            work(&httpd)
        );
        write(folder.path(), "work.rb", &text);
        finishes(&httpd, mpm, "app");
        httpd.stop();
    }
}

#[test]
#[ignore = "make apps"]
fn uwsgi() {
    for mpm in MPMS {
        let folder = folder(&[("app.wsgi", &fragment("WSGI", "python"))]);
        let port = free_port();
        let config = proxy(&fragment("uWSGI", "apache"), 3031, port);
        let httpd = Httpd::builder(mpm).modules(&["proxy", "proxy_uwsgi"]).config(&config).start();
        write(folder.path(), "work.py", &python_work(&httpd, "request['QUERY_STRING']"));
        let mut command = Command::new("uwsgi");
        command.args(["--plugin", "python3", "--socket", &format!("127.0.0.1:{port}"), "--wsgi-file", "app.wsgi"]);
        let server = Server::start(command, folder.path(), port);
        finishes(&httpd, mpm, "app/");
        httpd.stop();
        drop(server);
    }
}

/// Behind mod_proxy_http, with the lines of the section.
fn behind_a_proxy(heading: &str, prepare: impl Fn(&Httpd, &TempDir, u16) -> Command) {
    for mpm in MPMS {
        let (folder, port) = (folder(&[]), free_port());
        let config = proxy(&fragment(heading, "apache"), 8000, port);
        let httpd = Httpd::builder(mpm).modules(&["proxy", "proxy_http"]).config(&config).start();
        let server = Server::start(prepare(&httpd, &folder, port), folder.path(), port);
        if heading == "Starlette" {
            is_complete(&httpd, mpm, "app/");
        } else {
            finishes(&httpd, mpm, "app/");
        }
        httpd.stop();
        drop(server);
    }
}

/// A response whose length the backend tells is complete by that, and its connection goes on.
fn is_complete(httpd: &Httpd, mpm: Mpm, page: &str) {
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let response = Client::connect(httpd, protocol).get(&background.query(page), &[]).response();
        assert_eq!((response.status, &response.body[..]), (200, &b"Thank you.\n"[..]), "{mpm:?} {protocol:?}");
        background.wait_for_begin();
        assert!(!background.is_done(), "the client had to wait for the work");
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "", "{mpm:?} {protocol:?}");
    }
}

#[test]
#[ignore = "make apps"]
fn starlette() {
    behind_a_proxy("Starlette", |httpd, folder, port| {
        write(folder.path(), "app.py", &fragment("Starlette", "python").replace("8000", &port.to_string()));
        write(folder.path(), "work.py", &python_work(httpd, "request"));
        let mut command = Command::new("/usr/bin/python3");
        command.arg("app.py");
        command
    });
}

#[test]
#[ignore = "make apps"]
fn node() {
    behind_a_proxy("Node", |httpd, folder, port| {
        write(folder.path(), "app.js", &fragment("Node", "javascript").replace("8000", &port.to_string()));
        let text = format!(
            "const {{ execFile }} = require('child_process');\nmodule.exports = (url) => new Promise((done) => {{\n  \
             const env = {{ ...process.env, QUERY_STRING: url.split('?')[1] }};\n  \
             execFile('/bin/sh', ['-c', {:?}], {{ env }}, done);\n}});\n",
            work(httpd)
        );
        write(folder.path(), "work.js", &text);
        let mut command = Command::new("node");
        command.arg("app.js");
        command
    });
}

#[test]
#[ignore = "make apps"]
fn go() {
    behind_a_proxy("Go", |httpd, folder, port| {
        write(folder.path(), "thanks.go", &fragment("Go", "go").replace("8000", &port.to_string()));
        let text = format!(
            "package main\n\nimport (\n\t\"os\"\n\t\"os/exec\"\n)\n\nfunc work(query string) {{\n\t\
             command := exec.Command(\"/bin/sh\", \"-c\", {:?})\n\t\
             command.Env = append(os.Environ(), \"QUERY_STRING=\"+query)\n\tcommand.Run()\n}}\n",
            work(httpd)
        );
        write(folder.path(), "work.go", &text);
        let mut build = Command::new("go");
        build.args(["build", "-o", "thanks", "thanks.go", "work.go"]).current_dir(folder.path());
        let cache = std::env::temp_dir().join("go-cache");
        run(build.env("GOCACHE", cache).env("GOPATH", folder.path().join("go")).env("GOPROXY", "off"));
        Command::new(folder.path().join("thanks"))
    });
}

const TOMCAT: &str = "/usr/share/tomcat10";

/// By AJP and by HTTP, of one Tomcat.
#[test]
#[ignore = "make apps"]
fn tomcat() {
    let configs = fragments("Java servlets", "apache");
    for (config, theirs, module) in [(&configs[0], 8009, "proxy_ajp"), (&configs[1], 8080, "proxy_http")] {
        for mpm in MPMS {
            let (folder, port, shutdown) = (folder(&[]), free_port(), free_port());
            let httpd = Httpd::builder(mpm).modules(&["proxy", module]).config(&proxy(config, theirs, port)).start();
            let classes = folder.path().join("webapps/app/WEB-INF/classes");
            for name in ["conf", "logs", "temp", "work"] {
                fs::create_dir(folder.path().join(name)).unwrap();
            }
            fs::create_dir_all(&classes).unwrap();
            write(folder.path(), "Thanks.java", &fragment("Java servlets", "java"));
            let text = format!(
                "public class Work {{\n    static void work(String query) throws java.io.IOException {{\n        \
                 ProcessBuilder builder = new ProcessBuilder(\"/bin/sh\", \"-c\", {:?});\n        \
                 builder.environment().put(\"QUERY_STRING\", query);\n        \
                 try {{ builder.inheritIO().start().waitFor(); }} catch (InterruptedException e) {{ }}\n    }}\n}}\n",
                work(&httpd)
            );
            write(folder.path(), "Work.java", &text);
            let connector = if theirs == 8009 {
                format!("<Connector protocol=\"AJP/1.3\" address=\"127.0.0.1\" port=\"{port}\" secret=\"yours\"/>")
            } else {
                format!("<Connector address=\"127.0.0.1\" port=\"{port}\"/>")
            };
            let server = format!(
                "<Server port=\"{shutdown}\" shutdown=\"SHUTDOWN\"><Service name=\"Catalina\">{connector}<Engine name=\"Catalina\" \
                 defaultHost=\"localhost\"><Host name=\"localhost\" appBase=\"webapps\"/></Engine></Service></Server>\n"
            );
            write(&folder.path().join("conf"), "server.xml", &server);
            // Annotations are looked for, and JSPs are not.
            write(
                &folder.path().join("conf"),
                "web.xml",
                "<web-app xmlns=\"https://jakarta.ee/xml/ns/jakartaee\" version=\"5.0\"/>\n",
            );
            let mut compile = Command::new("java");
            compile.args(["-cp", "/usr/share/java/eclipse-jdt-core.jar:/usr/share/java/*"]);
            compile.args(["org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-proc:none", "-cp"]);
            compile.arg(format!("{TOMCAT}/lib/servlet-api.jar")).arg("-d").arg(&classes);
            run(compile.args(["Thanks.java", "Work.java"]).current_dir(folder.path()));
            let mut command = Command::new("java");
            command.arg("-cp").arg(format!("{TOMCAT}/bin/bootstrap.jar:{TOMCAT}/bin/tomcat-juli.jar"));
            command.arg(format!("-Dcatalina.home={TOMCAT}"));
            command.arg(format!("-Dcatalina.base={}", folder.path().display()));
            command.args(["org.apache.catalina.startup.Bootstrap", "start"]);
            let server = Server::start(command, folder.path(), port);
            // It listens before it has made its applications ready.
            let said = folder.path().join("said");
            wait_for("Tomcat", || fs::read_to_string(&said).unwrap().contains("Server startup in").then_some(()));
            finishes(&httpd, mpm, "app/thanks");
            httpd.stop();
            drop(server);
        }
    }
}
