//! Performance monitoring (§11): the hart's counters handed out to the supervisor, and counters of what this firmware
//! does.
//!
//! A hardware counter's number is that of its CSR from `cycle` on; firmware counters come behind them. Which counter
//! has which event is kept per hart here, what a hardware counter does in the hart's own registers alone. Events are
//! counted by the hart's programmable counters, which overflow and filter by mode (Sscofpmf); `cycle` and `instret` are
//! handed out only where there are no others. Snapshots in shared memory are not offered.

use cpu::extension::Extension;
use cpu::{Event, HPM_COUNTERS, Hart, hpmevent};
use sbi_spec::binary::SbiRet;
use sbi_spec::pmu::flags::{CounterCfgFlags, CounterStartFlags, CounterStopFlags};
use sbi_spec::pmu::{
    COUNTER_CONFIG_MATCHING, COUNTER_FW_READ, COUNTER_FW_READ_HI, COUNTER_GET_INFO, COUNTER_START, COUNTER_STOP,
    EVENT_GET_INFO, NUM_COUNTERS, cache_event, cache_operation, cache_result, event_type, firmware_event,
    hardware_event,
};
use serde::{Deserialize, Serialize};

use super::{Reply, Sbi, SbiHart, as_machine, csr};

/// Numbers of the counters with an `mhpmevent`.
const PROGRAMMABLE: std::ops::Range<usize> = 3..3 + HPM_COUNTERS;
const CYCLE: usize = 0;
const INSTRET: usize = 2;
/// Number of the first firmware counter.
const FIRST_FIRMWARE: usize = PROGRAMMABLE.end;
const FIRMWARE_COUNTERS: usize = 16;
const COUNTERS: usize = FIRST_FIRMWARE + FIRMWARE_COUNTERS;
/// Firmware events that have a number.
const FIRMWARE_EVENTS: usize = firmware_event::HFENCE_VVMA_ASID_RECEIVED + 1;

/// What is kept of a hart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pmu {
    /// Hardware counters that have an event, as bits.
    assigned: u32,
    firmware: [Option<FirmwareCounter>; FIRMWARE_COUNTERS],
    /// How often each firmware event has happened.
    events: [u64; FIRMWARE_EVENTS],
}

/// A firmware counter that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FirmwareCounter {
    event: usize,
    /// While counting: what to add to the event's count. While it stands still: the value.
    base: u64,
    counts: bool,
}

impl Pmu {
    /// Nothing is counted.
    pub const IDLE: Pmu = Pmu { assigned: 0, firmware: [None; FIRMWARE_COUNTERS], events: [0; FIRMWARE_EVENTS] };

    /// Notes that a firmware event has happened.
    pub fn count(&mut self, event: usize) {
        if let Some(count) = self.events.get_mut(event) {
            *count = count.wrapping_add(1);
        }
    }

    fn value(&self, counter: FirmwareCounter) -> u64 {
        let count = self.events.get(counter.event).copied().unwrap_or(0);
        if counter.counts { counter.base.wrapping_add(count) } else { counter.base }
    }
}

impl SbiHart {
    /// Notes that a firmware event has happened to the hart.
    pub(super) fn count(&self, event: usize) {
        self.lock().pmu.count(event);
    }
}

/// What an event's index and data name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Hardware(Event),
    Firmware(usize),
}

impl Selected {
    /// The event, if it can be counted (§11.1 to §11.5): bits 19 to 16 of the index are its type, below is its code.
    fn of(index: u64, data: u64) -> Option<Self> {
        let (kind, code) = ((index >> 16) as usize, index as usize & 0xffff);
        match kind {
            event_type::HARDWARE_GENERAL => match code {
                hardware_event::CPU_CYCLES | hardware_event::REF_CPU_CYCLES => Some(Event::Cycles),
                hardware_event::INSTRUCTIONS => Some(Event::Instructions),
                _ => None,
            }
            .map(Self::Hardware),
            event_type::HARDWARE_CACHE => {
                let (cache, operation, outcome) = (code >> 3, code >> 1 & 3, code & 1);
                match (cache, operation, outcome) {
                    (cache_event::DTLB, cache_operation::READ, cache_result::MISS) => Some(Event::LoadTlbMisses),
                    (cache_event::DTLB, cache_operation::WRITE, cache_result::MISS) => Some(Event::StoreTlbMisses),
                    (cache_event::ITLB, cache_operation::READ, cache_result::MISS) => Some(Event::FetchTlbMisses),
                    _ => None,
                }
                .map(Self::Hardware)
            }
            // The data is what the event's register would hold.
            event_type::HARDWARE_RAW | event_type::HARDWARE_RAW_V2 if code == 0 => {
                Event::from_number(data).filter(|event| *event != Event::None).map(Self::Hardware)
            }
            event_type::FIRMWARE => (code < FIRMWARE_EVENTS).then_some(Self::Firmware(code)),
            _ => None,
        }
    }
}

fn has_counter(hart: &Hart, index: usize) -> bool {
    match index {
        CYCLE | INSTRET => hart.has(Extension::Zicntr),
        _ if PROGRAMMABLE.contains(&index) => hart.has(Extension::Zihpm),
        _ => (FIRST_FIRMWARE..COUNTERS).contains(&index),
    }
}

/// The counters that `base` and `mask` name; none if one of them is not there.
fn counter_set(hart: &Hart, base: u64, mask: u64) -> Option<Vec<usize>> {
    let base = usize::try_from(base).ok().filter(|base| *base < COUNTERS)?;
    let set: Vec<usize> = (0..64).filter(|bit| mask >> bit & 1 != 0).map(|bit| base + bit).collect();
    (!set.is_empty() && set.iter().all(|index| *index < COUNTERS)).then(|| {
        // Holes between the counters are no counters.
        set.into_iter().filter(|index| has_counter(hart, *index)).collect()
    })
}

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    let Some(own) = sbi.own(hart) else { return SbiRet::failed().into() };
    let result = match function {
        NUM_COUNTERS => SbiRet::success(COUNTERS as u64),
        COUNTER_GET_INFO => information(hart, arguments[0]),
        COUNTER_CONFIG_MATCHING => configure(own, hart, arguments),
        COUNTER_START => start(own, hart, arguments),
        COUNTER_STOP => stop(own, hart, arguments),
        COUNTER_FW_READ => match firmware_counter(own, arguments[0]) {
            Some(value) => SbiRet::success(value),
            None => SbiRet::invalid_param(),
        },
        // The upper half, which RV64 has in the lower one.
        COUNTER_FW_READ_HI => match firmware_counter(own, arguments[0]) {
            Some(_) => SbiRet::success(0),
            None => SbiRet::invalid_param(),
        },
        EVENT_GET_INFO => events(hart, arguments),
        _ => SbiRet::not_supported(),
    };
    result.into()
}

fn information(hart: &Hart, index: u64) -> SbiRet<u64> {
    const IS_FIRMWARE: u64 = 1 << 63;
    /// One less than the number of bits, from bit 12 on.
    const WIDTH: u64 = 63 << 12;
    match usize::try_from(index) {
        Ok(index) if !has_counter(hart, index) => SbiRet::invalid_param(),
        Ok(index) if index < FIRST_FIRMWARE => SbiRet::success((u64::from(csr::CYCLE) + index as u64) | WIDTH),
        Ok(_) => SbiRet::success(IS_FIRMWARE | WIDTH),
        Err(_) => SbiRet::invalid_param(),
    }
}

/// The value of a firmware counter that has an event.
fn firmware_counter(own: &SbiHart, index: u64) -> Option<u64> {
    let state = own.lock();
    let place = usize::try_from(index).ok()?.checked_sub(FIRST_FIRMWARE)?;
    let counter = (*state.pmu.firmware.get(place)?)?;
    Some(state.pmu.value(counter))
}

fn configure(own: &SbiHart, hart: &mut Hart, arguments: [u64; 6]) -> SbiRet<u64> {
    let [base, mask, flags, event, data, _] = arguments;
    let Some(flags) = usize::try_from(flags).ok().and_then(CounterCfgFlags::from_bits) else {
        return SbiRet::invalid_param();
    };
    let Some(set) = counter_set(hart, base, mask) else { return SbiRet::invalid_param() };
    let index = if flags.contains(CounterCfgFlags::SKIP_MATCH) {
        // The caller knows which it is: the first, which has its event already.
        match set.first() {
            Some(index) if is_assigned(own, *index) => *index,
            _ => return SbiRet::invalid_param(),
        }
    } else {
        let Some(selected) = Selected::of(event, data) else { return SbiRet::not_supported() };
        match assign(own, hart, &set, selected, flags) {
            Some(index) => index,
            None => return SbiRet::not_supported(),
        }
    };
    if flags.contains(CounterCfgFlags::CLEAR_VALUE) {
        set_value(own, hart, index, 0);
    }
    if flags.contains(CounterCfgFlags::AUTO_START) {
        set_counting(own, hart, index, true);
    }
    SbiRet::success(index as u64)
}

/// Gives an event to the first counter of the set that is free and can count it.
fn assign(own: &SbiHart, hart: &mut Hart, set: &[usize], selected: Selected, flags: CounterCfgFlags) -> Option<usize> {
    match selected {
        Selected::Firmware(event) => {
            let pmu = &mut own.lock().pmu;
            let is_free = |index: &usize| {
                index.checked_sub(FIRST_FIRMWARE).is_some_and(|place| matches!(pmu.firmware.get(place), Some(None)))
            };
            let index = set.iter().copied().find(is_free)?;
            pmu.firmware[index - FIRST_FIRMWARE] = Some(FirmwareCounter { event, base: 0, counts: false });
            Some(index)
        }
        Selected::Hardware(event) => {
            let assigned = own.lock().pmu.assigned;
            let is_free = |index: &usize| *index < FIRST_FIRMWARE && assigned >> index & 1 == 0;
            let counts_event = |index: &usize| match *index {
                CYCLE => event == Event::Cycles,
                INSTRET => event == Event::Instructions,
                _ => true,
            };
            let programmable = |index: &usize| PROGRAMMABLE.contains(index);
            let free = set.iter().copied().filter(is_free).filter(counts_event);
            // Those without a choice of events have neither filters nor overflow: the last resort.
            let index = free.clone().find(programmable).or_else(|| free.clone().next())?;
            own.lock().pmu.assigned |= 1 << index;
            set_counting(own, hart, index, false);
            if programmable(&index) {
                let filters = [
                    (CounterCfgFlags::SET_MINH, hpmevent::MINH),
                    (CounterCfgFlags::SET_SINH, hpmevent::SINH),
                    (CounterCfgFlags::SET_UINH, hpmevent::UINH),
                ];
                let filter =
                    filters.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |all, (_, bit)| all | bit);
                // Without interrupts until it is started.
                write(hart, csr::MHPMEVENT0 + index as u16, event as u64 | hpmevent::OF | filter);
            }
            Some(index)
        }
    }
}

fn is_assigned(own: &SbiHart, index: usize) -> bool {
    let pmu = &own.lock().pmu;
    match index.checked_sub(FIRST_FIRMWARE) {
        None => pmu.assigned >> index & 1 != 0,
        Some(place) => matches!(pmu.firmware.get(place), Some(Some(_))),
    }
}

fn counts(own: &SbiHart, hart: &mut Hart, index: usize) -> bool {
    match index.checked_sub(FIRST_FIRMWARE) {
        None => read(hart, csr::MCOUNTINHIBIT) >> index & 1 == 0,
        Some(place) => own.lock().pmu.firmware.get(place).copied().flatten().is_some_and(|counter| counter.counts),
    }
}

fn set_counting(own: &SbiHart, hart: &mut Hart, index: usize, counts: bool) {
    match index.checked_sub(FIRST_FIRMWARE) {
        None => {
            let inhibited = read(hart, csr::MCOUNTINHIBIT);
            let bit = 1 << index;
            if counts && PROGRAMMABLE.contains(&index) {
                let event = csr::MHPMEVENT0 + index as u16;
                let value = read(hart, event) & !hpmevent::OF;
                write(hart, event, value);
            }
            write(hart, csr::MCOUNTINHIBIT, if counts { inhibited & !bit } else { inhibited | bit });
        }
        Some(place) => {
            let pmu = &mut own.lock().pmu;
            if let Some(Some(mut counter)) = pmu.firmware.get(place).copied() {
                let value = pmu.value(counter);
                counter.counts = counts;
                counter.base = 0;
                counter.base = value.wrapping_sub(pmu.value(counter));
                pmu.firmware[place] = Some(counter);
            }
        }
    }
}

fn set_value(own: &SbiHart, hart: &mut Hart, index: usize, value: u64) {
    match index.checked_sub(FIRST_FIRMWARE) {
        None => write(hart, csr::MCYCLE + index as u16, value),
        Some(place) => {
            let pmu = &mut own.lock().pmu;
            if let Some(Some(mut counter)) = pmu.firmware.get(place).copied() {
                counter.base = 0;
                counter.base = value.wrapping_sub(pmu.value(counter));
                pmu.firmware[place] = Some(counter);
            }
        }
    }
}

fn start(own: &SbiHart, hart: &mut Hart, [base, mask, flags, initial, ..]: [u64; 6]) -> SbiRet<u64> {
    let Some(flags) = usize::try_from(flags).ok().and_then(CounterStartFlags::from_bits) else {
        return SbiRet::invalid_param();
    };
    if flags.contains(CounterStartFlags::INIT_SNAPSHOT) {
        return SbiRet::no_shmem();
    }
    let Some(set) = counter_set(hart, base, mask) else { return SbiRet::invalid_param() };
    // The others are started where one cannot be.
    let mut result = SbiRet::success(0);
    for index in set {
        if !is_assigned(own, index) {
            result = SbiRet::invalid_param();
        } else if counts(own, hart, index) {
            result = SbiRet::already_started();
        } else {
            if flags.contains(CounterStartFlags::INIT_VALUE) {
                set_value(own, hart, index, initial);
            }
            set_counting(own, hart, index, true);
        }
    }
    result
}

fn stop(own: &SbiHart, hart: &mut Hart, [base, mask, flags, ..]: [u64; 6]) -> SbiRet<u64> {
    let Some(flags) = usize::try_from(flags).ok().and_then(CounterStopFlags::from_bits) else {
        return SbiRet::invalid_param();
    };
    if flags.contains(CounterStopFlags::TAKE_SNAPSHOT) {
        return SbiRet::no_shmem();
    }
    let Some(set) = counter_set(hart, base, mask) else { return SbiRet::invalid_param() };
    let mut result = SbiRet::success(0);
    for index in set {
        if !is_assigned(own, index) {
            result = SbiRet::invalid_param();
            continue;
        }
        if counts(own, hart, index) {
            set_counting(own, hart, index, false);
        } else {
            result = SbiRet::already_stopped();
        }
        if flags.contains(CounterStopFlags::RESET) {
            release(own, hart, index);
        }
    }
    result
}

/// Takes its event from a counter.
fn release(own: &SbiHart, hart: &mut Hart, index: usize) {
    match index.checked_sub(FIRST_FIRMWARE) {
        None => {
            own.lock().pmu.assigned &= !(1 << index);
            if PROGRAMMABLE.contains(&index) {
                write(hart, csr::MHPMEVENT0 + index as u16, 0);
            }
        }
        Some(place) => {
            if let Some(counter) = own.lock().pmu.firmware.get_mut(place) {
                *counter = None;
            }
        }
    }
}

/// Says of each event in a list whether it can be counted (§11.14).
fn events(hart: &Hart, [low, high, count, flags, ..]: [u64; 6]) -> SbiRet<u64> {
    /// An entry has the event's index, the answer (one word each) and the event's data.
    const ENTRY: u64 = 16;
    /// More than there are events.
    const MOST: u64 = 1 << 16;
    if flags != 0 || count == 0 || count > MOST || !low.is_multiple_of(ENTRY) {
        return SbiRet::invalid_param();
    }
    let ram = hart.bus().ram();
    if high != 0 || ram.offset(low, count * ENTRY).is_none() {
        return SbiRet::invalid_address();
    }
    for address in (0..count).map(|index| low + index * ENTRY) {
        let mut bytes = [0; ENTRY as usize];
        if ram.read(address, &mut bytes).is_none() {
            return SbiRet::invalid_address();
        }
        let entry = u128::from_le_bytes(bytes);
        let (event, data) = (entry as u32 & 0xf_ffff, (entry >> 64) as u64);
        let answer = u32::from(Selected::of(event.into(), data).is_some());
        if ram.write(address + 4, &answer.to_le_bytes()).is_none() {
            return SbiRet::invalid_address();
        }
    }
    SbiRet::success(0)
}

fn read(hart: &mut Hart, number: u16) -> u64 {
    as_machine(hart, |hart| hart.read_csr(number).unwrap_or(0))
}

fn write(hart: &mut Hart, number: u16, value: u64) {
    // A counter that the hart lacks is in no set.
    let _ = as_machine(hart, |hart| hart.write_csr(number, value));
}
