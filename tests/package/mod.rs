//! What comes with the module: building, installing, the demo, the documents and what they tell to paste, the order
//! of the source.
//!
//! * `applications`: What `docs/applications.md` tells to paste works as it stands.
//! * `build_sentences`: Who cannot build is told why, and what to install, in one sentence.
//! * `demo`: The demo where it cannot run, and where it is ended: one sentence in the one case, nothing left behind
//!   in both.
//! * `docs`: The documents cannot drift: `docs/directives.md` and the README say what the module's table says, and
//!   `docs/operations.md` has the messages that the module logs.
//! * `house`: The house: rooms use only what stands below them, in the order that CONTRIBUTING.md has, and no two
//!   files of a room use each other.
//! * `httpd_conf`: The configuration files that an administrator gets work as they are: those for a2enmod, and the
//!   examples.
//! * `install`: `make install` puts all that belongs to the module where it is looked for, and `make uninstall` takes
//!   it away.
//! * `manual`: The manual holds together: links, contents, examples, and whatever an administrator may meet, by name.
//! * `migration`: What `docs/migration.md` tells to paste works as it stands.
//! * `monitoring`: What `monitoring/` has for the usual tools reads a real server's page, and is of the form that each takes.
//! * `readme`: What the README tells to paste works as it stands: each way's lines of configuration and its
//!   application, on real servers.
//! * `recipes`: The recipes that are found on the web, in applications that know nothing of the module: with
//!   `FinishRequest Auto` they do what they are meant to do, whatever runs them.

pub(crate) mod applications;
mod build_sentences;
mod demo;
mod docs;
mod house;
mod httpd_conf;
mod install;
mod manual;
mod migration;
mod monitoring;
mod readme;
mod recipes;
