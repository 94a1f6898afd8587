//! The clients that the child's thread has, and when each has its turn. What is done at a time is for those for whom something has come, or is due,
//! however many there are.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{self, Client, GLANCE};
use super::poll::Epoll;

/// How many sockets a child closes at a time; above that the oldest ones are cut.
const MOST_LINGERING: usize = 256;
/// When a client is looked at again that could not be attended to when it was due.
const MOMENT: Duration = Duration::from_millis(1);

/// The number by which the thread is woken.
pub const WOKEN: u64 = u64::MAX;

/// The clients, by numbers that grow.
pub struct Clients {
    epoll: Arc<Epoll>,
    all: HashMap<u64, Watched>,
    /// When to look at a client at the latest.
    due: BTreeSet<(Instant, u64)>,
    /// Those that have all of their responses.
    lingering: BTreeSet<u64>,
    next: u64,
}

struct Watched {
    client: Client,
    /// Its place in [`Clients::due`].
    due: Option<Instant>,
    /// What it is watched for; none where the kernel refused that.
    events: Option<i32>,
}

impl Clients {
    /// None yet. What rings the thread's bell is watched beside them.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory, say.
    pub fn new(epoll: Arc<Epoll>, bell: impl AsFd) -> std::io::Result<Self> {
        epoll.watch(bell.as_fd(), true, libc::EPOLLIN, WOKEN)?;
        Ok(Self { epoll, all: HashMap::new(), due: BTreeSet::new(), lingering: BTreeSet::new(), next: 0 })
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Waits until something can be read or written, the thread is woken, or something is due, and not longer than that; gives the numbers.
    pub fn wait(&self, until: Option<Instant>) -> Vec<u64> {
        let next = self.due.first().map(|(due, _)| *due).into_iter().chain(until).min();
        let ready = self.epoll.wait(next.map(|next| next.saturating_duration_since(Instant::now())));
        ready.map(Iterator::collect).unwrap_or_else(|_| {
            std::thread::sleep(GLANCE);
            Vec::new()
        })
    }

    /// Takes a client, unless all can be done for it now: its number.
    pub fn add(&mut self, client: Client, now: Instant) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        self.all.insert(number, Watched { client, due: None, events: None });
        if !self.attend(number, now) {
            return None;
        }
        if self.lingering.len() > MOST_LINGERING
            && let Some(oldest) = self.lingering.first().copied()
        {
            if let Some(watched) = self.all.get(&oldest) {
                // With something unread the kernel would reset the connection, and with it what the client has not read of its response.
                let _ = client::discard(watched.client.socket(), client::READS);
            }
            self.remove(oldest);
        }
        Some(number)
    }

    /// Does what can be done for a client now. False when it is out of this thread's hands.
    pub fn attend(&mut self, number: u64, now: Instant) -> bool {
        let Some(watched) = self.all.get_mut(&number) else { return false };
        if !watched.client.goes_on(now) {
            self.remove(number);
            return false;
        }
        let events = watched.client.events();
        if watched.events != Some(events) {
            let is_new = watched.events.is_none();
            let watches = self.epoll.watch(watched.client.socket(), is_new, events, number);
            watched.events = watches.is_ok().then_some(events).or(watched.events);
        }
        if events == libc::EPOLLIN {
            self.lingering.insert(number);
        }
        // Where the kernel does not watch it, it is tried now and then.
        let glance = if watched.events == Some(events) { None } else { Some(now + GLANCE) };
        let next = watched.client.next().into_iter().chain(glance).min().map(|next| next.max(now + MOMENT));
        // A place that is too early is no harm.
        if let Some(next) = next
            && watched.due.is_none_or(|due| next < due || due <= now)
        {
            if let Some(due) = watched.due.replace(next) {
                self.due.remove(&(due, number));
            }
            self.due.insert((next, number));
        }
        true
    }

    /// Does what is due.
    pub fn attend_due(&mut self, now: Instant) {
        while let Some(&(due, number)) = self.due.first()
            && due <= now
        {
            if self.attend(number, now) && self.due.first() == Some(&(due, number)) {
                // It has no time limit any more.
                self.due.pop_first();
                if let Some(watched) = self.all.get_mut(&number) {
                    watched.due = None;
                }
            }
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(Watched { client, due, events }) = self.all.remove(&number) {
            if events.is_some() {
                self.epoll.forget(client.socket());
            }
            if let Some(due) = due {
                self.due.remove(&(due, number));
            }
            self.lingering.remove(&number);
        }
    }

    /// The child ends.
    pub fn hurry(&mut self, now: Instant, graceful: bool) {
        let numbers: Vec<u64> = self.all.keys().copied().collect();
        for number in numbers {
            match self.all.get_mut(&number).map(|watched| &mut watched.client) {
                Some(Client::Leaving(client)) => {
                    client.hurry(now, graceful);
                    self.attend(number, now);
                }
                // Its request has ended.
                _ => self.remove(number),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::client::{Leaving, SILENCE};
    use super::super::waiting::Waiting;
    use super::*;

    /// None yet, and a bell that never rings.
    fn clients() -> Clients {
        Clients::new(Arc::new(Epoll::new().unwrap()), TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
    }

    /// A client whose response has ended, and its own end of the connection.
    fn leaving(listener: &TcpListener) -> (Client, TcpStream) {
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = Leaving::new(listener.accept().unwrap().0.into(), Waiting::default(), None, None);
        client.shut();
        (Client::Leaving(client), theirs)
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn only_who_does_something_is_attended_to() {
        let (mut clients, listener) = (clients(), listener());
        let mut theirs = Vec::new();
        for _ in 0..100 {
            let (client, other) = leaving(&listener);
            clients.add(client, Instant::now()).unwrap();
            theirs.push(other);
        }
        drop(theirs.remove(42));
        assert_eq!(clients.wait(None), [42]);
        assert!(!clients.attend(42, Instant::now()));
        assert_eq!(clients.all.len(), 99);
        assert!(!clients.all.contains_key(&42));
        assert_eq!(clients.wait(Some(Instant::now())), []);
    }

    #[test]
    fn who_is_silent_is_closed_in_time() {
        let begun = Instant::now();
        let (mut clients, listener) = (clients(), listener());
        let theirs: Vec<_> = (0..10)
            .map(|_| {
                let (client, other) = leaving(&listener);
                clients.add(client, Instant::now()).unwrap();
                other
            })
            .collect();
        // One says something, and has more time.
        std::io::Write::write_all(&mut &theirs[3], b"S").unwrap();
        assert_eq!(clients.wait(None), [3]);
        if begun.elapsed() > SILENCE / 4 {
            // A busy machine: their times are too far from each other.
            return who_is_silent_is_closed_in_time();
        }
        let later = Instant::now() + SILENCE / 2;
        assert!(clients.attend(3, later));
        clients.attend_due(later);
        assert_eq!(clients.all.len(), 10);
        clients.attend_due(later + SILENCE - Duration::from_millis(1));
        assert_eq!(clients.all.keys().collect::<Vec<_>>(), [&3]);
        clients.attend_due(later + SILENCE);
        assert!(clients.all.is_empty() && clients.due.is_empty() && clients.lingering.is_empty());
    }

    #[test]
    fn the_oldest_goes_where_there_are_too_many() {
        let (mut clients, listener) = (clients(), listener());
        let theirs: Vec<_> = (0..MOST_LINGERING + 3)
            .map(|_| {
                let (client, other) = leaving(&listener);
                clients.add(client, Instant::now()).unwrap();
                other
            })
            .collect();
        assert_eq!(clients.all.len(), MOST_LINGERING);
        for number in 0..theirs.len() as u64 {
            let cut = !clients.all.contains_key(&number);
            assert_eq!(cut, number < 3);
        }
    }
}
