//! Running all recipes on a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};
use std::thread;

use support::{Httpd, Protocol};

use super::observe::{Field, LONG, SHORT, Seen};
use super::page;
use super::recipe::{NEXT, Platform, Promise, Recipe};

/// A server that the recipes run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub platform: Platform,
    pub output_buffering: u32,
    pub with_module: bool,
}

/// What was seen there, for each recipe's name, protocol, and with or without gzip.
#[derive(Debug, Default)]
pub struct Measured(BTreeMap<(&'static str, bool, bool), Seen>);

impl Measured {
    pub fn of(&self, recipe: &Recipe, protocol: Protocol, gzip: bool) -> Seen {
        self.0[&(recipe.name, protocol == Protocol::Http2, gzip)]
    }

    fn put(&mut self, field: &Field, seen: Seen) {
        self.0.insert((field.recipe.name, field.protocol == Protocol::Http2, field.gzip), seen);
    }
}

impl Place {
    /// What is seen there: measured once, whoever asks first.
    ///
    /// # Panics
    ///
    /// When a recipe does not do there what it must.
    #[track_caller]
    pub fn measured(self) -> &'static Measured {
        type Once = &'static OnceLock<Result<Measured, String>>;
        static ALL: Mutex<BTreeMap<Place, Once>> = Mutex::new(BTreeMap::new());

        let once = *ALL.lock().unwrap().entry(self).or_insert_with(|| Box::leak(Box::default()));
        match once.get_or_init(|| self.measure()) {
            Ok(measured) => measured,
            Err(failures) => panic!("{self:?}: {failures}"),
        }
    }

    fn measure(self) -> Result<Measured, String> {
        let httpd = self.start();
        let mut measured = Measured::default();
        let mut failures = BTreeSet::new();
        for &protocol in self.platform.protocols() {
            for gzip in [false, true] {
                for (field, seen) in self.measure_together(&httpd, protocol, gzip) {
                    match seen {
                        Some(seen) => measured.put(&field, seen),
                        None => {
                            let Field { recipe, protocol, .. } = field;
                            failures.insert(format!("{} {protocol:?} gzip={gzip}", recipe.name));
                        }
                    }
                }
            }
        }
        if !failures.is_empty() {
            // Its log is shown, and not judged.
            let _ = thread::spawn(move || panic!("the server {}", httpd.root().display())).join();
            return Err(failures.into_iter().collect::<Vec<_>>().join("\n"));
        }
        httpd.stop();
        Ok(measured)
    }

    /// All recipes side by side; `None` for one that failed.
    fn measure_together(self, httpd: &Httpd, protocol: Protocol, gzip: bool) -> Vec<(Field, Option<Seen>)> {
        thread::scope(|scope| {
            let start = |recipe: &'static Recipe| {
                let field = self.field(recipe, protocol, gzip);
                // The name is part of the message of a failure.
                let name = format!("{} {protocol:?} gzip={gzip} {self:?}", recipe.name);
                let run = move || field.observe(httpd);
                (field, thread::Builder::new().name(name).spawn_scoped(scope, run).unwrap())
            };
            let running: Vec<_> = self.platform.recipes().iter().map(start).collect();
            running.into_iter().map(|(field, thread)| (field, thread.join().ok())).collect()
        })
    }

    fn field(self, recipe: &'static Recipe, protocol: Protocol, gzip: bool) -> Field {
        let promise = self.with_module.then(|| recipe.promise(self.platform, protocol, gzip, self.output_buffering));
        let early = match promise {
            Some(Promise::Released | Promise::Missing | Promise::Broken) => true,
            Some(Promise::Waits) => false,
            Some(Promise::AsOnStock) | None => {
                page::early_on_stock(self.platform, recipe, protocol, gzip, self.output_buffering)
            }
        };
        let patience = if early { LONG } else { SHORT };
        let platform = self.platform;
        Field { platform, recipe, protocol, gzip, promise, patience }
    }

    fn start(self) -> Httpd {
        let mut builder = Httpd::builder(self.platform.mpm())
            .handler(self.platform.handler())
            .php_ini("output_buffering", &self.output_buffering.to_string())
            .workers(32)
            .modules(&["filter", "deflate"])
            .config("AddOutputFilterByType DEFLATE text/html text/plain");
        builder = match self.with_module {
            true => builder.config("FinishRequest Auto"),
            false => builder.without_module(),
        };
        let httpd = builder.start();
        if !self.with_module {
            // How a server without the module ends is not judged here.
            httpd.allow_log("exit signal Segmentation fault");
        }
        for recipe in self.platform.recipes() {
            recipe.install(&httpd, self.platform);
        }
        httpd.install("next.php", NEXT);
        httpd.allow_log("undefined function fastcgi_finish_request");
        httpd.allow_log("thrown in .*/fpm-finish.php");
        httpd.allow_log("stderr: (Stack trace:|#0 )");
        httpd
    }
}
