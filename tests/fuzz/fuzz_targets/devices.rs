//! The registers of every device that is not virtio: any access, while time goes on, and states come and go.
#![no_main]

use std::sync::Arc;

use bus::device_tree::Placement;
use bus::{Clock, Device, PowerSwitch, Width};
use devices::aclint::{self, Clint, Sswi};
use devices::backend::memory::MemoryBackend;
use devices::finisher::Finisher;
use devices::plic::{self, Plic};
use devices::rom::Rom;
use devices::rtc::GoldfishRtc;
use devices::uart::Uart;
use fuzz::probes::Lines;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const HARTS: u32 = 3;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Uart,
    Rtc,
    Clint,
    Sswi,
    Plic,
    Finisher,
    Rom,
}

/// A place in the window.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Any(u32),
    /// A register near the start of the window or of one of its parts.
    Register(u8, u8),
    /// The last bytes.
    End(u8),
}

#[derive(Arbitrary, Clone, Debug)]
enum Step {
    Read(Place, u8),
    Write(Place, u8, u64),
    /// Twice the same, since registers toggle.
    Again(Place, u8, u8),
    Advance(u32),
    /// An interrupt source of the PLIC.
    Source(u8, bool),
    TypeIn(Vec<u8>),
    LimitOutput(u16),
    Reset,
    PauseAndResume,
    SaveAndRestore,
    /// The state goes to a fresh device.
    Move,
    /// A state of which a byte has changed.
    Damage(u16, u8),
    Foreign(Vec<u8>),
}

struct Bench {
    device: Arc<dyn Device>,
    plic: Option<Arc<Plic>>,
    lines: Arc<Lines>,
    clock: Clock,
    backend: Arc<MemoryBackend>,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        let (lines, clock, backend) = (Arc::<Lines>::default(), Clock::manual(), MemoryBackend::new());
        let mut plic = None;
        let device: Arc<dyn Device> = match kind {
            Kind::Uart => Uart::new(lines.line(0), backend.clone(), clock.clone()),
            Kind::Rtc => {
                let wall_clock = clock.clone();
                GoldfishRtc::new(lines.line(0), clock.clone(), move || wall_clock.now().wrapping_mul(100))
            }
            Kind::Clint => {
                let hart =
                    |hart| aclint::HartLines { software: lines.line(2 * hart), timer: lines.line(2 * hart + 1) };
                Clint::new(clock.clone(), (0..HARTS).map(hart).collect())
            }
            Kind::Sswi => Arc::new(Sswi::new((0..HARTS).map(|hart| lines.line(hart)).collect())),
            Kind::Plic => {
                let hart =
                    |hart| plic::HartLines { machine: lines.line(2 * hart), supervisor: lines.line(2 * hart + 1) };
                let device = Arc::new(Plic::new(95, (0..HARTS).map(hart).collect()));
                plic = Some(device.clone());
                device
            }
            Kind::Finisher => Arc::new(Finisher::new(PowerSwitch::new(|_| ()))),
            Kind::Rom => Arc::new(Rom::new((0..=255).collect(), 0x1000).expect("it fits")),
        };
        Self { device, plic, lines, clock, backend }
    }

    fn place(&self, place: Place, width: Width) -> u64 {
        let last = self.device.size() - width.bytes();
        let offset = match place {
            Place::Any(offset) => offset.into(),
            Place::Register(part, register) => {
                let parts = [0, 0x80, 0x1000, 0x2000, 0x2080, 0x4000, 0xbff8, 0x20_0000, 0x20_1000, 0x20_5000];
                parts[usize::from(part) % parts.len()] + u64::from(register)
            }
            Place::End(back) => last.saturating_sub(back.into()),
        };
        offset % (last + 1)
    }

    fn read(&self, offset: u64, width: Width) {
        let peeked = self.device.peek(offset, width);
        assert_eq!(self.device.peek(offset, width), peeked, "a second peek differs");
        assert_eq!(self.device.read(offset, width), peeked, "a read differs from a peek");
        assert_eq!(peeked & !width.mask(), 0, "more bits than asked for");
    }
}

fuzz_target!(|input: (Kind, Vec<Step>)| {
    let (kind, steps) = input;
    let mut bench = Bench::new(kind);
    let width = |width: u8| Width::ALL[usize::from(width % 4)];
    for step in steps.into_iter().take(256) {
        let device = &bench.device;
        match step {
            Step::Read(place, w) => bench.read(bench.place(place, width(w)), width(w)),
            Step::Write(place, w, value) => {
                let width = width(w);
                device.write(bench.place(place, width), width, width.zero_extend(value));
            }
            Step::Again(place, w, value) => {
                let width = width(w);
                let offset = bench.place(place, width);
                device.write(offset, width, value.into());
                bench.read(offset, width);
            }
            Step::Advance(ticks) => bench.clock.advance(ticks.into()),
            Step::Source(source, level) => {
                if let Some(plic) = &bench.plic {
                    bus::InterruptSink::set_level(&**plic, source.into(), level);
                }
            }
            Step::TypeIn(bytes) => bench.backend.type_in(&bytes),
            Step::LimitOutput(room) => bench.backend.limit_output(room.into()),
            Step::Reset => device.reset(),
            Step::PauseAndResume => {
                device.pause();
                bench.clock.advance(1000);
                device.resume();
            }
            Step::SaveAndRestore => {
                device.pause();
                let (saved, levels) = (device.save().expect("a state"), bench.lines.levels());
                device.restore(&saved).expect("its own state");
                assert_eq!(device.save().expect("a state"), saved);
                assert_eq!(bench.lines.levels(), levels);
                device.resume();
            }
            Step::Move => {
                device.pause();
                let saved = device.save().expect("a state");
                let fresh = Bench::new(kind);
                fresh.clock.set(bench.clock.now());
                fresh.device.pause();
                fresh.device.restore(&saved).expect("a state of such a device");
                assert_eq!(fresh.device.save().expect("a state"), saved);
                fresh.device.resume();
                bench = fresh;
            }
            Step::Damage(at, value) => {
                device.pause();
                let mut state = device.save().expect("a state");
                if let Some(length) = state.len().checked_sub(1) {
                    state[usize::from(at) % (length + 1)] = value;
                }
                let _ = device.restore(&state);
                device.resume();
            }
            Step::Foreign(state) => {
                device.pause();
                let before = device.save().expect("a state");
                if device.restore(&state).is_err() {
                    assert_eq!(device.save().expect("a state"), before, "a refused state has left a trace");
                }
                device.resume();
            }
        }
    }
    let placement = Placement::default();
    let _ = bench.device.describe(&placement);
});
