//! Compiles the demo's workload: one static program, embedded by the library.
//!
//! In: `demo/workload.rs`, and cargo's word on compiler, target and linker; or a ready program, named
//! by `LIMPET_WORKLOAD`, where the compiler has no standard library for the target (`-Z build-std`).
//! Out: `workload` in `OUT_DIR`. No dependency and no second cargo: a bare call of the compiler.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SOURCE: &str = "demo/workload.rs";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile {SOURCE}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=LIMPET_WORKLOAD");
    let target = env::var("TARGET")?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("workload");
    if let Ok(ready) = env::var("LIMPET_WORKLOAD") {
        println!("cargo::rerun-if-changed={ready}");
        std::fs::copy(&ready, &out).map_err(|error| format!("copy {ready}: {error}"))?;
        return Ok(());
    }
    let mut compiler = Command::new(env::var("RUSTC")?);
    compiler.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "workload"]);
    compiler.args(["--target", &target, "-C", "target-feature=+crt-static", "-C", "opt-level=z"]);
    compiler.args(["-C", "panic=abort", "-C", "strip=symbols", "-C", "lto=fat"]);
    compiler.args(["-C", "codegen-units=1", "-C", "relocation-model=static"]);
    // The linker and flags that cargo would use, so that cross builds work alike.
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={linker}"));
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    compiler.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    let status = compiler.arg("-o").arg(&out).arg(SOURCE).status()?;
    if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
}
