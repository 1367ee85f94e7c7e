//! The `vervet` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = machine::cli::Arguments::parse();
    let _logging = machine::logging::start();
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
