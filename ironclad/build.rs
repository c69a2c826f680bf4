//! Compiles the pods' first process (`pause/`), which the binary carries. It needs no linker but rustc's own.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=pause");
    // Two megabytes of relocations in a few kilobytes.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    let variable = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("pause");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=pause", "-Cpanic=abort", "-Copt-level=s"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        .args(["-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,norelro"])
        .arg("--target")
        .arg(variable("TARGET"))
        .arg("-o")
        .arg(&output)
        .arg("pause/main.rs")
        .status();
    let status = status.expect("rustc can be run");
    assert!(status.success(), "pause does not compile");
}
