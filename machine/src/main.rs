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
            eprintln!("vervet: {}", one_line(&error));
            ExitCode::from(1)
        }
    }
}

/// The message with the causes that it does not already hold.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        said if said.contains(&cause) => line,
        said => format!("{said}: {cause}"),
    })
}
