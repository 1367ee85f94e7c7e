//! `vervet test`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::{Processor, print_line, size};
use crate::test_program::{self, Report, Settings, Verdict};

#[derive(Debug, Args)]
pub struct Test {
    /// Programs, ELF files with a symbol `tohost`
    #[arg(required = true, value_name = "ELF")]
    programs: Vec<PathBuf>,

    /// Programs run at the same time; the number of host cores by default
    #[arg(long, short)]
    jobs: Option<std::num::NonZeroUsize>,

    #[command(flatten)]
    processor: Processor,

    /// Guest RAM; without a unit, MiB
    #[arg(long, short, value_name = "SIZE", default_value = "128M", value_parser = size::parse)]
    memory: u64,

    /// Seconds that each program may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,

    /// Instructions that each program may retire
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000_000)]
    instructions: u64,

    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Write the memory from begin_signature to end_signature, for one program
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    /// Bytes per line of the signature
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = granularity)]
    signature_granularity: u8,

    /// Write a commit log in Spike's format, for one program
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn granularity(text: &str) -> Result<u8, String> {
    match text {
        "1" | "2" | "4" | "8" | "16" => text.parse().map_err(|_| String::new()),
        _ => Err("1, 2, 4, 8 or 16".into()),
    }
}

impl Test {
    pub fn execute(self) -> anyhow::Result<u8> {
        if self.programs.len() > 1 && (self.signature.is_some() || self.trace.is_some()) {
            bail!("--signature and --trace take a single program");
        }
        let settings = Settings {
            extensions: self.processor.cpu,
            engine: self.processor.engine()?,
            timeout: Duration::from_secs(self.timeout),
            most_instructions: self.instructions,
            memory: self.memory,
        };
        let mut trace = match &self.trace {
            None => None,
            Some(path) => Some(BufWriter::new(create(path)?)),
        };
        let reports = match &mut trace {
            Some(file) => {
                let program = &self.programs[0];
                let report = test_program::run(program, &settings, self.signature.is_some(), Some(file));
                print(program, &report);
                vec![report]
            }
            None => self.run_all(&settings),
        };
        if let Some(file) = trace {
            file.into_inner().map_err(|error| error.into_error()).context("the trace cannot be written")?;
        }
        if let Some(path) = &self.signature
            && let Some(signature) = reports.first().and_then(|report| report.signature.as_ref())
        {
            self.write_signature(path, signature)?;
        }
        if let Some(path) = &self.junit {
            write_junit(path, &self.programs, &reports)?;
        }
        let failed = reports.iter().filter(|report| report.verdict != Verdict::Passed).count();
        print_line(format_args!("{} passed, {failed} failed", reports.len() - failed))?;
        Ok(u8::from(failed > 0))
    }

    /// Runs the programs on as many threads as there are jobs, and prints each result as it comes.
    fn run_all(&self, settings: &Settings) -> Vec<Report> {
        let cores = || std::thread::available_parallelism().map_or(1, Into::into);
        let jobs = self.jobs.map_or_else(cores, Into::into).min(self.programs.len());
        let next = AtomicUsize::new(0);
        let mut reports: Vec<Option<Report>> = vec![None; self.programs.len()];
        std::thread::scope(|scope| {
            let worker = || {
                let mut done = Vec::new();
                while let Some(program) = self.programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = test_program::run(program, settings, self.signature.is_some(), None);
                    print(program, &report);
                    done.push((program, report));
                }
                done
            };
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                let Ok(done) = worker.join() else { continue };
                for (program, report) in done {
                    if let Some(index) = self.programs.iter().position(|other| std::ptr::eq(other, program)) {
                        reports[index] = Some(report);
                    }
                }
            }
        });
        let crashed = || Report {
            verdict: Verdict::Unusable("internal error of the emulator".into()),
            time: Duration::ZERO,
            instructions: 0,
            output: Vec::new(),
            signature: None,
        };
        reports.into_iter().map(|report| report.unwrap_or_else(crashed)).collect()
    }

    fn write_signature(&self, path: &Path, signature: &[u8]) -> anyhow::Result<()> {
        let mut file = BufWriter::new(create(path)?);
        for line in signature.chunks(self.signature_granularity.into()) {
            // Each line is one little-endian number.
            let digits: String = line.iter().rev().map(|byte| format!("{byte:02x}")).collect();
            writeln!(file, "{digits}").with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        file.flush().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("{}: cannot be created", path.display()))
}

fn print(program: &Path, report: &Report) {
    use std::fmt::Write as _;
    let mut text = format!("{}: {}", program.display(), report.verdict);
    let _ = write!(text, " ({} instructions, {:.2} s)", report.instructions, report.time.as_secs_f64());
    if report.verdict != Verdict::Passed && !report.output.is_empty() {
        let _ = write!(text, "\n{}", String::from_utf8_lossy(&report.output).trim_end());
    }
    if let Err(error) = print_line(text) {
        // The summary at the end fails too, and with it the command.
        tracing::debug!("{error:#}");
    }
}

/// Escapes text for XML; characters that XML 1.0 does not allow become U+FFFD.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn write_junit(path: &Path, programs: &[PathBuf], reports: &[Report]) -> anyhow::Result<()> {
    let failed = reports.iter().filter(|report| report.verdict != Verdict::Passed).count();
    let time: Duration = reports.iter().map(|report| report.time).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"vervet\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">\n",
        reports.len(),
        time.as_secs_f64()
    );
    for (program, report) in programs.iter().zip(reports) {
        let name = xml(&program.display().to_string());
        text += &format!("  <testcase name=\"{name}\" time=\"{:.3}\"", report.time.as_secs_f64());
        if report.verdict == Verdict::Passed {
            text += "/>\n";
        } else {
            let message = xml(&report.verdict.to_string());
            let output = xml(&String::from_utf8_lossy(&report.output));
            text += &format!(">\n    <failure message=\"{message}\">{output}</failure>\n  </testcase>\n");
        }
    }
    text += "</testsuite>\n";
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::xml;

    #[test]
    fn xml_is_escaped() {
        assert_eq!(xml("a<b>&\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;\u{fffd}\n");
    }
}
