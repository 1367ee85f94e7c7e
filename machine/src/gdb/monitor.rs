//! The `monitor` commands: what gdb itself has no words for.

use std::fmt::{self, Write};

use cpu::{Access, Engine, Mapping};
use gdbstub::target::ext::monitor_cmd::ConsoleOutput;

use super::target::Target;

/// Entries of page tables that `info mem` reads at most.
const MOST_ENTRIES: usize = 1 << 20;
/// Lines that `info mem` prints at most.
const MOST_LINES: usize = 4096;

const HELP: &str = "\
help                   this list
reset                  reset the machine and load its programs again; it stays stopped
info devices           the physical address space
info mem               the page table of the current hart
info tlb               the TLB of the current hart
translate ADDRESS      where a virtual address leads
phys on|off            whether gdb's addresses are guest-physical (off)
effects on|off         whether reading a device's register has the effects of a load (off)
interrupts on|off      whether interrupts are taken while stepping (off)
stats                  what the harts have done
link [NAME up|down]    the network cards' cables, or plug or unplug one
quit                   end the emulator
";

impl Target<'_> {
    /// Executes a command.
    pub(super) fn monitor(&mut self, command: &str, out: &mut ConsoleOutput<'_>) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let written = match words[..] {
            [] | ["help"] => out.write_str(HELP),
            ["reset"] | ["reset", "halt"] => {
                self.board.reset();
                // A command cannot tell gdb that registers have changed.
                out.write_str(
                    "the machine is in its reset state; gdb shows what it knew before, until you say \
                     'maintenance flush register-cache' or let the machine run\n",
                )
            }
            ["info", "devices"] => self.info_devices(out),
            ["info", "mem"] => self.info_mem(out),
            ["info", "tlb"] => self.info_tlb(out),
            ["translate", address] => self.translate(address, out),
            ["phys"] => tell(out, "addresses are physical", self.settings.physical),
            ["phys", word] => switch(out, &mut self.settings.physical, word),
            ["effects"] => tell(out, "reads of devices have effects", self.settings.effects),
            ["effects", word] => switch(out, &mut self.settings.effects, word),
            ["interrupts"] => tell(out, "interrupts are taken while stepping", self.settings.interrupts),
            ["interrupts", word] => switch(out, &mut self.settings.interrupts, word),
            ["stats"] => self.stats(out),
            ["link"] => self
                .board
                .links
                .iter()
                .try_for_each(|(name, link)| writeln!(out, "{name} {}", if link.is_up() { "up" } else { "down" })),
            ["link", name, state @ ("up" | "down")] => match self.board.links.iter().find(|(known, _)| known == name) {
                Some((_, link)) => {
                    link.set_up(state == "up");
                    writeln!(out, "{name} is {state}")
                }
                None => writeln!(out, "no such card: {name}; 'monitor link' lists them"),
            },
            ["quit"] => {
                self.quit = true;
                Ok(())
            }
            _ => writeln!(out, "no such command: {command}; 'monitor help' lists them"),
        };
        // The output is buffered in memory.
        debug_assert!(written.is_ok());
    }

    fn info_devices(&mut self, out: &mut ConsoleOutput<'_>) -> fmt::Result {
        let bus = self.board.machine.bus();
        let ram = bus.ram();
        let mut ranges: Vec<(u64, u64, &str)> =
            bus.devices().iter().map(|mapped| (mapped.base, mapped.size, mapped.device.name())).collect();
        ranges.push((ram.base(), ram.size(), "RAM"));
        ranges.sort_unstable();
        ranges
            .iter()
            .try_for_each(|(base, size, name)| writeln!(out, "{base:#014x} {:#014x} {name}", base + (size - 1)))
    }

    fn info_mem(&mut self, out: &mut ConsoleOutput<'_>) -> fmt::Result {
        let Some(hart) = self.current_hart() else { return writeln!(out, "the machine runs") };
        writeln!(out, "satp is {}: {:#018x}", hart.page_table_mode(), hart.csrs().satp)?;
        // Neighbours with the same permissions become one line; dirty and accessed vary from page to page.
        const STATE: u64 = 0xc0;
        let permissions = |mapping: &Mapping| mapping.entry & 0x3ff & !STATE;
        let mut lines: Vec<Mapping> = Vec::new();
        let mut more = 0;
        let complete = hart.mappings(MOST_ENTRIES, &mut |next| {
            let follows = |last: &&mut Mapping| {
                last.address.wrapping_add(last.size) == next.address
                    && last.physical.wrapping_add(last.size) == next.physical
                    && permissions(last) == permissions(&next)
            };
            if let Some(last) = lines.last_mut().filter(follows) {
                last.size += next.size;
                last.entry |= next.entry & STATE;
            } else if lines.len() == MOST_LINES {
                more += 1;
            } else {
                lines.push(next);
            }
        });
        if !lines.is_empty() {
            writeln!(out, "virtual            physical           size               flags")?;
        }
        for line in lines {
            writeln!(out, "{:#018x} {:#018x} {:#018x} {}", line.address, line.physical, line.size, line.flags())?;
            out.flush();
        }
        if more > 0 {
            writeln!(out, "and {more} more")?;
        }
        if !complete {
            writeln!(out, "the table is larger than {MOST_ENTRIES} entries; the rest is not shown")?;
        }
        Ok(())
    }

    fn info_tlb(&mut self, out: &mut ConsoleOutput<'_>) -> fmt::Result {
        let Some(hart) = self.current_hart() else { return writeln!(out, "the machine runs") };
        let mut entries = hart.tlb_entries();
        entries.sort_by_key(|entry| entry.address);
        for pages in entries.chunk_by(|a, b| (a.address, a.physical) == (b.address, b.physical)) {
            let has = |access| pages.iter().any(|entry| entry.access == access);
            let flag = |access, letter| if has(access) { letter } else { '-' };
            let (r, w, x) = (flag(Access::Read, 'r'), flag(Access::Write, 'w'), flag(Access::Execute, 'x'));
            writeln!(out, "{:#018x} {:#018x} {r}{w}{x}", pages[0].address, pages[0].physical)?;
        }
        writeln!(out, "{} entries", entries.len())
    }

    fn translate(&mut self, address: &str, out: &mut ConsoleOutput<'_>) -> fmt::Result {
        let Some(address) = number(address) else {
            return writeln!(out, "'{address}' is no address; 0x80000000 is one");
        };
        let Some(hart) = self.current_hart() else { return writeln!(out, "the machine runs") };
        let physical = match hart.probe(address) {
            Ok(physical) => physical,
            Err(fault) => return writeln!(out, "{address:#x} leads nowhere: {fault:?} fault"),
        };
        let bus = self.board.machine.bus();
        let place = match bus.device(physical, 1) {
            Some((device, offset)) => format!("{} + {offset:#x}", device.name()),
            None if bus.ram().offset(physical, 1).is_some() => "RAM".into(),
            None => "nothing is there".into(),
        };
        writeln!(out, "{address:#x} is physical {physical:#x} ({place})")
    }

    fn stats(&mut self, out: &mut ConsoleOutput<'_>) -> fmt::Result {
        for core in self.board.machine.cores() {
            let (id, counts) = (core.hart.shared().id(), core.hart.counts());
            writeln!(
                out,
                "hart {id}: {} instructions, {} exceptions, {} interrupts; TLB misses: {} loads, {} stores, {} fetches",
                counts.retired,
                counts.exceptions,
                counts.interrupts,
                counts.load_tlb_misses,
                counts.store_tlb_misses,
                counts.fetch_tlb_misses
            )?;
            if let Engine::Jit(jit) = &core.engine {
                let (own, compiler) = (jit.statistics(), jit.compiler_statistics());
                writeln!(
                    out,
                    "        {} translated, {} interpreted; {} regions of {} instructions, {} invalidated",
                    own.translated, own.interpreted, compiler.regions, compiler.instructions, compiler.invalidated
                )?;
            }
        }
        Ok(())
    }
}

/// A number as gdb's users write it.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn tell(out: &mut ConsoleOutput<'_>, what: &str, on: bool) -> fmt::Result {
    writeln!(out, "{what}: {}", if on { "on" } else { "off" })
}

fn switch(out: &mut ConsoleOutput<'_>, setting: &mut bool, word: &str) -> fmt::Result {
    match word {
        "on" => *setting = true,
        "off" => *setting = false,
        _ => return writeln!(out, "'{word}' is neither on nor off"),
    }
    Ok(())
}
