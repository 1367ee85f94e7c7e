//! Whole-system tests, conformance programs, benchmarks and fuzz targets
#![forbid(unsafe_code)]

pub mod conformance;
// Elsewhere loom cannot switch between threads.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod models;
pub mod smp;
