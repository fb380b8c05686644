//! The binary `enroll-client`: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    enroll_client::cli::main()
}
