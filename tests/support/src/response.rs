//! A response as the client got it, over whichever protocol.

use std::io::{self, Read, Write};
use std::time::Instant;

/// How the end of a response's body was told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There was no body to come: HEAD, 204, 304.
    NoBody,
    /// `Content-Length`, with its value.
    Length(u64),
    /// The last chunk.
    Chunked,
    /// The end of the connection.
    Close,
    /// HTTP/2's END_STREAM.
    EndStream,
}

/// Name and value of each header, in the order in which they came.
pub type Headers = Vec<(String, String)>;

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All its headers.
    pub headers: Headers,
    /// The body, without its chunks' sizes, still compressed if it is.
    pub body: Vec<u8>,
    /// How its end was told.
    pub framing: Framing,
    /// The bytes as they came, headers and chunks included; empty for HTTP/2.
    pub raw: Vec<u8>,
    /// When its first byte came.
    pub began: Instant,
    /// When the byte came that completed it.
    pub ended: Instant,
}

impl Response {
    /// The value of the first header `name`, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as it was before it was compressed.
    ///
    /// # Panics
    ///
    /// When it is not whole, has something behind its end, or has an unknown `Content-Encoding`.
    #[track_caller]
    pub fn decoded(&self) -> Vec<u8> {
        self.try_decoded().unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// As [`Response::decoded`].
    ///
    /// # Errors
    ///
    /// What is wrong with the body.
    pub fn try_decoded(&self) -> Result<Vec<u8>, String> {
        match self.header("Content-Encoding") {
            None => Ok(self.body.clone()),
            Some("gzip") => gunzip(&self.body),
            Some("br") => unbrotli(&self.body),
            Some(other) => Err(format!("cannot undo the Content-Encoding {other:?}")),
        }
    }

    /// What can be read of a body that is not complete, as it was before it was compressed by gzip.
    pub fn decoded_so_far(&self) -> Vec<u8> {
        if self.header("Content-Encoding") != Some("gzip") {
            return self.body.clone();
        }
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        let _ = decoder.write_all(&self.body).and_then(|()| decoder.flush());
        decoder.get_ref().clone()
    }
}

pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn gunzip(mut body: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let result = flate2::bufread::GzDecoder::new(&mut body).read_to_end(&mut text);
    checked("gzip", text, result, body)
}

fn unbrotli(mut body: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    // With a buffer of one byte it does not read past the end.
    let result = brotli_decompressor::Decompressor::new(&mut body, 1).read_to_end(&mut text);
    checked("brotli", text, result, body)
}

fn checked(coding: &str, text: Vec<u8>, result: io::Result<usize>, rest: &[u8]) -> Result<Vec<u8>, String> {
    match result {
        Err(error) => Err(format!("broken {coding} after {} bytes: {error}", text.len())),
        Ok(_) if !rest.is_empty() => Err(format!("{} bytes behind the end of the {coding}", rest.len())),
        Ok(_) => Ok(text),
    }
}
