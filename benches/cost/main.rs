//! What the module costs and what it gains, side by side in one run: `make bench`.
//!
//! Only ratios are worth something: the servers take turns, so that whatever else the machine does
//! meets all of them, and the same server measured twice shows how much is noise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod gain;
mod load;
mod overhead;
mod ratio;

fn main() {
    println!("Ratios of measurements that take turns on this machine; ± is two standard errors.\n");
    overhead::measure();
    println!();
    gain::measure();
}
