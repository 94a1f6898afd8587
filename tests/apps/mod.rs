//! Applications as they are packaged, and a real browser. `make apps` runs this chapter, since it takes minutes and more packages; `make test`
//! does not.
//!
//! * `browser`: A page in a real browser has its answers at once and sees live when its jobs end.
//! * `languages`: What `docs/applications.md` has for frameworks and servers in other languages works as it stands.

mod browser;
mod languages;
