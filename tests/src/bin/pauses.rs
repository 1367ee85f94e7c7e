//! Measures how long a machine whose harts are all busy takes to pause, and to start again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use cpu::{EngineKind, JitOptions};
use tests::smp::cross_hart;

/// Measures how long a busy machine takes to pause.
#[derive(Parser)]
struct Arguments {
    /// Harts; as many as the host has cores if not given.
    #[arg(long)]
    harts: Option<u64>,
    /// Pauses.
    #[arg(long, default_value_t = 1000)]
    pauses: usize,
    /// Milliseconds that the machine runs in between.
    #[arg(long, default_value_t = 3)]
    between: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let harts = arguments.harts.unwrap_or(cores);
    for (name, engine) in [("interpreter", EngineKind::Interpreter), ("jit", EngineKind::Jit(JitOptions::default()))] {
        let mut machine = cross_hart::board("busy", harts, 1, engine)?.machine;
        machine.start()?;
        std::thread::sleep(Duration::from_millis(300));
        let (mut pausing, mut starting) = (Vec::new(), Vec::new());
        let mut retired = 0;
        for _ in 0..arguments.pauses {
            std::thread::sleep(Duration::from_millis(arguments.between));
            let start = Instant::now();
            machine.pause()?;
            pausing.push(start.elapsed());
            let before = retired;
            retired = machine.cores().iter().map(|core| core.hart.counts().retired).sum();
            ensure!(retired >= before, "a hart has gone back");
            let start = Instant::now();
            machine.start()?;
            starting.push(start.elapsed());
        }
        println!("{name:12} {harts} harts on {cores} cores, {retired} instructions");
        for (what, times) in [("pause", &mut pausing), ("start", &mut starting)] {
            times.sort();
            let at = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)];
            println!("{what:12} median {:?}, 99 % {:?}, 99.9 % {:?}, most {:?}", at(500), at(990), at(999), at(1000));
        }
    }
    Ok(())
}
