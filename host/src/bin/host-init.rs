//! The first process of the hosts that this crate's tests make. A product calls `host::init::run` itself.

fn main() {
    std::process::exit(host::init::run());
}
