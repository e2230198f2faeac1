//! The `limpet` program: hands its arguments to the library, and its exit code to the shell.

fn main() -> std::process::ExitCode {
    limpet_cli::main(std::env::args_os().collect())
}
