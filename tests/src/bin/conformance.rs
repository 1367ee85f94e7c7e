//! Runs the conformance programs, on QEMU as an independent judge or on Vervet, or writes them out.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use cpu::EngineKind;
use tests::conformance::{self, Program};

/// Without what Vervet lacks and a program would notice: misaligned atomics. Two harts, since QEMU gives
/// a misaligned atomic the wrong cause where it runs one.
const QEMU_ARGUMENTS: &[&str] =
    &["-M", "virt", "-smp", "2", "-m", "128M", "-cpu", "max,zama16b=off", "-nographic", "-monitor", "none"];

/// Runs the conformance programs.
#[derive(Parser)]
struct Arguments {
    /// Run them on this QEMU instead of Vervet, those that it can judge.
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = "qemu-system-riscv64")]
    qemu: Option<PathBuf>,
    /// Write sources and binaries into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "qemu")]
    write: Option<PathBuf>,
    /// End with the first program that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Longest time for a program.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Only these programs.
    names: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let programs = selected(&arguments.names)?;
    if let Some(folder) = &arguments.write {
        for program in &programs {
            let path = folder.join(program.name);
            std::fs::write(path.with_extension("s"), program.source())?;
            std::fs::write(path.with_extension("bin"), program.assemble()?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (mut passed, mut failed, mut left_out, mut checks) = (0, 0, 0, 0);
    for program in &programs {
        let result = match &arguments.qemu {
            Some(_) if !program.judged_by_qemu => {
                println!("{:28} left out: QEMU differs from the specification here", program.name);
                left_out += 1;
                continue;
            }
            Some(qemu) => run_on_qemu(qemu, program, Duration::from_secs(arguments.timeout)).map(|()| None),
            None => program
                .run(EngineKind::Interpreter, Duration::from_secs(arguments.timeout))
                .map(Some)
                .map_err(anyhow::Error::from),
        };
        match result {
            Ok(made) => {
                let made = made.map_or(String::new(), |made| {
                    checks += made;
                    format!(", {made} checks")
                });
                println!("{:28} passed{made}", program.name);
                passed += 1;
            }
            Err(error) => {
                println!("{:28} FAILED: {error:#}", program.name);
                failed += 1;
                if arguments.fail_fast {
                    break;
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {left_out} left out");
    if arguments.qemu.is_none() {
        println!("{checks} checks");
    }
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selected(names: &[String]) -> anyhow::Result<Vec<Program>> {
    if names.is_empty() {
        return Ok(conformance::programs());
    }
    names
        .iter()
        .map(|name| conformance::program(name).with_context(|| format!("there is no program '{name}'")))
        .collect()
}

fn run_on_qemu(qemu: &Path, program: &Program, timeout: Duration) -> anyhow::Result<()> {
    let image = tempfile::NamedTempFile::new()?;
    std::fs::write(image.path(), program.assemble()?)?;
    let output = tempfile::NamedTempFile::new()?;
    let mut child = Command::new(qemu)
        .args(QEMU_ARGUMENTS)
        .arg("-bios")
        .arg(image.path())
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .spawn()
        .with_context(|| format!("{} cannot be started", qemu.display()))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            bail!("had not ended after {timeout:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        bail!("{status}:{}", String::from_utf8_lossy(&std::fs::read(output.path())?));
    }
    Ok(())
}
