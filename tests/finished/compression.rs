//! The matrix's third dimension: what compresses the responses.

use support::{Builder, Client, Handler, Httpd, Mpm, Protocol};

/// What every request of the matrix sends, as browsers do.
pub const ACCEPT: [(&str, &str); 1] = [("Accept-Encoding", "gzip, br")];

/// An output filter for responses of type text/plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Deflate,
    Brotli,
}

impl Compression {
    pub const ALL: [Compression; 3] = [Compression::None, Compression::Deflate, Compression::Brotli];

    /// The last folder of the URLs whose responses go through this filter.
    pub fn folder(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Deflate => "deflate",
            Compression::Brotli => "brotli",
        }
    }

    /// The `Content-Encoding` of a compressed response.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Deflate => Some("gzip"),
            Compression::Brotli => Some("br"),
        }
    }
}

/// Lets the server have its applications below `/PREFIX/FOLDER/` for each of the prefixes and each
/// compression's folder.
pub fn with_compressions(builder: Builder, prefixes: &[&str]) -> Builder {
    let aliases: String = prefixes
        .iter()
        .flat_map(|prefix| Compression::ALL.map(|filter| (prefix, filter.folder())))
        .map(|(prefix, folder)| format!("Alias /{prefix}/{folder} \"${{WWW}}\"\n"))
        .collect();
    builder.modules(&["alias", "filter", "deflate", "brotli"]).config(&aliases).config(
        "<LocationMatch /deflate/>
           AddOutputFilterByType DEFLATE text/plain
         </LocationMatch>
         <LocationMatch /brotli/>
           AddOutputFilterByType BROTLI_COMPRESS text/plain
         </LocationMatch>",
    )
}

/// mod_filter's own directives give a filter any name: a response with a mark skips it all the same.
#[test]
fn a_filter_of_any_name_is_skipped() {
    for (filter, coding) in [("DEFLATE", "gzip"), ("BROTLI_COMPRESS", "br")] {
        let config = format!(
            "FinishRequest On\nFilterDeclare smaller\n\
             FilterProvider smaller {filter} \"%{{CONTENT_TYPE}} =~ m#^text/plain#\"\nFilterChain smaller"
        );
        let modules = ["filter", "deflate", "brotli"];
        let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).modules(&modules).config(&config).start();
        let client = Client::connect(&httpd, Protocol::Http1);
        for (mark, encoding) in [("none", Some(coding)), ("on", None)] {
            let response = client.get(&format!("/app.lua?mark={mark}"), &ACCEPT).response();
            assert_eq!(response.header("Content-Encoding"), encoding, "{filter} {mark}");
        }
        drop(client);
        httpd.stop();
    }
}

/// `AddOutputFilterByType` gives a filter another name: it is skipped by its own.
#[test]
fn a_filter_by_type_is_skipped() {
    let config = "FinishRequest On\nFinishRequestBypass SUBSTITUTE\nAddOutputFilterByType SUBSTITUTE text/plain\n\
                  Substitute s/answer/ANSWER/";
    let builder = Httpd::builder(Mpm::Event).handler(Handler::Lua).modules(&["filter", "substitute"]);
    let httpd = builder.config(config).start();
    let client = Client::connect(&httpd, Protocol::Http1);
    for (mark, word) in [("none", "ANSWER"), ("on", "answer")] {
        let response = client.get(&format!("/app.lua?mark={mark}"), &[]).response();
        assert!(String::from_utf8(response.body).unwrap().contains(word), "{mark}");
    }
    drop(client);
    httpd.stop();
}
