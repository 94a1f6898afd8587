//! What the same httpd says at its start without the module: on some machines each start comes with a complaint that is nobody's
//! fault here, for example where mod_ssl was built against a newer OpenSSL than the one that is there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use super::Builder;

/// Complaints, without what differs from server to server.
pub(crate) type Complaints = HashSet<String>;

type Learned = Arc<OnceLock<Arc<Complaints>>>;

/// What has been learned by this process, by the kind of server.
static KNOWN: LazyLock<Mutex<HashMap<String, Learned>>> = LazyLock::new(Mutex::default);

/// What a server like `builder`'s complains of at its start without our module and without its own configuration. The first who
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
    like.try_start().or_else(|_| plain.try_start()).map(|httpd| httpd.complaints_at_start()).unwrap_or_default()
}
