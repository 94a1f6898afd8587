//! What the same httpd says without the module, at its start and its end: on some machines each start comes with a complaint that is
//! nobody's fault here, for example where mod_ssl was built against a newer OpenSSL than the one that is there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use super::{Builder, Httpd};

/// What there is to forgive.
#[derive(Default)]
pub(crate) struct Complaints {
    /// What it says at its start, without what differs from server to server.
    pub(crate) at_start: HashSet<String>,
    /// Its children need more than three seconds to end, though they have nothing to do. worker's of httpd 2.4.58 do, with a glibc that takes a
    /// thread that has ended for one that can get a signal: their `join_workers` waits five seconds for the listener.
    pub(crate) slow_to_stop: bool,
}

type Learned = Arc<OnceLock<Arc<Complaints>>>;

/// What has been learned by this process, by the kind of server.
static KNOWN: LazyLock<Mutex<HashMap<String, Learned>>> = LazyLock::new(Mutex::default);

/// What a server like `builder`'s complains of without our module and without its own configuration. The first who
/// asks for a kind of server has one started; the others of this process get what it has said.
pub(super) fn complaints(builder: &Builder) -> Arc<Complaints> {
    let like = builder.stock();
    let kind = format!("{:?} {:?} {:?} {:?}", like.mpm, like.handlers, like.modules, like.environment);
    let learned = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().clone();
    learned.get_or_init(|| Arc::new(learn(like))).clone()
}

/// Starts such a server and reads what it says. Where it does not start without the configuration that its modules want, one with
/// the server's own modules alone tells.
fn learn(like: Builder) -> Complaints {
    let mut plain = like.clone();
    plain.modules.clear();
    like.try_start().or_else(|_| plain.try_start()).map(Httpd::all_complaints).unwrap_or_default()
}
