//! Whole-system tests, conformance programs, benchmarks and fuzz targets
