//! HTTP/2's own ways: streams that are reset, windows and settings that are played with.

use support::{Background, Frame, Frames, Httpd, Mpm, body};

use super::clients::pass;
use super::{Attacked, CLOSED, job, wait_for_hold};

/// One test under each MPM that has HTTP/2.
macro_rules! on_event_and_worker {
    ($($check:ident),*) => {
        $(
            mod $check {
                #[test]
                fn on_event() {
                    super::$check(support::Mpm::Event);
                }

                #[test]
                fn on_worker() {
                    super::$check(support::Mpm::Worker);
                }
            }
        )*
    };
}

on_event_and_worker!(resets_in_numbers, resets_of_finished_streams, windows, settings);

/// What RST_STREAM says.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

fn connect(httpd: &Httpd, settings: &[(u16, u32)]) -> Frames {
    Frames::connect(httpd.address(), settings)
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    Frame::bytes(Frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// Most requests are cancelled in the packet that they come in, some a moment later and later: these have begun.
fn resets_in_numbers(mpm: Mpm) {
    const CONNECTIONS: usize = 5;
    const STREAMS: u32 = 40;
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        for _ in 0..CONNECTIONS {
            let mut client = connect(httpd, &[]);
            for stream in (1..2 * STREAMS).step_by(2) {
                let get = Frame::get(stream, &job(&httpd.background(), CLOSED, ""));
                let reset = Frame::bytes(Frame::RST_STREAM, 0, stream, &CANCEL);
                let sent = if stream % 8 == 7 {
                    client.send(&get).and_then(|()| {
                        pass(100 * u64::from(stream));
                        client.send(&reset)
                    })
                } else {
                    client.send(&[get, reset].concat())
                };
                // mod_http2 ends the connection of who does so too often.
                if sent.is_err() {
                    break;
                }
            }
            client.is_seen();
        }
    });
}

/// Streams that are finished, and whose work runs on, are reset: such as have been sent to their end, and such as wait for a window.
fn resets_of_finished_streams(mpm: Mpm) {
    const CONNECTIONS: usize = 3;
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        for window in [100, 65_535] {
            for _ in 0..CONNECTIONS {
                let mut client = connect(httpd, &[(Frames::INITIAL_WINDOW_SIZE, window)]);
                // So many of a connection are worked on at first.
                let works: Vec<Background> = (0..6).map(|_| httpd.background()).collect();
                let streams = (1..).step_by(2);
                for (stream, work) in streams.clone().zip(&works) {
                    client.send(&Frame::get(stream, &job(work, CLOSED, "hold=work"))).unwrap();
                }
                works.iter().for_each(|work| wait_for_hold(httpd, work));
                for (stream, _) in streams.zip(&works) {
                    let _ = client.send(&Frame::bytes(Frame::RST_STREAM, 0, stream, &CANCEL));
                }
                // mod_http2 may end the connection of who resets too much, and waits for the work then.
                works.iter().for_each(Background::open_gate);
                client.is_seen();
            }
        }
    });
}

/// A window that is never opened, one that is opened byte by byte, one that is less than nothing, one that is too large.
fn windows(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        let windows = |bytes| [(Frames::INITIAL_WINDOW_SIZE, bytes)];
        // The job does not wait for it, and is done when its client goes.
        let mut never = connect(httpd, &windows(0));
        let shut = httpd.background();
        never.send(&Frame::get(1, &job(&shut, CLOSED, "hold=work"))).unwrap();
        wait_for_hold(httpd, &shut);

        let mut client = connect(httpd, &windows(1));
        client.send(&Frame::get(1, &job(&httpd.background(), CLOSED, "bytes=40"))).unwrap();
        let got = client.body(1, |client, frame| {
            assert!(frame.payload.len() <= 1 || frame.kind != Frame::DATA, "{frame:?}");
            if frame.kind == Frame::DATA {
                client.send(&window_update(1, 1)).unwrap();
            }
        });
        assert_eq!(got, body(40));

        let mut client = connect(httpd, &windows(1000));
        client.send(&Frame::get(1, &job(&httpd.background(), CLOSED, ""))).unwrap();
        let (mut pieces, mut told) = (Vec::new(), false);
        let rest = client.body(1, |client, frame| {
            if frame.kind == Frame::DATA {
                pieces.push(frame.payload.len());
            }
            if pieces.iter().sum::<usize>() == 1000 && !told {
                told = true;
                // 990 less than nothing, then nothing.
                client.send(&[Frame::settings(&windows(10)), window_update(1, 990)].concat()).unwrap();
                assert!(client.is_seen());
                client.send(&window_update(1, 4096)).unwrap();
            }
        });
        assert_eq!(rest, body(4096));

        let mut client = connect(httpd, &windows(100));
        let overflows = httpd.background();
        client.send(&Frame::get(1, &job(&overflows, CLOSED, "hold=work"))).unwrap();
        wait_for_hold(httpd, &overflows);
        // As much as there may be, and more, before the server has sent anything of it.
        client.send(&window_update(1, 0x7fff_ffff).repeat(2)).unwrap();
        // FLOW_CONTROL_ERROR, for the stream or for the connection.
        while let Some(frame) = client.frame() {
            if frame.kind == Frame::RST_STREAM || frame.kind == Frame::GOAWAY {
                break;
            }
        }
        overflows.open_gate();
        never.reset();
        shut.open_gate();
    });
}

/// The smallest frames that there may be, smaller ones than there may be, and settings by the hundred while a stream is finished.
fn settings(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        let mut client = connect(httpd, &[(Frames::MAX_FRAME_SIZE, 16_384), (Frames::INITIAL_WINDOW_SIZE, 1 << 20)]);
        client.send(&window_update(0, 1 << 20)).unwrap();
        client.send(&Frame::get(1, &job(&httpd.background(), CLOSED, "bytes=100000"))).unwrap();
        let got = client.body(1, |_, frame| assert!(frame.payload.len() <= 16_384));
        assert!(got == body(100_000), "{} bytes", got.len());

        let mut client = connect(httpd, &[(Frames::MAX_FRAME_SIZE, 1000)]);
        let _ = client.send(&Frame::get(1, &job(&httpd.background(), CLOSED, "")));
        while client.frame().is_some() {}

        let mut client = connect(httpd, &[]);
        let work = httpd.background();
        client.send(&Frame::get(1, &job(&work, CLOSED, "hold=middle"))).unwrap();
        wait_for_hold(httpd, &work);
        for times in 0..300 {
            // The server may have ended the connection.
            let _ = client.send(&Frame::settings(&[(Frames::INITIAL_WINDOW_SIZE, 1000 + times % 2)]));
        }
        client.is_seen();
        work.open_gate();
    });
}
