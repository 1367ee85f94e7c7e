//! The `vervet` command.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = machine::cli::Arguments::parse();
    let filter = EnvFilter::try_from_env("VERVET_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match arguments.execute() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // One line, with the causes that the message does not already hold.
            eprintln!("vervet: {error:#}");
            ExitCode::from(1)
        }
    }
}
