//! Lockstep: the interpreter repeats what translated code has done, and both have to agree.
//!
//! **A step** is what translated code does at a stretch: from where the engine enters a region, or a helper returns into
//! it, to where it leaves or calls a helper. Regions do not lead to each other meanwhile. A step runs as it always does,
//! and what it does to memory and devices happens once. On its way it logs its accesses ([`Logged`]). Then the hart gets
//! back the registers of the step's start, and the interpreter executes as many instructions: it takes what it loads from
//! the log, and finds there what it would store ([`Hart::repeat`]). So nothing that devices do meanwhile, and no clock,
//! makes a difference. Helpers and traps are shared by both engines; they are between steps, and happen once.
//!
//! **Compared** are the accesses in their order: kind, width, virtual address, value, and that it was made where the
//! address space has that address. At the end: `pc`, the number of retired instructions, all registers and CSRs, and the
//! reservation. And RAM: the bytes that the step has loaded or stored last have to be there, unless somebody else has
//! written meanwhile ([`Ram::foreign_writes`]). If the step has ended in a trap, the interpreter has to trap too.
//!
//! **Not compared** is a step that has written to the pages of its own code: the interpreter would find what is there now.
//! A translation that the guest has changed without a fence, and that both the TLB and the page table have forgotten, is
//! taken for a difference, although the architecture allows to use it.

use bus::{Ram, Width};

use crate::csr::Csrs;
use crate::hart::Reservation;
use crate::interpreter::{self, CHAIN, Outcome};
use crate::tlb::{self, Context};
use crate::{Hart, Interpreter, Privilege, Trapped};

mod difference;

pub use difference::Difference;

/// Most instructions of a step, about. More would be compared as well; fewer make a better report.
#[cfg(feature = "jit")]
pub(crate) const MOST_INSTRUCTIONS: u64 = 4096;

/// Accesses that a log has room for, more than a step makes: an instruction makes at most eight, the stores of `cbo.zero`.
const MOST_LOGGED: usize = 10 * 4096;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Load,
    Store,
    /// An AMO or a compare-and-swap: the value is what was there before.
    Modify,
    /// `lr`.
    Reserve,
    /// `sc`: the value is what the instruction gives, 0 if it has stored.
    Conditional,
}

/// An access that translated code has made, as it has logged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Logged {
    /// Virtual, masked.
    pub address: u64,
    /// Where the host has the bytes; zero if they are not all in one page of RAM.
    pub host: u64,
    /// Zero-extended from the width. Of a plain store what was to be stored, whose upper bits mean nothing.
    pub value: u64,
    /// [`Logged::what`].
    pub what: u64,
}

impl Logged {
    /// A kind and a width as one number.
    pub fn what(kind: Kind, width: Width) -> u64 {
        (kind as u64) << 8 | width.bytes()
    }
}

/// The part of a hart's state that a step can change.
#[derive(Clone, Debug)]
struct Registers {
    x: [u64; 32],
    f: [u64; 32],
    pc: u64,
    privilege: Privilege,
    csr: Csrs,
    reservation: Reservation,
    retired: u64,
}

impl Registers {
    fn of(hart: &Hart) -> Self {
        let mut x = [0; 32];
        x.copy_from_slice(&hart.x[..32]);
        // What a reservation that has ended was about means nothing.
        let reservation = Some(hart.reservation).filter(|held| held.width != 0).unwrap_or_default();
        let (f, pc, privilege, csr, retired) = (hart.f, hart.pc, hart.privilege, hart.csr.clone(), hart.counts.retired);
        Self { x, f, pc, privilege, csr, reservation, retired }
    }

    /// Only between the start and the end of a step: nothing that is derived from these registers changes there.
    fn put_back(&self, hart: &mut Hart) {
        hart.x[..32].copy_from_slice(&self.x);
        (hart.f, hart.pc, hart.privilege) = (self.f, self.pc, self.privilege);
        hart.csr.clone_from(&self.csr);
        hart.reservation = self.reservation;
        hart.counts.retired = self.retired;
    }

    fn with_triggers_of(&self, other: &Self) -> Self {
        let mut registers = self.clone();
        registers.csr.triggers.clone_from(&other.csr.triggers);
        registers
    }

    fn is_same(&self, other: &Self) -> bool {
        let Self { x, f, pc, privilege, csr, reservation, retired } = self;
        *pc == other.pc
            && *retired == other.retired
            && *x == other.x
            && *f == other.f
            && *privilege == other.privilege
            && *reservation == other.reservation
            && *csr == other.csr
    }
}

/// What is known of bytes of RAM: a hash table that is emptied again and again.
#[derive(Debug)]
struct Known {
    slots: Box<[Doubleword]>,
    /// Places of slots that are in use.
    used: Vec<usize>,
    /// Counts the times that it was emptied: the slots of other rounds are free.
    round: u64,
}

/// What is known of a doubleword of RAM.
#[derive(Clone, Copy, Debug, Default)]
struct Doubleword {
    round: u64,
    offset: u64,
    value: u64,
    /// The bits that are known.
    mask: u64,
}

/// Bytes of RAM that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unexpected {
    /// Offset in RAM of a doubleword.
    offset: u64,
    expected: u64,
    found: u64,
    /// The bits that are known.
    mask: u64,
}

impl Known {
    /// Slots, a power of two.
    const SLOTS: usize = 1 << 13;

    fn new() -> Self {
        Self { slots: vec![Doubleword::default(); Self::SLOTS].into(), used: Vec::new(), round: 1 }
    }

    fn forget(&mut self) {
        self.round += 1;
        self.used.clear();
    }

    /// What is known of the doubleword at an offset.
    fn at(&mut self, offset: u64) -> &mut Doubleword {
        if self.used.len() == Self::SLOTS / 2 {
            // A step that touches so much is not looked at as a whole.
            self.forget();
        }
        let mut place =
            ((offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::SLOTS.trailing_zeros())) as usize;
        while self.slots[place].round == self.round && self.slots[place].offset != offset {
            place = (place + 1) % Self::SLOTS;
        }
        if self.slots[place].round != self.round {
            self.slots[place] = Doubleword { round: self.round, offset, value: 0, mask: 0 };
            self.used.push(place);
        }
        &mut self.slots[place]
    }

    /// The doublewords that a value at an offset has bits of: their offsets, its bits there, and which these are.
    fn parts(offset: u64, width: Width, value: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let shift = offset % 8 * 8;
        let (mask, value) = (u128::from(width.mask()) << shift, u128::from(width.zero_extend(value)) << shift);
        let low = (offset & !7, value as u64, mask as u64);
        let high = ((offset & !7) + 8, (value >> 64) as u64, (mask >> 64) as u64);
        [low, high].into_iter().filter(|(_, _, mask)| *mask != 0)
    }

    /// Notes what has been found at an offset.
    fn load(&mut self, offset: u64, width: Width, value: u64) -> Result<(), Unexpected> {
        for (offset, value, mask) in Self::parts(offset, width, value) {
            let known = self.at(offset);
            let both = known.mask & mask;
            if (known.value ^ value) & both != 0 {
                return Err(Unexpected { offset, expected: known.value, found: value, mask: both });
            }
            known.value |= value;
            known.mask |= mask;
        }
        Ok(())
    }

    /// Notes what has been stored at an offset.
    fn store(&mut self, offset: u64, width: Width, value: u64) {
        for (offset, value, mask) in Self::parts(offset, width, value) {
            let known = self.at(offset);
            known.value = known.value & !mask | value;
            known.mask |= mask;
        }
    }

    /// What RAM does not have as it is known.
    fn differences(&self, ram: &Ram) -> Vec<Unexpected> {
        let unexpected = |place: &usize| {
            let Doubleword { offset, value: expected, mask, .. } = self.slots[*place];
            let found = ram.load_u64(offset)?;
            ((found ^ expected) & mask != 0).then_some(Unexpected { offset, expected, found, mask })
        };
        self.used.iter().filter_map(unexpected).collect()
    }
}

/// Why the interpreter and translated code disagree.
#[derive(Clone, Debug)]
enum Disagreement {
    /// The interpreter makes another access than the log has next.
    Access { expected: Logged, logged: Option<Logged> },
    /// Its place is not where the address space has it.
    Place { logged: Logged },
    /// It has loaded other bytes than the step has loaded or stored there.
    Loaded(Unexpected),
    /// The interpreter traps, or meets what it cannot execute.
    Trap(crate::trap::Trap),
    /// Translated code has trapped, and the interpreter has not, or else.
    NoTrap(crate::trap::Trap),
    /// Translated code says it has retired more instructions than it can have.
    Count,
    /// The registers at the end.
    Registers,
    /// Accesses are left in the log.
    Left(Logged),
    /// RAM at the end.
    Memory,
}

/// The log, and how far the interpreter has come in it.
pub(crate) struct Repetition {
    log: Box<[Logged]>,
    length: usize,
    next: usize,
    known: Known,
    /// What accesses of the hart meet the TLB with, when nothing is repeated.
    context: Context,
    disagreement: Option<Disagreement>,
}

/// What a hart in lockstep needs.
pub(crate) struct Lockstep {
    /// Here but while something is repeated: then the hart has it.
    repetition: Option<Box<Repetition>>,
    /// Its own, as the engine's is in use.
    interpreter: Interpreter,
    /// The registers at the start of the step, if one is under way.
    start: Option<Box<Registers>>,
    /// Offsets in RAM and versions of the pages of code that the step runs.
    code: Vec<(u64, u32)>,
    /// [`Ram::foreign_writes`] at the start.
    foreign_writes: u64,
    difference: Option<Box<Difference>>,
    has_differed: bool,
}

#[cfg_attr(not(feature = "jit"), allow(dead_code, reason = "only translated code makes steps"))]
impl Lockstep {
    pub fn new() -> Self {
        let repetition = Repetition {
            log: vec![Logged::default(); MOST_LOGGED].into(),
            length: 0,
            next: 0,
            known: Known::new(),
            context: Context::NONE,
            disagreement: None,
        };
        Self {
            repetition: Some(Box::new(repetition)),
            interpreter: Interpreter::default(),
            start: None,
            code: Vec::new(),
            foreign_writes: 0,
            difference: None,
            has_differed: false,
        }
    }

    /// Whether the engines have differed: the hart cannot go on.
    pub fn has_differed(&self) -> bool {
        self.has_differed
    }

    /// The pages of the region that is about to be entered: their offsets in RAM and versions.
    pub fn set_code(&mut self, pages: impl IntoIterator<Item = (u64, u32)>) {
        self.code.clear();
        self.code.extend(pages);
    }

    /// A step begins. Where its first access is to be logged, and the last place in the log: the host's addresses.
    pub fn begin(&mut self, hart: &Hart) -> (u64, u64) {
        self.start = Some(Box::new(Registers::of(hart)));
        self.foreign_writes = hart.ram.foreign_writes();
        self.repetition.as_mut().map_or((0, 0), |repetition| {
            let places = repetition.log.as_mut_ptr_range();
            (places.start as u64, places.end as u64 - size_of::<Logged>() as u64)
        })
    }

    /// Logs an access behind those that end at `place`; where the next one goes.
    pub fn log(&mut self, place: u64, logged: Logged) -> u64 {
        if let Some(repetition) = &mut self.repetition {
            let index = place.wrapping_sub(repetition.log.as_ptr() as u64) as usize / size_of::<Logged>();
            if let Some(entry) = repetition.log.get_mut(index) {
                *entry = logged;
                return place + size_of::<Logged>() as u64;
            }
        }
        place
    }

    /// The step that is under way, if one is, has ended: with `trapped`, by the trap that the hart holds. The place
    /// behind its last access in the log is `log`. Whether the interpreter agrees; then the hart has its registers. False
    /// also from a difference on.
    pub fn end(&mut self, hart: &mut Hart, log: u64, trapped: bool) -> bool {
        let Some(start) = self.start.take() else { return !self.has_differed };
        if let Some(repetition) = &mut self.repetition {
            let bytes = log.wrapping_sub(repetition.log.as_ptr() as u64) as usize;
            repetition.length = (bytes / size_of::<Logged>()).min(repetition.log.len());
        }
        let (trap, translated) = (hart.trap, Registers::of(hart));
        let disagreement = match translated.retired.wrapping_sub(start.retired) {
            count if count > MOST_LOGGED as u64 => Some((Disagreement::Count, Vec::new())),
            count => {
                start.put_back(hart);
                // The trap may have been a trigger's, which notes that it has fired.
                let before = if trapped { translated.with_triggers_of(&start) } else { translated.clone() };
                self.repeat(hart, count).map(|why| (why, Vec::new())).or_else(|| self.compare(hart, &before))
            }
        };
        let disagreement = match disagreement {
            None if trapped && hart.stop.is_none() => {
                let why = (!self.traps(hart, trap)).then_some(Disagreement::NoTrap(trap));
                let same = Registers::of(hart).is_same(&translated);
                why.or((!same).then_some(Disagreement::Registers)).map(|why| (why, Vec::new()))
            }
            other => other,
        };
        let Some((why, memory)) = disagreement else { return true };
        let is_foreign = matches!(why, Disagreement::Memory | Disagreement::Loaded(_))
            && hart.ram.foreign_writes() != self.foreign_writes;
        let is_overwritten = self.code.iter().any(|(offset, version)| hart.ram.code_version(*offset) != *version);
        if is_foreign || is_overwritten {
            translated.put_back(hart);
            return true;
        }
        self.has_differed = true;
        self.difference = Some(Box::new(self.describe(hart, &start, &translated, why, &memory)));
        false
    }

    /// Has the interpreter execute `count` instructions, with the accesses of the log. Why it could not.
    fn repeat(&mut self, hart: &mut Hart, count: u64) -> Option<Disagreement> {
        let mut repetition = self.repetition.take()?;
        repetition.next = 0;
        repetition.known.forget();
        repetition.disagreement = None;
        repetition.context = hart.data_context;
        hart.repetition = Some(repetition);
        let end = hart.counts.retired.wrapping_add(count);
        let mut disagreement = None;
        while hart.counts.retired != end && disagreement.is_none() {
            self.interpreter.blocks.context(hart);
            // All accesses take the slow way.
            hart.data_context = Context::NONE;
            let left = end.wrapping_sub(hart.counts.retired);
            match self.run(hart, left) {
                Outcome::Done => {}
                Outcome::Exit => hart.pc = hart.next_pc,
                Outcome::Trap => {
                    hart.pc = hart.next_pc;
                    disagreement = Some(Disagreement::Trap(hart.trap));
                }
            }
        }
        hart.update_mode();
        let mut repetition = hart.repetition.take()?;
        // A trap may be the hart's way to say it.
        let disagreement = repetition.disagreement.take().or(disagreement);
        let left = repetition.log[..repetition.length].get(repetition.next).copied();
        self.repetition = Some(repetition);
        disagreement.or(left.map(Disagreement::Left))
    }

    /// Interprets from the hart's `pc` on, at most `most` instructions.
    fn run(&mut self, hart: &mut Hart, most: u64) -> Outcome {
        match self.interpreter.blocks.find(hart) {
            Ok(found) => interpreter::run(hart, &self.interpreter.blocks, &found, most, CHAIN),
            Err(_) => {
                hart.next_pc = hart.pc;
                Outcome::Trap
            }
        }
    }

    /// Compares the hart's registers with those that translated code has left, and RAM with what is known of it.
    fn compare(&self, hart: &Hart, translated: &Registers) -> Option<(Disagreement, Vec<Unexpected>)> {
        let memory = self.repetition.as_ref()?.known.differences(&hart.ram);
        if !Registers::of(hart).is_same(translated) {
            return Some((Disagreement::Registers, memory));
        }
        (!memory.is_empty()).then_some((Disagreement::Memory, memory))
    }

    /// Whether the instruction at the hart's `pc` traps, and so. Nothing but the trap has come of it before.
    fn traps(&mut self, hart: &mut Hart, trap: crate::trap::Trap) -> bool {
        self.interpreter.blocks.context(hart);
        self.run(hart, 1) == Outcome::Trap && hart.trap == trap
    }
}

impl Hart {
    /// What the JIT and the interpreter have differed in, if they have: the hart has stopped with
    /// [`crate::Stop::Difference`], and its state is of no use.
    pub fn take_difference(&mut self) -> Option<Box<Difference>> {
        self.lockstep.as_mut()?.difference.take()
    }

    /// The access that translated code has made for this one, which the interpreter repeats: then it is not made again.
    /// `stored` is what a plain store stores. Nothing if the interpreter repeats nothing.
    ///
    /// # Errors
    /// It is not the access that comes next.
    #[inline]
    pub(crate) fn repeat(
        &mut self,
        kind: Kind,
        address: u64,
        width: Width,
        stored: Option<u64>,
    ) -> Result<Option<Logged>, Trapped> {
        if self.repetition.is_none() {
            return Ok(None);
        }
        self.repeat_access(kind, address, width, stored)
    }

    #[cold]
    fn repeat_access(
        &mut self,
        kind: Kind,
        address: u64,
        width: Width,
        stored: Option<u64>,
    ) -> Result<Option<Logged>, Trapped> {
        let Some(mut repetition) = self.repetition.take() else { return Ok(None) };
        let next = repetition.log[..repetition.length].get(repetition.next).copied();
        let expected = Logged { address, host: 0, value: stored.unwrap_or_default(), what: Logged::what(kind, width) };
        let is_expected = |logged: &Logged| {
            let is_value = match stored {
                Some(value) => width.zero_extend(logged.value ^ value) == 0,
                None => width.zero_extend(logged.value) == logged.value,
            };
            is_value && (logged.what, logged.address) == (expected.what, address)
        };
        let outcome = match next {
            Some(logged) if is_expected(&logged) => {
                repetition.next += 1;
                self.look_at(&mut repetition, kind, width, logged).map(|()| logged)
            }
            logged => Err(Disagreement::Access { expected, logged }),
        };
        let outcome = outcome.map_err(|disagreement| {
            repetition.disagreement = Some(disagreement);
            Trapped(())
        });
        self.repetition = Some(repetition);
        outcome.map(Some)
    }

    /// Looks where an access was made, and keeps in mind what it says of RAM.
    fn look_at(
        &self,
        repetition: &mut Repetition,
        kind: Kind,
        width: Width,
        logged: Logged,
    ) -> Result<(), Disagreement> {
        if logged.host == 0 {
            // It may have been anywhere.
            repetition.known.forget();
            return Ok(());
        }
        let leads = |offset: &u64| self.leads_to(repetition.context, kind, logged.address, *offset);
        let Some(offset) = self.offset_at(logged.host).filter(leads) else {
            return Err(Disagreement::Place { logged });
        };
        if self.offset_at(logged.host + width.bytes() - 1) != Some(offset + width.bytes() - 1) {
            // Over a border of pages that lie apart.
            repetition.known.forget();
            return Ok(());
        }
        match kind {
            Kind::Load | Kind::Reserve | Kind::Modify => {
                repetition.known.load(offset, width, logged.value).map_err(Disagreement::Loaded)
            }
            Kind::Store => {
                repetition.known.store(offset, width, logged.value);
                Ok(())
            }
            Kind::Conditional => Ok(()),
        }
    }

    /// The offset in RAM of what is at an address of the host, in RAM or in a view.
    fn offset_at(&self, host: u64) -> Option<u64> {
        let offset = Some(self.host_offset(host)).filter(|offset| *offset < self.ram.size());
        #[cfg(feature = "jit")]
        let offset = offset.or_else(|| self.viewed_offset(host));
        offset
    }

    /// Whether the TLB, or else the page table, leads to where an access was made. A debugger's walk asks for no
    /// permissions: these may have changed since.
    fn leads_to(&self, context: Context, kind: Kind, address: u64, offset: u64) -> bool {
        let table = if matches!(kind, Kind::Load | Kind::Reserve) { &self.tlb.read } else { &self.tlb.write };
        let entry = &table[tlb::slot(address)];
        let is_cached = entry.tag == tlb::tag(address, 1, context);
        is_cached && self.host_offset(address.wrapping_add(entry.delta)) == offset
            || self.probe(address).is_ok_and(|physical| self.ram.offset(physical, 1) == Some(offset))
    }

    /// What the instruction that repeats an access stores there, beyond what the log says.
    pub(crate) fn repeat_write(&mut self, logged: Logged, width: Width, value: u64) {
        let offset = self.host_offset(logged.host);
        if let Some(repetition) = self.repetition.as_mut().filter(|_| logged.host != 0) {
            repetition.known.store(offset, width, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_ram_are_known_as_they_were_loaded_and_stored() {
        let ram = Ram::new(0x8000_0000, 0x1000).unwrap();
        let mut known = Known::new();
        // Over a doubleword's border.
        known.store(6, Width::Word, 0xffff_ffff_4433_2211);
        assert_eq!(known.load(8, Width::Half, 0x4433), Ok(()));
        assert!(known.load(7, Width::Half, 0x3321).is_err(), "one of the bytes is another");
        assert_eq!(known.load(4, Width::Word, 0x2211_0000), Ok(()), "two of the bytes are news");
        let wrong = known.differences(&ram);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong.contains(&Unexpected { offset: 8, expected: 0x4433, found: 0, mask: 0xffff }));
        ram.store(6, Width::Word, 0x4433_2211).unwrap();
        assert!(known.differences(&ram).is_empty());
        ram.store_u8(4, 1).unwrap();
        assert_eq!(known.differences(&ram).len(), 1, "what was loaded has to be there");
        ram.store_u8(10, 1).unwrap();
        assert_eq!(known.differences(&ram).len(), 1, "nothing is known of that");
    }
}
