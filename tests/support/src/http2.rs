//! A client for HTTP/2 that can have many streams on one connection, over TLS or without.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;
use crate::deadline::DEADLINE;
use crate::response::{Framing, Headers, Response};
use crate::watch::Watch;

/// An HTTP/2 connection. Closed when dropped.
pub struct Http2 {
    runtime: Handle,
    requests: SendRequest<Bytes>,
    end: Arc<Watch<Option<Failure>>>,
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    frozen: Mutex<Option<Sender<()>>>,
    tap: Arc<Tap>,
    scheme: &'static str,
}

/// A request on a connection, and what has come for it.
pub struct Stream {
    state: Arc<Watch<State>>,
    task: tokio::task::AbortHandle,
}

/// How a stream or a connection ended, other than by END_STREAM.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// The error code of the RST_STREAM or GOAWAY frame; `None` if there was no such frame.
    pub code: Option<u32>,
    /// The same in words.
    pub text: String,
}

impl Failure {
    fn now(error: Option<&h2::Error>) -> Failure {
        Failure {
            at: Instant::now(),
            code: error.and_then(h2::Error::reason).map(u32::from),
            text: error.map_or_else(|| "closed".to_owned(), ToString::to_string),
        }
    }
}

#[derive(Default)]
struct State {
    head: Option<(Instant, u16, Headers)>,
    data: Vec<(Instant, Bytes)>,
    trailers: Headers,
    end: Option<Result<Instant, Failure>>,
}

impl Http2 {
    /// Connects to `address`: over TLS with ALPN, trusting `certificate`, or without TLS and with
    /// prior knowledge.
    ///
    /// # Panics
    ///
    /// When nobody there speaks HTTP/2.
    #[track_caller]
    pub fn connect(address: SocketAddr, certificate: Option<&'static Certificate>) -> Http2 {
        Http2::connect_with_window(address, certificate, None)
    }

    /// The same for a client that lets the server send so many bytes ahead, on each stream and in all.
    #[track_caller]
    pub(crate) fn connect_with_window(
        address: SocketAddr,
        certificate: Option<&'static Certificate>,
        window: Option<u32>,
    ) -> Http2 {
        let tap = Arc::new(Tap::default());
        let way = Way { address, certificate, window, tap: Arc::clone(&tap) };
        let (quit, told_to_quit) = oneshot::channel();
        let (ready, when_ready) = channel();
        let end = Arc::new(Watch::default());
        let thread = thread::spawn({
            let end = Arc::clone(&end);
            move || serve(&way, &ready, told_to_quit, end)
        });
        let (runtime, requests) =
            when_ready.recv_timeout(DEADLINE).expect("the server answers").expect("the server speaks HTTP/2");
        let scheme = if certificate.is_some() { "https" } else { "http" };
        Http2 { runtime, requests, end, quit: Some(quit), thread: Some(thread), frozen: Mutex::default(), tap, scheme }
    }

    /// Opens a stream with a GET request for `path` with these headers.
    ///
    /// # Panics
    ///
    /// When path or headers cannot be sent over HTTP/2.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        self.request("GET", path, headers, None)
    }

    /// Opens a stream with a request, and sends its body if there is one. Streams are opened in
    /// the order of the calls.
    ///
    /// # Panics
    ///
    /// When method, path or headers cannot be sent over HTTP/2.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Stream {
        let uri = format!("{}://{}{path}", self.scheme, Certificate::name());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-length", body.len());
        }
        let request = request.body(()).expect("a valid request");
        let body = body.map(Bytes::copy_from_slice);
        let state = Arc::new(Watch::<State>::default());
        let task = self.runtime.spawn({
            let (requests, state) = (self.requests.clone(), Arc::clone(&state));
            async move {
                let result = exchange(requests, request, body, &state).await;
                let end = match result {
                    Ok(()) => Ok(Instant::now()),
                    Err(error) => Err(Failure::now(Some(&error))),
                };
                state.update(|state| state.end = Some(end));
            }
        });
        Stream { state, task: task.abort_handle() }
    }

    /// From now on the client reads nothing and sends nothing, on any stream, until it is dropped. Returns when that holds.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn freeze(&self) {
        let (thaw, when_thawed) = channel::<()>();
        let (freezes, when_frozen) = channel();
        // The runtime has one thread: nothing else goes on there.
        self.runtime.spawn(async move {
            let _ = freezes.send(());
            let _ = when_thawed.recv();
        });
        when_frozen.recv_timeout(DEADLINE).expect("the connection's thread");
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some(thaw);
    }

    /// From now on the client reads nothing from its socket, until [`Http2::read_on`]. It goes on sending.
    pub fn stop_reading(&self) {
        self.tap.shut.store(true, Ordering::SeqCst);
    }

    /// Reads again.
    pub fn read_on(&self) {
        self.tap.open();
    }

    /// Waits until the server has seen what was sent on this connection before: it answers for `path` after that. mod_http2 may
    /// also end the connection, where a stream is reset of which it is about to send something.
    ///
    /// # Panics
    ///
    /// After the deadline, and where the answer is none of status 200.
    #[track_caller]
    pub fn is_seen(&self, path: &str) {
        if let Ok(response) = self.get(path, &[]).response_or_failure() {
            assert_eq!(response.status, 200);
        }
    }

    /// Whether the connection is still there. Does not wait.
    pub fn is_open(&self) -> bool {
        self.end.update(|end| end.is_none())
    }

    /// Waits until the server has ended the connection.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn end(&self) -> Failure {
        self.end.wait(Clone::clone, |_| "no end of the HTTP/2 connection".to_owned())
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.tap.open();
        drop(self.frozen.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.quit.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stream {
    /// Waits until the response is complete: END_STREAM.
    ///
    /// # Panics
    ///
    /// After the deadline, and when the stream ends in another way.
    #[track_caller]
    pub fn response(&self) -> Response {
        self.response_or_failure().unwrap_or_else(|failure| {
            let got = self.state.update(|state| state.describe());
            panic!("the stream ended by {:?} with {got}", failure.text)
        })
    }

    /// As [`Stream::response`], where the stream may be reset.
    ///
    /// # Errors
    ///
    /// How the stream ended instead.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn response_or_failure(&self) -> Result<Response, Failure> {
        self.state.wait(
            |state| Some(state.end.clone()?.map(|ended| state.response(ended))),
            |state| format!("the stream does not end; it has {}", state.describe()),
        )
    }

    /// The response if it is complete already, or how the stream ended instead. Does not wait.
    pub fn response_now(&self) -> Option<Result<Response, Failure>> {
        self.state.update(|state| Some(state.end.clone()?.map(|ended| state.response(ended))))
    }

    /// What there is of the response: `None` before its headers. Does not wait.
    pub fn so_far(&self) -> Option<Response> {
        self.state.update(|state| state.head.is_some().then(|| state.response(Instant::now())))
    }

    /// Each piece of the body until now, with its time.
    pub fn data(&self) -> Vec<(Instant, Vec<u8>)> {
        self.state.update(|state| state.data.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect())
    }

    /// The trailers that have come.
    pub fn trailers(&self) -> Headers {
        self.state.update(|state| state.trailers.clone())
    }

    /// Whether the stream has ended, in whatever way. Does not wait.
    pub fn has_ended(&self) -> bool {
        self.state.update(|state| state.end.is_some())
    }

    /// Waits until the response's headers are there, and gives its status.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.state.wait(
            |state| state.head.as_ref().map(|(_, status, _)| *status),
            |state| format!("no headers on the stream; it has {}", state.describe()),
        )
    }

    /// Gives the stream up: the server gets an RST_STREAM.
    pub fn cancel(self) {
        self.task.abort();
    }
}

impl State {
    fn response(&self, ended: Instant) -> Response {
        let (began, status, headers) = self.head.clone().expect("a stream ends after its headers");
        Response {
            status,
            headers,
            body: self.data.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>().concat(),
            framing: Framing::EndStream,
            raw: Vec::new(),
            began,
            ended,
        }
    }

    fn describe(&self) -> String {
        let length: usize = self.data.iter().map(|(_, bytes)| bytes.len()).sum();
        format!("headers {:?} and {length} bytes of body", self.head)
    }
}

/// How to get to the server.
struct Way {
    address: SocketAddr,
    certificate: Option<&'static Certificate>,
    window: Option<u32>,
    tap: Arc<Tap>,
}

/// Whether a client reads its socket.
#[derive(Default)]
struct Tap {
    shut: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Tap {
    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
    }
}

/// A socket that is read when its tap is open.
struct Tapped {
    socket: TcpStream,
    tap: Arc<Tap>,
}

impl AsyncRead for Tapped {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        *self.tap.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.waker().clone());
        if self.tap.shut.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(task, to)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(task)
    }
}

type Opened = (Handle, SendRequest<Bytes>);

/// The connection's thread: opens it, and drives it until told to quit.
fn serve(
    way: &Way,
    ready: &Sender<io::Result<Opened>>,
    told_to_quit: oneshot::Receiver<()>,
    end: Arc<Watch<Option<Failure>>>,
) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let handle = runtime.handle().clone();
    runtime.block_on(async move {
        let _ = ready.send(open(way, end).await.map(|requests| (handle, requests)));
        let _ = told_to_quit.await;
    });
}

async fn open(way: &Way, end: Arc<Watch<Option<Failure>>>) -> io::Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(way.address).await?;
    socket.set_nodelay(true)?;
    let socket = Tapped { socket, tap: Arc::clone(&way.tap) };
    let Some(certificate) = way.certificate else {
        return shake_hands(socket, way.window, end).await;
    };
    let connector = TlsConnector::from(certificate.client_config(b"h2"));
    let tls = connector.connect(Certificate::server_name(), socket).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the server did not choose h2"));
    }
    shake_hands(tls, way.window, end).await
}

async fn shake_hands<T>(
    socket: T,
    window: Option<u32>,
    end: Arc<Watch<Option<Failure>>>,
) -> io::Result<SendRequest<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = h2::client::Builder::new();
    if let Some(window) = window {
        client.initial_window_size(window).initial_connection_window_size(window);
    }
    let (requests, connection) = client.handshake(socket).await.map_err(io::Error::other)?;
    tokio::spawn(watch(connection, end));
    Ok(requests)
}

async fn watch(connection: impl Future<Output = Result<(), h2::Error>>, end: Arc<Watch<Option<Failure>>>) {
    let result = connection.await;
    end.update(|end| *end = Some(Failure::now(result.as_ref().err())));
}

/// Sends a request and notes what comes until the end of the stream.
async fn exchange(
    requests: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
    state: &Watch<State>,
) -> Result<(), h2::Error> {
    let (response, mut sender) = requests.ready().await?.send_request(request, body.is_none())?;
    if let Some(body) = body {
        sender.send_data(body, true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let headers = lines(&head.headers);
    state.update(|state| state.head = Some((Instant::now(), head.status.as_u16(), headers)));
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        state.update(|state| state.data.push((Instant::now(), bytes)));
    }
    if let Some(trailers) = body.trailers().await? {
        state.update(|state| state.trailers = lines(&trailers));
    }
    Ok(())
}

fn lines(headers: &HeaderMap) -> Headers {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(line).collect()
}
