//! How an application marks its response, and where such a response ends: the contract between application and
//! module.
//!
//! * `api`: Modules written in C finish a response with the optional function `ap_finish_request()`.
//! * `auto`: `FinishRequest Auto`: what counts as a mark without being one, and what does not.
//! * `bad_marks`: Marks that nobody can understand: the response is an ordinary one, and the log says why, once.
//! * `boundary`: `boundary="TOKEN"`: the response ends where the token stands, however the body is cut into pieces.
//! * `cgi_length`: `Content-Length` from CGI scripts and their like: httpd drops it, and the module uses it only as
//!   far as it holds the application to it.
//! * `elsewhere`: A mark is for the response that the client gets: not for what is included, redirected from, or
//!   failed.
//! * `ending`: The end of a marked response, exact to the byte, whatever its body comes in.
//! * `failed`: A handler that fails when a part of its marked response is out: the client sees that it is cut, and no
//!   error page is taken for the rest of it, or for the next response.
//! * `fcgid`: mod_fcgid, whose output filter the module replaces for marked responses: everything else stays as it
//!   is.
//! * `flush`: `flush`: the first flush after the mark ends the response; an in-process application may set the mark
//!   late.
//! * `header_and_variable`: How an application marks its response: the header, the variable, and who wins.
//! * `header_only`: A marked response that has no body by its header ends with the header: its client is released at
//!   once, though the application sends nothing behind it.
//! * `hidden_mark`: The mark is between the application and the module: the client never sees it, whoever set it.
//! * `late`: `late`: a program outside httpd ends its response by digits that it was given, twice in a row.
//! * `own_chunks`: A body that the application chunks by itself: decoded as it streams, and at its last chunk the
//!   response ends.
//! * `php_function`: PHP applications call `apache_finish_request()`, from `php/finish_request.php`.
//! * `ranges`: A marked response is sent whole, whatever ranges of it the client asks for, as it is without a mark;
//!   what httpd cuts into ranges without the module, it cuts with it.
//! * `switches`: Interim responses and switches of protocols: never marked, by nothing, and never changed, but that
//!   they do not show the mark.

pub mod api;
mod auto;
mod bad_marks;
mod boundary;
mod cgi_length;
mod elsewhere;
mod ending;
mod failed;
mod fcgid;
mod flush;
mod header_and_variable;
mod header_only;
mod hidden_mark;
mod late;
mod own_chunks;
mod php_function;
mod ranges;
mod switches;
