//! Tells the task runner which target it was built for, because cargo names the output folder after it.

fn main() {
    let target = std::env::var("TARGET").expect("cargo sets TARGET for build scripts");
    println!("cargo::rustc-env=IRONCLAD_TARGET={target}");
}
