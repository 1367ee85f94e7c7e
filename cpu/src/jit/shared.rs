//! What the harts of a machine share: translated regions, the code arena, and the threads that compile.
//!
//! **Validity.** A region remembers the [`Ram::code_version`]s of its pages. It is installed only while they hold, and
//! a write to one of the pages unhooks it ([`CodeListener`]): links to it lead to the engine again and it is found no
//! more. Harts are told by [`crate::event::CODE`] and empty their jump caches. A hart that is inside finishes until its
//! next poll.
//!
//! **Space.** When the arena is full, all code is given up: every hart leaves it, and what is still hot comes back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bus::{CodeListener, PAGE_SIZE, Ram};
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;

use super::arena::{Arena, ArenaError};
use super::baseline;
#[cfg(target_arch = "x86_64")]
use super::baseline::{Parcels, Unit};
use super::gate::{Gate, Presence};
#[cfg(not(target_arch = "x86_64"))]
use super::miss::{MISSES, miss_function};
use super::perf::PerfMap;
use super::queue::Queue;
use super::region::{Page, Region, Request};
use super::state::Site;
use super::translate::{Host, entry_function, hot_function, translate, unlinked_function};
use super::{
    runtime,
    state::{SERVICES, Service},
};
use crate::block::{KeyHasher, Mode};
use crate::hart::Configuration;
#[cfg(target_arch = "x86_64")]
use crate::hart_box::COUNTERS;
use crate::ranges::RANGES;
use crate::{HartShared, event};

/// How code is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitOptions {
    /// How often a block runs, interpreted or as baseline code, before its region is compiled. 1 compiles before the first execution, while the
    /// guest waits.
    pub threshold: u32,
    /// How often a block is interpreted before baseline code is made of it, which goes on counting; `None` for none. 1 makes
    /// it before the first execution, while the guest waits. For x86-64 hosts; with a `threshold` of 1 there is none.
    pub baseline_threshold: Option<u32>,
    /// Most bytes of code.
    pub cache_size: usize,
    /// Threads that compile.
    pub threads: usize,
    /// Whether Linux's perf is told the names of regions.
    pub perf_map: bool,
    /// Whether the interpreter repeats what translated code does, and both have to agree ([`crate::Difference`]). For
    /// machines with one hart.
    pub lockstep: bool,
}

impl Default for JitOptions {
    fn default() -> Self {
        Self {
            threshold: 4000,
            baseline_threshold: Some(200),
            cache_size: 64 << 20,
            threads: 1,
            perf_map: false,
            lockstep: false,
        }
    }
}

/// Why there is no JIT.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// The compiler has no back end for this host.
    #[error("the JIT cannot compile for this host: {0}; use the interpreter instead")]
    Host(String),
    /// No memory for code.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// No thread.
    #[error("the host provides no thread for the JIT's compiler: {0}")]
    Thread(std::io::Error),
}

/// How long the thread that makes baseline code dozes when nothing waits, and how often until it sleeps. To wake a sleeping
/// thread costs a hart about as much as a unit of code; a dozing one finds what has come meanwhile.
const DOZE: Duration = Duration::from_micros(100);
const DOZES: u32 = 30;

/// How long a page of code is left alone after a write that cost a region, at first and at most: each such write doubles
/// it, and a few times as long without one ends it. Who patches code while it starts, or fills a page bit by bit, loses
/// little; who goes on rewriting what runs is interpreted.
const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A translated region, or a unit of baseline code.
pub(crate) struct Installed {
    pub(super) pages: Vec<Page>,
    /// Host address of a region's entry.
    code: u64,
    /// The ways into a unit: their distances from the start of the page, in order, and host addresses.
    entries: Box<[(i64, u64)]>,
    /// What `targets` are distances from, as a distance from the start of the page.
    start: i64,
    /// Offset in RAM of the entry, or of a unit's page.
    key: (u64, Mode),
    /// Words that hold the addresses of other regions or of the way to the engine. A unit's first ones are the ways of
    /// its blocks, in order, to their regions once they are hot.
    links: Box<[AtomicU64]>,
    /// Where each link leads.
    targets: Vec<i64>,
    /// What a unit has beside.
    unit: Option<Counters>,
    /// What the code refers to.
    _sites: Vec<Site>,
}

/// The counters of a unit's blocks.
struct Counters {
    /// Number of the first.
    first: usize,
    /// How often each has run out, of all harts.
    rounds: Box<[AtomicU32]>,
}

impl Installed {
    /// The host's address of the code for a place in its first page.
    fn entry(&self, place: i64) -> Option<u64> {
        if !self.is_unit() {
            return (place == self.start).then_some(self.code);
        }
        let index = self.entries.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.entries.get(index).map(|(_, code)| *code)
    }

    pub(super) fn is_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// How many of its links lead to regions of its own blocks.
    fn hot_links(&self) -> usize {
        self.unit.as_ref().map_or(0, |unit| unit.rounds.len())
    }
}

/// Code that was found.
#[derive(Clone)]
pub(crate) struct FoundCode {
    /// The region or unit.
    pub(super) of: Arc<Installed>,
    /// The host's address of the entry.
    pub(super) code: u64,
    /// The [`Gate::generation`] that it is good for, or an older one.
    pub(super) generation: u64,
}

/// What there is by offset in RAM and mode.
type ByKey<T> = HashMap<(u64, Mode), T, BuildHasherDefault<KeyHasher>>;

/// What the machine's harts have had compiled.
#[derive(Default)]
struct Registry {
    regions: ByKey<Vec<Arc<Installed>>>,
    /// Units by each of their entries, with its address.
    units: ByKey<(Arc<Installed>, u64)>,
    by_page: HashMap<u64, Vec<Arc<Installed>>>,
    /// Regions by the address of their first link.
    by_links: BTreeMap<u64, Arc<Installed>>,
    /// Links that lead to a region or unit, by its address in memory.
    incoming: HashMap<usize, Vec<(Arc<Installed>, usize)>>,
    /// Pages of regions that were lost because code was written.
    rests: HashMap<u64, Rest>,
}

/// When a page has last lost a region, and for how long it is left alone then.
#[derive(Clone, Copy)]
struct Rest {
    since: Instant,
    length: Duration,
}

impl Rest {
    /// The rest after a loss, which may not be the first.
    fn after(before: Option<Self>, now: Instant) -> Self {
        let length = match before {
            Some(Rest { since, length }) if now - since < 8 * length => (2 * length).min(LONGEST_REST),
            _ => SHORTEST_REST,
        };
        Self { since: now, length }
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.since >= self.length
    }
}

/// Which parcels of each page of RAM a block that has run starts at.
#[derive(Default)]
struct Seen(HashMap<u64, [u64; Seen::WORDS]>);

impl Seen {
    const WORDS: usize = PAGE_SIZE as usize / 2 / 64;

    fn place(offset: u64) -> (u64, usize, u64) {
        let parcel = offset % PAGE_SIZE / 2;
        (offset / PAGE_SIZE, (parcel / 64) as usize, 1 << (parcel % 64))
    }

    fn insert(&mut self, offset: u64) {
        let (page, word, bit) = Self::place(offset);
        self.0.entry(page).or_insert([0; Self::WORDS])[word] |= bit;
    }

    fn contains(&self, offset: u64) -> bool {
        let (page, word, bit) = Self::place(offset);
        self.0.get(&page).is_some_and(|words| words[word] & bit != 0)
    }
}

impl Registry {
    /// Makes it be found.
    fn add(&mut self, installed: &Arc<Installed>) {
        let (offset, mode) = installed.key;
        if installed.is_unit() {
            for (place, code) in &installed.entries {
                self.units.insert((offset + *place as u64, mode), (installed.clone(), *code));
            }
        } else {
            self.regions.entry(installed.key).or_default().push(installed.clone());
        }
    }

    /// Makes it be found no more.
    fn remove(&mut self, installed: &Arc<Installed>) {
        let (offset, mode) = installed.key;
        if installed.is_unit() {
            for (place, _) in &installed.entries {
                let key = (offset + *place as u64, mode);
                if self.units.get(&key).is_some_and(|(other, _)| Arc::ptr_eq(other, installed)) {
                    self.units.remove(&key);
                }
            }
        } else if let Some(regions) = self.regions.get_mut(&installed.key) {
            regions.retain(|other| !Arc::ptr_eq(other, installed));
        }
    }

    /// Whether it is found.
    fn has(&self, installed: &Arc<Installed>) -> bool {
        let (offset, mode) = installed.key;
        match installed.entries.first() {
            Some((place, _)) => {
                let found = self.units.get(&(offset + *place as u64, mode));
                found.is_some_and(|(other, _)| Arc::ptr_eq(other, installed))
            }
            None => {
                let found = |other: &Arc<Installed>| Arc::ptr_eq(other, installed);
                self.regions.get(&installed.key).is_some_and(|others| others.iter().any(found))
            }
        }
    }

    /// Whose a link is, and its number there.
    fn owner(&self, link: u64) -> Option<(Arc<Installed>, usize)> {
        let (base, from) = self.by_links.range(..=link).next_back()?;
        Some((from.clone(), ((link - base) / 8) as usize))
    }
}

/// Counts of what the compiler did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompilerStatistics {
    /// Regions compiled.
    pub regions: u64,
    /// Guest instructions in them.
    pub instructions: u64,
    /// Bytes of code made.
    pub code_bytes: u64,
    /// Time spent compiling, in nanoseconds.
    pub nanoseconds: u64,
    /// Regions given up because their code was written.
    pub invalidated: u64,
    /// Times that all code was given up because the arena was full.
    pub flushes: u64,
    /// Regions that the compiler refused.
    pub failed: u64,
    /// Units of baseline code compiled.
    pub units: u64,
    /// Guest instructions in them.
    pub unit_instructions: u64,
    /// Bytes of code made for them.
    pub unit_bytes: u64,
    /// Time spent for them, in nanoseconds.
    pub unit_nanoseconds: u64,
    /// Range entries (`ranges.rs`) that regions have now; where none are left, accesses go by the TLB.
    pub ranges: usize,
}

struct Inner {
    ram: Ram,
    configuration: Configuration,
    options: JitOptions,
    /// For regions without floating point: optimised. The optimiser treats floating-point operations as free of
    /// effects, so that their flags would get lost.
    optimising: OwnedTargetIsa,
    plain: OwnedTargetIsa,
    host: Host,
    arena: Mutex<Arena>,
    registry: Mutex<Registry>,
    seen: Mutex<Seen>,
    queue: Mutex<Queue>,
    /// What waits for baseline code.
    unit_queue: Mutex<Units>,
    unit_wake: Condvar,
    /// Whether the threads are to end.
    closed: AtomicBool,
    wake: Condvar,
    /// Counts installations: who found nothing need not look again before it changes.
    installs: AtomicU64,
    gate: Gate,
    /// Range entries that are taken.
    ranges: Mutex<Numbers>,
    harts: Mutex<Vec<(Weak<Presence>, Weak<HartShared>)>>,
    entry: AtomicU64,
    unlinked: AtomicU64,
    hot: AtomicU64,
    /// Services that are translated code themselves.
    routines: Mutex<Vec<(Service, u64)>>,
    statistics: Mutex<CompilerStatistics>,
    perf_map: Option<PerfMap>,
    #[cfg(test)]
    mistake: Mutex<Option<fn(&mut Region)>>,
}

/// What waits for baseline code.
#[derive(Default)]
struct Units {
    queue: Queue,
    /// Whether the thread that makes it has to be woken.
    sleeps: bool,
}

/// The numbers of range entries that regions have.
#[derive(Default)]
struct Numbers {
    /// Counts the times that all were free again.
    round: u64,
    taken: usize,
    /// Counters of baseline code that are taken.
    counters: usize,
}

/// The translated code of a machine, and the threads that make it.
pub struct JitShared {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn target(level: &str) -> Result<OwnedTargetIsa, JitError> {
    let error = |error: &dyn std::fmt::Display| JitError::Host(error.to_string());
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", level),
        // Tail calls between regions ask for it.
        ("preserve_frame_pointers", "true"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        // Regions do not unwind, and their addresses are no pointers of the host's language.
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        ("is_pic", "false"),
    ] {
        flags.set(name, value).map_err(|e| error(&e))?;
    }
    let builder = cranelift_native::builder().map_err(|e| error(&e))?;
    builder.finish(settings::Flags::new(flags)).map_err(|e| error(&e))
}

/// Has the calling thread come after the harts' where there are not processors enough for all: these have baseline code
/// to run meanwhile.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        /// About a tenth of what a hart gets.
        const NICE: i32 = 10;
        // There, the priority of a process without a name is the calling thread's.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the compiler competes with the harts");
        }
    }
}

/// Makes one function's code; `None` if the compiler refuses it or it refers to anything by address.
fn compile(function: Function, isa: &OwnedTargetIsa) -> Option<Vec<u8>> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut context = Context::for_function(function);
        match context.compile(&**isa, &mut ControlPlane::default()) {
            Ok(code) if code.buffer.relocs().is_empty() => Some(code.code_buffer().to_vec()),
            Ok(_) => {
                tracing::debug!("translated code has relocations");
                None
            }
            Err(error) => {
                tracing::debug!(error = ?error.inner, "the compiler refuses a region");
                None
            }
        }
    }))
    .ok()
    .flatten()
}

impl JitShared {
    /// Prepares translation for the harts of a machine, which all have this configuration.
    ///
    /// # Errors
    /// This host has no back end, no executable memory or no threads for it.
    pub fn new(ram: &Ram, configuration: &Configuration, options: JitOptions) -> Result<Arc<Self>, JitError> {
        let has_baseline = baseline::is_supported() && options.threshold != 1;
        let options = JitOptions { baseline_threshold: options.baseline_threshold.filter(|_| has_baseline), ..options };
        let plain = target("none")?;
        let has = |name: &str| plain.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true));
        let x86 = cfg!(target_arch = "x86_64");
        let host = Host {
            floats: x86,
            fused: x86 && has("has_fma"),
            misaligned: x86,
            total_store_order: x86,
            ram: ram.host_base() as u64,
            logs: options.lockstep,
        };
        let arena = Arena::new(options.cache_size.next_multiple_of(PAGE_SIZE as usize))?;
        let inner = Arc::new(Inner {
            ram: ram.clone(),
            configuration: configuration.clone(),
            optimising: target("speed")?,
            plain,
            host,
            arena: Mutex::new(arena),
            registry: Mutex::default(),
            seen: Mutex::default(),
            queue: Mutex::default(),
            unit_queue: Mutex::default(),
            unit_wake: Condvar::new(),
            closed: AtomicBool::new(false),
            wake: Condvar::new(),
            installs: AtomicU64::new(1),
            gate: Gate::new(),
            ranges: Mutex::default(),
            harts: Mutex::default(),
            entry: AtomicU64::new(0),
            unlinked: AtomicU64::new(0),
            hot: AtomicU64::new(0),
            routines: Mutex::default(),
            statistics: Mutex::default(),
            perf_map: options.perf_map.then(PerfMap::new).flatten(),
            #[cfg(test)]
            mistake: Mutex::default(),
            options,
        });
        inner.place_stubs(&mut lock(&inner.arena))?;
        let listener: Arc<dyn CodeListener> = inner.clone();
        ram.add_code_listener(Arc::downgrade(&listener));
        let count = if inner.options.threshold == 1 { 0 } else { inner.options.threads.max(1) };
        let mut threads = Vec::with_capacity(count);
        if inner.options.baseline_threshold.is_some_and(|threshold| threshold > 1) && count > 0 {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name("baseline".into());
            threads.push(thread.spawn(move || inner.compile_units()).map_err(JitError::Thread)?);
        }
        for number in 0..count {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name(format!("compiler {number}"));
            threads.push(thread.spawn(move || inner.compile_requests()).map_err(JitError::Thread)?);
        }
        Ok(Arc::new(Self { inner, threads }))
    }

    /// Has regions translated wrongly from now on.
    #[cfg(test)]
    pub(super) fn set_mistake(&self, mistake: fn(&mut Region)) {
        *lock(&self.inner.mistake) = Some(mistake);
    }

    /// What the compiler did.
    pub fn statistics(&self) -> CompilerStatistics {
        CompilerStatistics { ranges: lock(&self.inner.ranges).taken, ..*lock(&self.inner.statistics) }
    }

    pub(super) fn options(&self) -> &JitOptions {
        &self.inner.options
    }

    /// Adds a hart.
    pub(super) fn join(&self, hart: &Arc<HartShared>) -> Arc<Presence> {
        let presence = Arc::new(Presence::new());
        let mut harts = lock(&self.inner.harts);
        harts.retain(|(presence, _)| presence.strong_count() > 0);
        harts.push((Arc::downgrade(&presence), Arc::downgrade(hart)));
        presence
    }

    /// Address of the code that enters a region.
    pub(super) fn entry(&self) -> u64 {
        self.inner.entry.load(Ordering::Acquire)
    }

    /// The functions that translated code calls.
    pub(super) fn services(&self) -> [u64; SERVICES] {
        let Inner { unlinked, routines, .. } = &*self.inner;
        let unlinked = (Service::Unlinked, unlinked.load(Ordering::Acquire));
        runtime::services(lock(routines).iter().copied().chain([unlinked]))
    }

    /// How many regions have been installed.
    #[inline]
    pub(super) fn installs(&self) -> u64 {
        self.inner.installs.load(Ordering::Acquire)
    }

    /// The way into translated code.
    #[inline]
    pub(super) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// The code for an offset in RAM in a mode: a region if there is one, else a unit's.
    pub(super) fn find(&self, offset: u64, mode: Mode, mut valid: impl FnMut(&Installed) -> bool) -> Option<FoundCode> {
        // Read before the search, so that what is found is not taken for alive after it was given up.
        let generation = self.inner.gate.generation();
        let (first, unit) = {
            let registry = lock(&self.inner.registry);
            let key = (offset, mode);
            (registry.regions.get(&key).and_then(|regions| regions.first()).cloned(), registry.units.get(&key).cloned())
        };
        let found = |of: Arc<Installed>, code| Some(FoundCode { of, code, generation });
        if let Some(region) = first {
            if valid(&region) {
                let code = region.code;
                return found(region, code);
            }
            if let Some(other) = self.find_region(offset, mode, &mut valid) {
                return Some(other);
            }
        }
        let (unit, code) = unit?;
        if valid(&unit) { found(unit, code) } else { None }
    }

    /// The region that starts at an offset in RAM in a mode.
    pub(super) fn find_region(
        &self,
        offset: u64,
        mode: Mode,
        mut valid: impl FnMut(&Installed) -> bool,
    ) -> Option<FoundCode> {
        let generation = self.inner.gate.generation();
        // One at a time, for whether a region is valid is not asked under the lock.
        let candidate = |number| lock(&self.inner.registry).regions.get(&(offset, mode))?.get(number).cloned();
        let of = (0..).map_while(candidate).find(|region| valid(region))?;
        Some(FoundCode { code: of.code, of, generation })
    }

    /// Has a link lead to code that was found, if whoever may use the link may enter that: its pages are among those of
    /// the link's own region.
    pub(super) fn link(&self, link: u64, to: &FoundCode) {
        let mut registry = lock(&self.inner.registry);
        let Some((from, index)) = registry.owner(link) else { return };
        let FoundCode { of: to, code, .. } = to;
        let Some(target) = from.targets.get(index) else { return };
        let place = from.start + target;
        let shift = place.div_euclid(PAGE_SIZE as i64);
        let covered = to.pages.iter().all(|page| {
            from.pages.iter().any(|own| own.distance == page.distance + shift && own.offset == page.offset)
        });
        if covered && registry.has(to) && to.entry(place.rem_euclid(PAGE_SIZE as i64)) == Some(*code) {
            from.links[index].store(*code, Ordering::Release);
            registry.incoming.entry(Arc::as_ptr(to) as usize).or_default().push((from, index));
        }
    }

    /// The counter of the block whose way to its region is the link, and how often it has run out, this time included.
    pub(super) fn counter(&self, link: u64) -> Option<(usize, u32)> {
        let (from, index) = lock(&self.inner.registry).owner(link)?;
        let unit = from.unit.as_ref()?;
        let rounds = unit.rounds.get(index)?.fetch_add(1, Ordering::Relaxed);
        Some((unit.first + index, rounds.saturating_add(1)))
    }

    /// Whether the page at an offset in RAM has not just been written to.
    pub(super) fn is_at_rest(&self, offset: u64) -> bool {
        lock(&self.inner.registry).rests.get(&(offset / PAGE_SIZE)).is_none_or(|rest| rest.is_over(Instant::now()))
    }

    /// Notes the offsets in RAM of blocks that have run.
    pub(super) fn note_seen(&self, offsets: impl Iterator<Item = u64>) {
        let mut seen = lock(&self.inner.seen);
        offsets.for_each(|offset| seen.insert(offset));
    }

    /// Asks for a region.
    pub(super) fn request(&self, request: Request, heat: u32) {
        if lock(&self.inner.queue).push(request, heat) {
            self.inner.wake.notify_one();
        }
    }

    /// Asks for baseline code.
    pub(super) fn request_unit(&self, request: Request, heat: u32) {
        let mut waiting = lock(&self.inner.unit_queue);
        waiting.queue.push(request, heat);
        if waiting.sleeps {
            self.inner.unit_wake.notify_one();
        }
    }

    /// Compiles a region while the caller waits.
    pub(super) fn compile_now(&self, request: &Request) {
        self.inner.compile_request(request, &mut FunctionBuilderContext::new());
    }

    /// Makes baseline code while the caller waits.
    pub(super) fn compile_unit_now(&self, request: &Request) {
        self.inner.compile_unit(request);
    }
}

impl Drop for JitShared {
    fn drop(&mut self) {
        {
            // Under the lock, or a thread that has just looked would go to sleep and miss the call.
            let _queue = lock(&self.inner.queue);
            self.inner.closed.store(true, Ordering::Release);
        }
        {
            let _queue = lock(&self.inner.unit_queue);
        }
        self.inner.wake.notify_all();
        self.inner.unit_wake.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a compiler thread has panicked");
            }
        }
    }
}

impl Inner {
    fn place_stubs(&self, arena: &mut Arena) -> Result<(), JitError> {
        let mut context = FunctionBuilderContext::new();
        let isa = &*self.optimising;
        let functions = [
            (entry_function(isa, &mut context), &self.entry),
            (unlinked_function(isa, &mut context), &self.unlinked),
            (hot_function(isa, &mut context), &self.hot),
        ];
        for (function, address) in functions {
            let placed = compile(function, &self.optimising).and_then(|code| arena.place(&code));
            let placed = placed.ok_or_else(|| JitError::Host("its entry code does not compile".into()))?;
            address.store(placed, Ordering::Release);
        }
        #[cfg(target_arch = "x86_64")]
        let routines = baseline::routines(self.host.logs).into_iter().map(|(service, code)| (service, Some(code)));
        #[cfg(not(target_arch = "x86_64"))]
        let routines = MISSES.into_iter().map(|service| {
            let function = miss_function(isa, &mut context, service, self.host.logs);
            (service, compile(function, &self.optimising))
        });
        let place = |(service, code): (Service, Option<Vec<u8>>)| Some((service, arena.place(&code?)?));
        let placed = routines.map(place).collect::<Option<_>>();
        *lock(&self.routines) = placed.ok_or_else(|| JitError::Host("its routines do not fit".into()))?;
        Ok(())
    }

    /// The next request, when there is one; `None` if the thread is to end.
    fn next_request(&self) -> Option<Request> {
        let mut queue = lock(&self.queue);
        loop {
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            if let Some(request) = queue.pop() {
                return Some(request);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compile_requests(&self) {
        give_way();
        let mut context = FunctionBuilderContext::new();
        while let Some(request) = self.next_request() {
            let known = lock(&self.registry).regions.get(&(request.offset, request.mode)).cloned();
            let same = |region: &Arc<Installed>| {
                region.pages.iter().all(|page| {
                    request.pages.get((page.distance + super::region::NEIGHBOURS as i64) as usize)
                        == Some(&Some(page.offset))
                })
            };
            if known.is_none_or(|regions| !regions.iter().any(same)) {
                self.compile_request(&request, &mut context);
            }
        }
    }

    fn compile_units(&self) {
        let mut dozes = 0;
        while !self.closed.load(Ordering::Acquire) {
            let mut waiting = lock(&self.unit_queue);
            if let Some(request) = waiting.queue.pop() {
                drop(waiting);
                self.compile_unit(&request);
                dozes = 0;
            } else if dozes < DOZES {
                drop(waiting);
                dozes += 1;
                std::thread::sleep(DOZE);
            } else {
                waiting.sleeps = true;
                let mut waiting = self.unit_wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                waiting.sleeps = false;
                dozes = 0;
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn compile_unit(&self, _: &Request) {}

    #[cfg(target_arch = "x86_64")]
    fn compile_unit(&self, request: &Request) {
        let start = Instant::now();
        let generation = self.gate.generation();
        let place = request.offset % PAGE_SIZE;
        let page = request.offset - place;
        let mut taken = Parcels::none();
        for installed in lock(&self.registry).by_page.get(&(page / PAGE_SIZE)).into_iter().flatten() {
            if installed.key.1 == request.mode {
                installed.entries.iter().for_each(|(entry, _)| taken.insert(*entry));
            }
        }
        if taken.contains(place as i64) {
            return;
        }
        let is_blind = self.options.baseline_threshold == Some(1);
        let unit = {
            let seen = lock(&self.seen);
            let is_seen = |offset| is_blind || seen.contains(offset);
            let extensions = &self.configuration.extensions;
            Unit::grow(&self.ram, extensions, self.aligned(), (request.offset, request.mode), is_seen, &taken)
        };
        let Some(unit) = unit else { return };
        let blocks = unit.blocks();
        let Some(counters) = self.take_counters(blocks) else { return self.empty(generation) };
        let (unlinked, hot) = (self.unlinked.load(Ordering::Acquire), self.hot.load(Ordering::Acquire));
        let way = |index| AtomicU64::new(if index < blocks { hot } else { unlinked });
        let links: Box<[AtomicU64]> = (0..3 * blocks).map(way).collect();
        let base = links.as_ptr() as u64;
        let compiled = catch_unwind(AssertUnwindSafe(|| baseline::compile(&unit, base, counters, self.host.logs)));
        let Ok(compiled) = compiled else {
            lock(&self.statistics).failed += 1;
            return;
        };
        let Some(address) = lock(&self.arena).place(&compiled.code) else {
            self.empty(generation);
            return;
        };
        if let Some(perf_map) = &self.perf_map {
            perf_map.add("baseline", address, compiled.code.len(), self.ram.base() + request.offset);
        }
        {
            let mut statistics = lock(&self.statistics);
            statistics.units += 1;
            statistics.unit_instructions += unit.length() as u64;
            statistics.unit_bytes += compiled.code.len() as u64;
            statistics.unit_nanoseconds += start.elapsed().as_nanos() as u64;
        }
        let starts = compiled.entries.iter().map(|(start, _)| *start);
        let targets = starts.chain(compiled.links).collect();
        let entries = compiled.entries.iter().map(|(start, distance)| (*start, address + u64::from(*distance)));
        let installed = Arc::new(Installed {
            pages: vec![unit.page],
            code: address,
            entries: entries.collect(),
            start: 0,
            key: (page, request.mode),
            links,
            targets,
            unit: Some(Counters { first: counters, rounds: (0..blocks).map(|_| AtomicU32::new(0)).collect() }),
            _sites: compiled.sites,
        });
        self.install(&installed, generation);
    }

    /// The lowest bits of an instruction's address, which are zero.
    fn aligned(&self) -> u64 {
        if self.configuration.extensions.contains(crate::extension::Extension::Zca) { 1 } else { 3 }
    }

    /// Numbers of counters for a unit's blocks: the first. Where there are not so many, all code has to go, as where there is no
    /// room for it.
    #[cfg(target_arch = "x86_64")]
    fn take_counters(&self, count: usize) -> Option<usize> {
        let mut numbers = lock(&self.ranges);
        let first = numbers.counters;
        if first + count > COUNTERS {
            return None;
        }
        numbers.counters += count;
        Some(first)
    }

    fn compile_request(&self, request: &Request, context: &mut FunctionBuilderContext) {
        let start = Instant::now();
        // What is made from here on refers to the stubs of this generation, and to its numbers of range entries.
        let generation = self.gate.generation();
        // What has never run is not worth compiling; where nothing runs before it is compiled, nobody knows.
        let is_blind = self.options.threshold == 1;
        let region = {
            let seen = lock(&self.seen);
            let is_seen = |offset| is_blind || seen.contains(offset);
            Region::grow(&self.ram, &self.configuration.extensions, self.aligned(), request, is_seen)
        };
        let Some(region) = region else { return };
        #[cfg(test)]
        let region = self.with_mistake(region);
        let (round, ranges) = self.take_ranges(region.ranges());
        let mut registry_links: Vec<AtomicU64> = Vec::new();
        registry_links.resize_with(2 * region.blocks.len(), || AtomicU64::new(self.unlinked.load(Ordering::Acquire)));
        let links = registry_links.into_boxed_slice();
        let isa = if region.floats { &self.plain } else { &self.optimising };
        let base = links.as_ptr() as u64;
        let translated = catch_unwind(AssertUnwindSafe(|| {
            translate(&region, &**isa, self.host, request.mode, base, ranges, context)
        }));
        let code = match translated {
            Ok(translation) => {
                self.give_back(round, translation.ranges);
                compile(translation.function, isa).map(|code| (code, translation.links, translation.sites))
            }
            Err(_) => {
                *context = FunctionBuilderContext::new();
                None
            }
        };
        let Some((code, targets, sites)) = code else {
            lock(&self.statistics).failed += 1;
            return;
        };
        let placed = lock(&self.arena).place(&code);
        let Some(address) = placed else {
            self.empty(generation);
            return;
        };
        if let Some(perf_map) = &self.perf_map {
            perf_map.add("guest", address, code.len(), self.ram.base() + request.offset);
        }
        {
            let mut statistics = lock(&self.statistics);
            statistics.regions += 1;
            statistics.instructions += region.length as u64;
            statistics.code_bytes += code.len() as u64;
            statistics.nanoseconds += start.elapsed().as_nanos() as u64;
        }
        let start = (request.offset % PAGE_SIZE) as i64;
        let installed = Arc::new(Installed {
            pages: region.pages,
            code: address,
            entries: Box::default(),
            start,
            key: (request.offset, request.mode),
            links,
            targets,
            unit: None,
            _sites: sites,
        });
        self.install(&installed, generation);
    }

    #[cfg(test)]
    fn with_mistake(&self, mut region: Region) -> Region {
        if let Some(mistake) = *lock(&self.mistake) {
            mistake(&mut region);
        }
        region
    }

    /// Numbers of range entries for a region's accesses, and the round that they are good for.
    fn take_ranges(&self, count: usize) -> (u64, std::ops::Range<usize>) {
        let mut numbers = lock(&self.ranges);
        let first = numbers.taken;
        numbers.taken = (first + count).min(RANGES);
        (numbers.round, first..numbers.taken)
    }

    /// Gives numbers back that have not been used, if they were the last that were taken.
    fn give_back(&self, round: u64, unused: std::ops::Range<usize>) {
        let mut numbers = lock(&self.ranges);
        if (numbers.round, numbers.taken) == (round, unused.end) {
            numbers.taken = unused.start;
        }
    }

    fn install(&self, region: &Arc<Installed>, generation: u64) {
        let mut registry = lock(&self.registry);
        // A write that comes later finds the region in the registry.
        let fresh = region.pages.iter().all(|page| self.ram.code_version(page.offset) == page.version);
        if !fresh || self.gate.generation() != generation {
            return;
        }
        registry.add(region);
        for page in &region.pages {
            registry.by_page.entry(page.offset / PAGE_SIZE).or_default().push(region.clone());
        }
        registry.by_links.insert(region.links.as_ptr() as u64, region.clone());
        drop(registry);
        self.installs.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives all code of a generation up: waits until every hart has left it, and lets them in again. A hart that waits
    /// for another does so outside of translated code, so that this ends.
    fn empty(&self, generation: u64) {
        let mut arena = lock(&self.arena);
        if self.gate.generation() != generation {
            // Somebody else has done it.
            return;
        }
        self.gate.close();
        let harts = lock(&self.harts).clone();
        for (presence, hart) in harts {
            while presence.upgrade().is_some_and(|presence| presence.is_inside()) {
                if let Some(hart) = hart.upgrade() {
                    hart.raise(event::CODE);
                }
                std::thread::yield_now();
            }
        }
        let mut registry = lock(&self.registry);
        registry.regions.clear();
        registry.units.clear();
        registry.by_page.clear();
        registry.by_links.clear();
        registry.incoming.clear();
        arena.clear();
        let mut numbers = lock(&self.ranges);
        *numbers = Numbers { round: numbers.round + 1, taken: 0, counters: 0 };
        drop(numbers);
        // The arena held them before.
        if let Err(error) = self.place_stubs(&mut arena) {
            tracing::error!(%error, "the JIT's arena is too small");
        }
        // Under both locks: what is placed or installed from now on is told from what was translated before.
        self.gate.begin_generation();
        drop((registry, arena));
        lock(&self.statistics).flushes += 1;
        self.installs.fetch_add(1, Ordering::AcqRel);
        self.gate.open();
    }
}

impl CodeListener for Inner {
    fn code_changed(&self, page: u64) {
        let mut registry = lock(&self.registry);
        let Some(stale) = registry.by_page.remove(&(page / PAGE_SIZE)) else { return };
        let (unlinked, hot) = (self.unlinked.load(Ordering::Acquire), self.hot.load(Ordering::Acquire));
        let now = Instant::now();
        // Where the regions start: some only reach into the page.
        let starts: HashSet<u64> = stale.iter().map(|region| region.key.0 / PAGE_SIZE).collect();
        for start in starts {
            let rest = Rest::after(registry.rests.get(&start).copied(), now);
            registry.rests.insert(start, rest);
        }
        for region in &stale {
            for (from, index) in registry.incoming.remove(&(Arc::as_ptr(region) as usize)).into_iter().flatten() {
                let way = if index < from.hot_links() { hot } else { unlinked };
                from.links[index].store(way, Ordering::Release);
            }
            registry.remove(region);
        }
        drop(registry);
        lock(&self.statistics).invalidated += stale.len() as u64;
    }
}
