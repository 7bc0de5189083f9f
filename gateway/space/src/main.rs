//! The program guan-space. `guan-space --help` says what it can do.
#![forbid(unsafe_code)]

mod cli;

use clap::Parser;
use std::process::ExitCode;

/// A reader that has seen enough, such as `head`, ends the program as SIGPIPE would, and is no fault.
fn end_with_the_pipe() {
    const STATUS: i32 = 128 + 13;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(STATUS);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    end_with_the_pipe();
    let arguments = cli::Arguments::parse();
    match cli::execute(&arguments) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("guan-space: {fault:#}");
            ExitCode::FAILURE
        }
    }
}
