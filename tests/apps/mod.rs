//! Applications as they are packaged, and a real browser. `make apps` runs this chapter, since it takes minutes and more packages; `make test`
//! does not.
//!
//! * `browser`: A page in a real browser has its answers at once and sees live when its jobs end.
//! * `dokuwiki`, `laravel`, `mediawiki`, `symfony`, `wordpress`: each page of a scripted visit is what it is without the module, and its client is let go
//!   before the work ends, which is done.
//! * `idioms`: so it is with what Drupal and Magento do, which are not packaged.
//! * `languages`: What `docs/applications.md` has for frameworks and servers in other languages works as it stands.
//!
//! `visit` is how they are visited, and `table.sh` puts what they have found into docs/applications.md.

mod browser;
mod dokuwiki;
mod idioms;
mod languages;
mod laravel;
mod mediawiki;
mod symfony;
mod visit;
mod wordpress;
