//! The socket by which kept connections go back to the server: it is there only where it is wanted, nobody but the server's own
//! processes gets anything by it, and it lives through restarts.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use support::http1::{Connection, EndKind};
use support::{Background, DEADLINE, Handler, Httpd, Mpm, Signal, body, wait_for};

use crate::administrator::restarts::{all_threads_sleep, children, listening, may_crash};
use crate::finished::released::{connections_to, sockets_of};
use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};
use crate::marks::api::c_module;

/// After a graceful restart the old processes have their places besides the new ones.
const KEEP: &str = "LogLevel finish_request:debug\nFinishRequest On\nFinishRequestConnection Keep\n";

/// The names of the sockets of the kernel's own family that a server listens to, each with its inode.
pub fn listeners(httpd: &Httpd) -> Vec<(String, u64)> {
    let sockets = sockets_of(httpd.id());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Connections whose messages stay whole, that are accepted (__SO_ACCEPTCON): mod_cgid's is another kind.
    rows.filter(|row| row[3] == "00010000" && row[4] == "0005")
        .map(|row| (row.get(7).copied().unwrap_or_default().to_owned(), row[6].parse().unwrap()))
        .filter(|(_, inode)| sockets.contains(inode))
        .collect()
}

/// The way to a server's socket that its parent has, for who may look at the parent's descriptors.
fn door(httpd: &Httpd) -> String {
    let [(name, _)] = &listeners(httpd)[..] else { panic!("one socket") };
    let folder = format!("/proc/{}/fd", httpd.id());
    let mut descriptors = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let is_door = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(name));
    descriptors.find(is_door).unwrap().to_str().unwrap().to_owned()
}

/// Whether this user may look at the server's descriptors.
fn may_enter(user: &str) -> bool {
    // SAFETY: only asks.
    user == "root" || unsafe { libc::geteuid() } != 0
}

/// Connects to the socket of a path.
fn connect(path: &str) -> io::Result<OwnedFd> {
    connect_as(None, path)
}

/// Connects to the socket of a path, from one that is bound to a name, where that is given.
fn connect_as(own: Option<&[u8]>, path: &str) -> io::Result<OwnedFd> {
    // SAFETY: the addresses have room for their paths, and a NUL behind that to connect to; the kernel's descriptor is nobody else's.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        assert!(socket >= 0);
        let socket = OwnedFd::from_raw_fd(socket);
        if let Some(own) = own {
            let mut name: libc::sockaddr_un = std::mem::zeroed();
            name.sun_family = libc::AF_UNIX as libc::sa_family_t;
            assert!(own.len() <= name.sun_path.len());
            for (to, from) in name.sun_path.iter_mut().zip(own) {
                *to = *from as libc::c_char;
            }
            let length = size_of::<libc::sa_family_t>() + own.len();
            let length = libc::socklen_t::try_from(length).unwrap();
            assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length), 0);
        }
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        assert!(path.len() < address.sun_path.len());
        for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
            *to = from as libc::c_char;
        }
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        match libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends a message, perhaps with a descriptor.
fn send(socket: &OwnedFd, message: &[u8], descriptor: Option<i32>) {
    // SAFETY: the header points to buffers of this function's; the control buffer has room for a descriptor.
    unsafe {
        let mut data = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut control = [0_u64; 8];
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut data;
        header.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(first).cast::<i32>().write_unaligned(descriptor);
        }
        // An error says that the server has closed it already.
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL);
    }
}

/// Waits until the server has ended the connection, without a word.
#[track_caller]
fn is_sent_away(socket: &OwnedFd) {
    let mut watched = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut bytes = [0_u8; 64];
    // SAFETY: one record and one buffer, of this function's own.
    unsafe {
        let limit = i32::try_from(DEADLINE.as_millis()).unwrap();
        assert_eq!(libc::poll(&raw mut watched, 1, limit), 1, "the stranger is not sent away");
        let read = libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT);
        assert!(
            read == 0 || read < 0 && io::Error::last_os_error().kind() == io::ErrorKind::ConnectionReset,
            "{read} bytes"
        );
    }
}

/// Does something as another user, in a thread of its own; as the same one where the tests do not run as root.
fn as_user<T: Send>(name: &str, act: impl FnOnce() -> T + Send) -> T {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    let user: libc::uid_t = account.split(':').nth(2).unwrap().parse().unwrap();
    thread::scope(|scope| {
        scope
            .spawn(move || {
                // SAFETY: the system call itself, past libc, changes the calling thread only.
                unsafe {
                    if libc::geteuid() == 0 {
                        assert_eq!(libc::syscall(libc::SYS_setresuid, user, user, user), 0);
                    }
                }
                act()
            })
            .join()
            .unwrap()
    })
}

/// Three requests over one connection, and work that goes on meanwhile.
#[track_caller]
fn is_kept(httpd: &Httpd, connection: &Connection) {
    let works: Vec<Background> = (0..3).map(|_| httpd.background()).collect();
    for background in &works {
        connection.get(&path(background, "app.lua", "mark=on"), &[]);
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert!(!response.header("Connection").is_some_and(|value| value.contains("close")));
        background.wait_for_begin();
    }
    assert!(works.iter().all(|background| !background.is_done()));
    works.iter().for_each(|background| {
        ran_to_its_end(background);
    });
}

/// The response says that the connection is closed, and it is.
#[track_caller]
fn is_closed(httpd: &Httpd, connection: &Connection) {
    let background = httpd.background();
    connection.get(&path(&background, "app.lua", "mark=on"), &[]);
    let response = connection.response();
    assert_body(&response, &body(4096));
    assert!(response.header("Connection").is_some_and(|value| value.contains("close")));
    assert_eq!(connection.end().kind, EndKind::Fin);
    assert!(!background.is_done());
    ran_to_its_end(&background);
}

/// There is one where the server's own configuration has `Keep`, in whatever section, and none otherwise.
#[test]
fn it_is_there_only_where_it_is_wanted() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| {
        [
            (mpm, "", 0),
            (mpm, "FinishRequest On", 0),
            (mpm, "FinishRequest Auto\nFinishRequestConnection Close", 0),
            (mpm, "FinishRequest On\nFinishRequestConnection Keep", 1),
            (
                mpm,
                "<VirtualHost *:1>\n<Location /somewhere>\nFinishRequestConnection Keep\n</Location>\n</VirtualHost>",
                1,
            ),
        ]
    });
    side_by_side(cases, |(mpm, config, expected)| {
        let httpd = Httpd::builder(mpm).handler(Handler::Cgi).config(config).start();
        // mod_cgid's daemon may still be on its way when the server is stopped.
        httpd.allow_log("AH01244");
        assert_eq!(listeners(&httpd).len(), expected, "{config}");
        httpd.stop();
    });
}

/// Whoever is not one of the server's processes is sent away: whatever it sends, and whoever it is.
#[test]
fn strangers_are_sent_away() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).handler(Handler::Cgi).config(KEEP).start();
        let [(name, _)] = &listeners(&httpd)[..] else { panic!("one socket") };
        assert!(!fs::exists(name).unwrap());
        let name = &door(&httpd);
        for user in ["root", "nobody", "www-data"] {
            let may_enter = may_enter(user);
            as_user(user, || {
                if !may_enter {
                    assert_eq!(connect(name).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
                    return;
                }
                send(&connect(name).unwrap(), b"gone already", None);
                for message in [b"".to_vec(), b"x".to_vec(), vec![0; 44], vec![b'A'; 60_000], vec![b'A'; 100_000]] {
                    let socket = connect(name).unwrap();
                    send(&socket, &message, None);
                    is_sent_away(&socket);
                }
                // A connection of its own, with a request that nobody answers.
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                let socket = connect(name).unwrap();
                let made_up =
                    [vec![0; 32], 1_i32.to_le_bytes().to_vec(), 60_000_000_i64.to_le_bytes().to_vec()].concat();
                send(
                    &socket,
                    &[&made_up[..], b"GET /made-up HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat(),
                    Some(server.as_raw_fd()),
                );
                drop(server);
                is_sent_away(&socket);
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                assert_eq!(io::Read::read(&mut &client, &mut [0; 64]).unwrap(), 0);
            });
        }
        assert!(!httpd.access_log().iter().any(|line| line.contains("made-up")));
        is_kept(&httpd, &httpd.connect());
        httpd.stop();
    });
}

/// A stranger's socket has no name, or one of any length. httpd, which asks for it as it does for an IP address, sees an empty one:
/// nothing of what the memory had before.
#[test]
fn strangers_have_no_name() {
    side_by_side(Mpm::ALL, |mpm| {
        let names = c_module("mod_names");
        let config = format!("LoadModule names_module \"{}\"\nLogLevel names:info\n{KEEP}", names.display());
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).poisoned().config(&config).start();
        let door = door(&httpd);
        // The second and third are names without a file, the second filling what there is room for; the last is the kernel's own choice.
        let abstract_name = |fill: usize| format!("\0{:a<fill$}", format!("finish-{}-{fill}", httpd.id())).into_bytes();
        let file = httpd.root().join("run/stranger").to_str().unwrap().as_bytes().to_vec();
        let bound = [None, Some(abstract_name(107)), Some(abstract_name(1)), Some(file), Some(Vec::new())];
        let strangers = bound.map(|name| {
            let socket = connect_as(name.as_deref(), &door).unwrap();
            send(&socket, b"x", None);
            is_sent_away(&socket);
            socket
        });
        is_kept(&httpd, &httpd.connect());
        // They are sent away before they are called anything.
        let others = wait_for("all strangers to be called something", || {
            let log = httpd.log();
            let called = log.lines().filter_map(|line| Some(line.split_once("the client is called '")?.1.to_owned()));
            let others: Vec<String> = called.filter(|names| !names.starts_with("127.0.0.1'")).collect();
            (others.len() >= strangers.len()).then_some(others)
        });
        assert_eq!(others.len(), strangers.len(), "{others:?}");
        assert!(others.iter().all(|names| names.starts_with('\'')), "{others:?}");
        httpd.stop();
    });
}

/// A CGI script, whose user is the server's, is a stranger too; and it inherits neither that socket nor others of the server's.
#[test]
fn a_script_is_a_stranger() {
    const SCRIPT: &str = r#"#!/usr/bin/perl
use Socket;
print "Content-Type: text/plain\r\n\r\n";
my @open = grep { defined(readlink($_)) } glob("/proc/self/fd/*");
print scalar(@open), " open\n";
for my $fd (@open) { print "$1\n" if readlink($fd) =~ /^socket:\[(\d+)\]/; }
my $name = $ENV{QUERY_STRING};
socket(my $socket, AF_UNIX, SOCK_SEQPACKET, 0) or die;
connect($socket, pack("Sa108", AF_UNIX, $name)) or do { print "refused\n"; exit };
if ($ENV{PATH_INFO} eq "/junk") { send($socket, "junk", 0); }
my $answer = "";
my $got = recv($socket, $answer, 100, 0);
print "got '$answer'\n";
"#;
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).handler(Handler::Cgi).config(KEEP).start();
        httpd.install("stranger.cgi", SCRIPT);
        let servers: HashSet<u64> = listeners(&httpd).into_iter().map(|(_, inode)| inode).collect();
        let answer = if may_enter("www-data") { "got ''\n" } else { "refused\n" };
        for how in ["junk", "silence"] {
            let connection = httpd.connect();
            connection.get(&format!("/stranger.cgi/{how}?{}", door(&httpd)), &[]);
            let response = connection.response();
            let text = String::from_utf8(response.body.clone()).unwrap();
            assert!(text.ends_with(answer), "{} {text}", response.status);
            // Its standard three.
            let open = text.split_once(" open\n").and_then(|(open, _)| open.parse().ok());
            assert!(open.is_some_and(|open: usize| open >= 3), "{text}");
            let inherited: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
            assert!(inherited.iter().all(|inode| !servers.contains(inode)), "{inherited:?}, {servers:?}");
            // mod_cgid's and mod_cgi's own; neither is a socket of the network.
            let network = fs::read_to_string("/proc/net/tcp").unwrap();
            let of_network =
                |inode: &u64| network.lines().any(|line| line.split_whitespace().nth(9) == Some(&inode.to_string()));
            assert!(!inherited.iter().any(of_network), "{inherited:?}");
        }
        is_kept(&httpd, &httpd.connect());
        httpd.stop();
    });
}

/// Strangers that say nothing hold no thread: there are three times as many as threads, and the server answers.
#[test]
fn silence_holds_nobody() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(8).config(KEEP).start();
        let door = door(&httpd);
        let strangers: Vec<OwnedFd> = (0..24).map(|_| connect(&door).unwrap()).collect();
        is_kept(&httpd, &httpd.connect());
        strangers.iter().for_each(is_sent_away);
        httpd.stop();
    });
}

/// Sends its header and half of its body; ends, and works on, when it is told to.
const HELD: Application = Application {
    php: "",
    sh: "",
    lua: "r.content_type = 'text/plain'
          r.headers_out['Content-Length'] = '4096'
          r.headers_out['X-Finish-Request'] = 'on'
          local text = background.body(4096)
          r:write(text:sub(1, 2000))
          r:flush()
          local file
          repeat
              r.usleep(5000)
              file = io.open('@GATES@/' .. query.id .. '.end')
          until file
          file:close()
          r:write(text:sub(2001))
          r:flush()
          background.run(r, query.id, 0)
          return apache2.OK",
};

/// A request whose header has promised that its connection goes on, and whose response has not ended.
fn hold(httpd: &Httpd, page: &str) -> (Connection, Background) {
    let (connection, background) = (httpd.connect(), httpd.background());
    connection.get(&background.query(page), &[]);
    let response =
        wait_for("half of a response", || connection.so_far().filter(|response| response.body.len() == 2000));
    assert!(!response.header("Connection").is_some_and(|value| value.contains("close")));
    (connection, background)
}

/// Has the held response end.
fn release(httpd: &Httpd, (connection, background): &(Connection, Background)) {
    fs::write(httpd.root().join(format!("gates/{}.end", background.id())), "").unwrap();
    assert_body(&connection.response(), &body(4096));
    background.wait_for_begin();
}

/// Changes the configuration.
fn change(httpd: &Httpd, change: impl FnOnce(String) -> String) {
    let file = httpd.root().join("httpd.conf");
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
}

/// The configuration of a server that listens for TLS alone.
fn without_plain_port(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("Listen 127") || line.contains("TLS_PORT"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Changes the configuration, and restarts. The old children accept nothing any more.
pub fn restart(httpd: &Httpd, signal: Signal, with: impl FnOnce(String) -> String) {
    change(httpd, with);
    let started = || httpd.log().matches("resuming normal operations").count();
    let before = started();
    let (old, listening) = (children(httpd.id()), listening(httpd));
    httpd.signal(signal);
    wait_for("the restart", || (started() > before).then_some(()));
    wait_for("the old children to have closed their listeners", || {
        old.iter().all(|child| sockets_of(*child).is_disjoint(&listening)).then_some(())
    });
}

/// A connection that a child of the old generation hands in after a graceful restart is served by the new one; also where the
/// new configuration has no `Keep` any more.
#[test]
fn a_graceful_restart() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [(mpm, true), (mpm, false)]);
    side_by_side(cases, |(mpm, keep)| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(8).config(KEEP).start();
        let page = HELD.install(&httpd, Handler::Lua, "held");
        let before = listeners(&httpd);
        let held: Vec<_> = (0..4).map(|_| hold(&httpd, &page)).collect();
        restart(&httpd, Signal::USR1, |text| {
            let text = if keep { text } else { text.replace("FinishRequestConnection Keep", "") };
            text + "CustomLog \"${ROOT}/new.log\" \"%U%q\"\n"
        });
        assert_eq!(listeners(&httpd), before);
        for (number, held) in held.iter().enumerate() {
            release(&httpd, held);
            assert!(!held.1.is_done());
            held.0.get(&format!("/app.lua?mark=none&bytes=10&number={number}"), &[]);
            assert_body(&held.0.response(), &body(10));
            wait_for("the new server to log it", || {
                let log = fs::read_to_string(httpd.root().join("new.log")).unwrap_or_default();
                log.contains(&format!("number={number}")).then_some(())
            });
        }
        for (connection, background) in &held {
            if keep {
                is_kept(&httpd, connection);
            } else {
                is_closed(&httpd, connection);
            }
            ran_to_its_end(background);
        }
        httpd.stop();
    });
}

/// A request that is still to give its header when its child has been told to end: the connection is closed, and the header says so.
#[test]
fn a_child_that_ends() {
    const LATE: Application = Application {
        php: "",
        sh: "",
        lua: "io.open('@GATES@/' .. query.id .. '.taken', 'w'):close()
              local file
              repeat
                  r.usleep(5000)
                  file = io.open('@GATES@/' .. query.id .. '.end')
              until file
              file:close()
              background.answer(r)
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(8).config(KEEP).start();
        let page = LATE.install(&httpd, Handler::Lua, "late");
        let (connection, background) = (httpd.connect(), httpd.background());
        connection.get(&background.query(&page), &[]);
        let taken = httpd.root().join(format!("gates/{}.taken", background.id()));
        wait_for("the request to be worked on", || taken.exists().then_some(()));
        let before = children(httpd.id());
        restart(&httpd, Signal::USR1, |text| text);
        is_kept(&httpd, &httpd.connect());
        fs::write(httpd.root().join(format!("gates/{}.end", background.id())), "").unwrap();
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert!(response.header("Connection").is_some_and(|value| value.contains("close")));
        assert_eq!(connection.end().kind, EndKind::Fin);
        assert!(!background.is_done());
        // The child waits for the client to close, too.
        drop(connection);
        ran_to_its_end(&background);
        wait_for("the old children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
        httpd.stop();
    });
}

/// A restart that is not graceful, several times; with and without the TLS port, with other ports, and with `Keep` gone and back.
#[test]
fn other_restarts() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(8).config(KEEP).start();
        may_crash(&httpd);
        for round in 0..3 {
            restart(&httpd, Signal::HUP, |text| text + &format!("Listen 127.0.0.{}:${{PORT}}\n", 10 + round));
            assert_eq!(listeners(&httpd).len(), 1);
            is_kept(&httpd, &httpd.connect());
            is_kept(&httpd, &Connection::plain(([127, 0, 0, 10 + round], httpd.address().port()).into()));
        }
        restart(&httpd, Signal::HUP, |text| text.replace("FinishRequestConnection Keep", ""));
        is_closed(&httpd, &httpd.connect());
        restart(&httpd, Signal::HUP, |text| text + "FinishRequestConnection Keep\n");
        assert_eq!(listeners(&httpd).len(), 1);
        is_kept(&httpd, &httpd.connect());
        // TLS alone.
        restart(&httpd, Signal::HUP, |text| without_plain_port(&text));
        is_closed(&httpd, &httpd.connect_tls());
        restart(&httpd, Signal::USR1, |text| text);
        is_closed(&httpd, &httpd.connect_tls());
        httpd.stop();
    });
}

/// A process that does not see its own descriptors in `/proc` cannot hand a connection on: it closes it, and says so in the header.
#[test]
fn no_proc() {
    if !support::machine::may_unshare(&["--mount"]) {
        return;
    }
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(8).config(KEEP).without_proc().start();
        httpd.expect_log("'FinishRequestConnection Keep' acts as Close: there is no /proc");
        is_closed(&httpd, &httpd.connect());
        assert_eq!(httpd.log().matches("acts as Close").count(), 1);
        httpd.stop();
    });
}

/// Servers side by side have a socket each.
#[test]
fn two_servers() {
    side_by_side(Mpm::ALL, |mpm| {
        let servers = [0, 1].map(|_| Httpd::builder(mpm).handler(Handler::Lua).workers(8).config(KEEP).start());
        assert_ne!(listeners(&servers[0]), listeners(&servers[1]));
        let connections = servers.each_ref().map(Httpd::connect);
        for _ in 0..3 {
            for (httpd, connection) in servers.iter().zip(&connections) {
                is_kept(httpd, connection);
            }
        }
        for (httpd, connection) in servers.iter().zip(connections) {
            assert_eq!(httpd.access_log().len(), 9);
            drop(connection);
        }
        servers.into_iter().for_each(Httpd::stop);
    });
}

/// With several listeners for each socket there is none for kept connections: a warning says so, and the responses that their
/// connections are closed.
#[test]
fn listen_buckets() {
    if thread::available_parallelism().unwrap().get() < 2 {
        return support::machine::not_tried("a machine with one core has no buckets of listeners");
    }
    for mpm in Mpm::ALL {
        for ratio in ["1", "\"1\""] {
            let httpd = Httpd::builder(mpm)
                .handler(Handler::Lua)
                .generations(100)
                .config(KEEP)
                .config(&format!("ListenCoresBucketsRatio {ratio}"))
                .start();
            httpd.expect_log("'FinishRequestConnection Keep' acts as Close: .*ListenCoresBucketsRatio");
            is_closed(&httpd, &httpd.connect());
            assert_eq!(httpd.log().matches("acts as Close").count(), 1);
            assert!(listeners(&httpd).is_empty());
            httpd.stop();
        }
    }
}

/// The server stops gracefully while a response is sent that has promised to keep its connection: nobody is left to take it, so it
/// is closed at the end of the response, and does not wait for the end of the work.
#[test]
fn a_graceful_stop() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(8).config(KEEP).start();
        let page = HELD.install(&httpd, Handler::Lua, "held");
        let held = hold(&httpd, &page);
        httpd.signal(Signal::WINCH);
        wait_for("the server to close its listeners", || TcpStream::connect(httpd.address()).is_err().then_some(()));
        wait_for("its own as well", || listeners(&httpd).is_empty().then_some(()));
        release(&httpd, &held);
        let (connection, background) = held;
        assert_eq!(connection.end().kind, EndKind::Fin);
        assert!(!background.is_done());
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// The server is stopped, gracefully or not, or crashes, and is started anew at once: nothing that the old one has left is in the way,
/// and what still works of it is not. The new one has no port but that of TLS, or the old ones.
#[test]
fn stopped_and_started_at_once() {
    side_by_side(Mpm::ALL, |mpm| {
        for how in [Some(Signal::WINCH), Some(Signal::TERM), None] {
            let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(8).generations(8).config(KEEP).start();
            // A parent that crashed has left its number behind.
            httpd.allow_log("AH00098");
            let page = HELD.install(&httpd, Handler::Lua, "held");
            is_kept_and_goes(&httpd);
            let first = listeners(&httpd);
            let held = (how == Some(Signal::WINCH)).then(|| hold(&httpd, &page));
            match how {
                Some(signal) => httpd.signal(signal),
                None => httpd.crash(),
            }
            wait_for("the ports to be free", || {
                [httpd.address(), httpd.tls_address()]
                    .iter()
                    .all(|port| TcpStream::connect(port).is_err())
                    .then_some(())
            });
            if how == Some(Signal::TERM) {
                change(&httpd, |text| without_plain_port(&text));
            }
            let mut old = httpd.start_again();
            if how == Some(Signal::TERM) {
                is_closed(&httpd, &httpd.connect_tls());
                restart(&httpd, Signal::USR1, |text| format!("{text}\nListen 127.0.0.1:${{PORT}}\n"));
                wait_for("the port without TLS", || TcpStream::connect(httpd.address()).is_ok().then_some(()));
            }
            is_kept_and_goes(&httpd);
            let again = listeners(&httpd);
            assert!(again.len() == 1 && again != first, "{first:?}, {again:?}");
            if let Some(held) = held {
                release(&httpd, &held);
                let (connection, background) = held;
                assert_eq!(connection.end().kind, EndKind::Fin);
                assert!(!background.is_done());
                drop(connection);
                is_kept_and_goes(&httpd);
                ran_to_its_end(&background);
            }
            let status = old.wait(DEADLINE);
            assert!(how.is_none() || status.is_some_and(|status| status.success()), "{status:?}");
            httpd.stop();
        }
    });
}

/// A connection that is kept, and then closed by its client; the server has seen that.
#[track_caller]
fn is_kept_and_goes(httpd: &Httpd) {
    let connection = httpd.connect();
    let ports = HashSet::from([connection.local_address().port()]);
    is_kept(httpd, &connection);
    drop(connection);
    wait_for("the connection's end", || {
        let sockets = sockets_of(httpd.id());
        (!connections_to(&ports).iter().any(|inode| sockets.contains(inode))).then_some(())
    });
    // Event, told to stop, looks at the sockets of its workers (`close_worker_sockets`), also at one whose worker has closed it and is just giving its
    // memory back: that worker is to be done with it.
    all_threads_sleep(httpd);
}

/// The queue is full, since nobody takes anything out of it: the next request of a client whose work goes on waits, and is answered when there is room;
/// or when the work has ended, as without the module.
#[test]
fn a_full_queue() {
    // No other child comes meanwhile, which would empty it: two that are idle are enough.
    let few = "StartServers 4\nMinSpareServers 1\nMaxSpareServers 4\nServerLimit 8\nMaxRequestWorkers 8";
    let httpd = Httpd::builder(Mpm::Prefork).handler(Handler::Lua).config(few).config(KEEP).start();
    httpd.may_be_full();
    let page = HELD.install(&httpd, Handler::Lua, "held");
    let (held, other) = (hold(&httpd, &page), hold(&httpd, &page));
    let own = connections_to(&HashSet::from([&held, &other].map(|held| held.0.local_address().port())));
    let id = httpd.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let children = children.split_whitespace().map(|child| child.parse::<u32>().unwrap());
    let idle: Vec<u32> = children.filter(|child| !own.iter().any(|inode| sockets_of(*child).contains(inode))).collect();
    let tell = |signal| {
        for child in &idle {
            // SAFETY: signals to this server's own children.
            assert_eq!(unsafe { libc::kill(child.cast_signed(), signal) }, 0);
        }
    };
    // SAFETY: the record is this function's own. The queue is as long as the kernel allows, mostly 4096.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    let door = door(&httpd);
    tell(libc::SIGSTOP);
    let mut strangers = Vec::new();
    let full = loop {
        match connect(&door) {
            Ok(socket) => strangers.push(socket),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "after {}", strangers.len());
    release(&httpd, &held);
    release(&httpd, &other);
    for (connection, background) in [&held, &other] {
        connection.get("/", &[]);
        background.wait_for_begin();
        assert!(!connection.has_ended() && connection.so_far().is_none() && !background.is_done());
    }
    // The work ends first.
    ran_to_its_end(&other.1);
    other.0.response();
    // There is room first.
    tell(libc::SIGCONT);
    held.0.response();
    assert!(!held.1.is_done());
    is_kept(&httpd, &httpd.connect());
    ran_to_its_end(&held.1);
    httpd.stop();
}
