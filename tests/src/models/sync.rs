//! loom's primitives in the place of the host's, under the names that the protocols use.
//!
//! loom knows no sequentially consistent accesses, but such fences: an access of that order is one with a fence on
//! either side. [`weaken`] takes from all of them what a protocol may rely on, to see that its model notices.

use std::cell::Cell;
use std::sync::PoisonError as Poison;
use std::time::Duration;

use loom::sync::atomic as under;

pub(crate) use loom::sync::{Condvar, Mutex};
pub(crate) use loom::thread::yield_now;
pub(crate) use std::sync::atomic::Ordering;
pub(crate) type PoisonError<T> = Poison<T>;

/// What the primitives do not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// All is as it should be.
    None,
    /// Sequentially consistent accesses only acquire and release, and such fences do nothing.
    Sequence,
    /// Accesses and fences order nothing.
    Order,
}

thread_local! {
    // All threads of a model are one of the host's.
    static WEAKNESS: Cell<Weakness> = const { Cell::new(Weakness::None) };
}

/// What the primitives do not do from now on, on this thread of the host.
pub(super) fn weaken(weakness: Weakness) {
    WEAKNESS.set(weakness);
}

/// Whether the primitives do less than they should.
pub(super) fn is_weak() -> bool {
    WEAKNESS.get() != Weakness::None
}

pub(crate) fn fence(order: Ordering) {
    if !is_weak() {
        under::fence(order);
    }
}

/// Makes an access of an order that is told the order to use.
fn ordered<T>(order: Ordering, access: impl FnOnce(Ordering) -> T) -> T {
    match WEAKNESS.get() {
        Weakness::Order => access(Ordering::Relaxed),
        Weakness::None if order == Ordering::SeqCst => {
            under::fence(Ordering::SeqCst);
            let value = access(Ordering::AcqRel);
            under::fence(Ordering::SeqCst);
            value
        }
        _ if order == Ordering::SeqCst => access(Ordering::AcqRel),
        _ => access(order),
    }
}

/// The part of a read-modify-write's order that a load has.
fn of_load(order: Ordering) -> Ordering {
    if order == Ordering::AcqRel { Ordering::Acquire } else { order }
}

/// The part of a read-modify-write's order that a store has.
fn of_store(order: Ordering) -> Ordering {
    if order == Ordering::AcqRel { Ordering::Release } else { order }
}

macro_rules! atomics {
    ($($name:ident($t:ty): $($method:ident)*;)+) => {
        $(
            #[derive(Debug)]
            pub(crate) struct $name(under::$name);

            impl $name {
                pub fn new(value: $t) -> Self {
                    Self(under::$name::new(value))
                }

                pub fn load(&self, order: Ordering) -> $t {
                    ordered(order, |order| self.0.load(of_load(order)))
                }

                pub fn store(&self, value: $t, order: Ordering) {
                    ordered(order, |order| self.0.store(value, of_store(order)));
                }

                $(
                    pub fn $method(&self, value: $t, order: Ordering) -> $t {
                        ordered(order, |order| self.0.$method(value, order))
                    }
                )*
            }
        )+
    };
}

atomics! {
    AtomicBool(bool):;
    AtomicU8(u8):;
    AtomicU32(u32): fetch_or fetch_and;
    AtomicU64(u64): fetch_or fetch_and fetch_add;
}

impl AtomicU64 {
    pub fn fetch_update(&self, order: Ordering, _: Ordering, next: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        ordered(order, |order| self.0.fetch_update(order, of_load(order), next))
    }
}

/// A clock by which every wait is long: how long one takes may not decide what a model does.
#[derive(Clone, Copy)]
pub(crate) struct Instant;

impl Instant {
    pub fn now() -> Self {
        Self
    }

    pub fn elapsed(self) -> Duration {
        Duration::MAX
    }
}
