//! Whole-system tests, conformance programs, benchmarks and fuzz targets
#![forbid(unsafe_code)]

pub mod conformance;
pub mod smp;
