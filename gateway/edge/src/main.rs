//! The program guan. `guan --help` says what it can do.
#![forbid(unsafe_code)]

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::execute(&arguments) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("guan: {fault:#}");
            ExitCode::FAILURE
        }
    }
}
