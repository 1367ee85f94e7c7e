//! What the fuzz targets share: a machine around one hart, and a disk and lines that check how they are used.

pub mod machine;
pub mod probes;
