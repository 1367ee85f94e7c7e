//! Runs litmus tests of the memory model, millions of rounds each, and shows what came of them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use cpu::{EngineKind, JitOptions};
use tests::smp::litmus::{self, Test};

/// Runs litmus tests.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each test on each engine; tests that write code make a hundredth of them.
    #[arg(long, default_value_t = 2_000_000)]
    rounds: u64,
    /// Where random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Show how often each outcome occurred.
    #[arg(long)]
    histograms: bool,
    /// Longest time for a test.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// Only these tests.
    names: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let tests = if arguments.names.is_empty() {
        litmus::tests()
    } else {
        let named = |name: &String| litmus::test(name).with_context(|| format!("there is no test '{name}'"));
        arguments.names.iter().map(named).collect::<Result<_, _>>()?
    };
    let jit = EngineKind::Jit(JitOptions { threshold: 1, ..JitOptions::default() });
    let baseline =
        EngineKind::Jit(JitOptions { threshold: u32::MAX, baseline_threshold: Some(1), ..JitOptions::default() });
    let (mut passed, mut failed) = (0, 0);
    for (engine, name) in [(EngineKind::Interpreter, "interpreter"), (jit, "jit"), (baseline, "baseline")] {
        for test in &tests {
            let start = Instant::now();
            match run(test, engine, &arguments) {
                Ok(text) => {
                    println!("{name:12} {:32} passed {text}, {:.1} s", test.name, start.elapsed().as_secs_f64());
                    passed += 1;
                }
                Err(error) => {
                    println!("{name:12} {:32} FAILED {error:#}", test.name);
                    failed += 1;
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(test: &Test, engine: EngineKind, arguments: &Arguments) -> anyhow::Result<String> {
    let rounds = if test.writes_code() { arguments.rounds / 100 } else { arguments.rounds };
    let histogram = test.run(engine, rounds, arguments.seed, Duration::from_secs(arguments.timeout))?;
    let mut text = format!("{} rounds", histogram.total());
    if let Some(witness) = test.witness {
        let seen = histogram.count(witness);
        anyhow::ensure!(seen > 0, "harts never overlapped in {text}:\n{histogram}");
        text += &format!(", {seen} relaxed");
    }
    if arguments.histograms {
        text += &format!("\n{histogram}");
    }
    Ok(text)
}
