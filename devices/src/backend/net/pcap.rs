//! A capture of a cable's frames in the pcap format (draft-ietf-opsawg-pcap), nanosecond resolution, that Wireshark
//! reads.
//!
//! Each record is one write to the file, so that the file ends with a whole frame whenever the process does. A frame
//! that is to be segmented is captured whole, as it is on a host whose card does that.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Frame, NetworkBackend};
use crate::backend::Ready;
use crate::lock;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// More than the largest frame.
const SNAP_LENGTH: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

/// The capture file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("capture file {}: {reason}; choose a place that can be written", path.display())]
pub struct CaptureError {
    path: PathBuf,
    reason: io::Error,
}

/// A network whose frames are written to a file as they pass.
pub struct Capture {
    network: Arc<dyn NetworkBackend>,
    path: PathBuf,
    /// Nothing once a write has failed: a file with a hole is worse than one that ends early.
    file: Mutex<Option<File>>,
}

impl Capture {
    /// Captures what passes to and from `network`. An existing file is overwritten.
    pub fn new(network: Arc<dyn NetworkBackend>, path: &Path) -> Result<Arc<Self>, CaptureError> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_NANOSECONDS.to_le_bytes());
        header.extend([2u16, 4].map(u16::to_le_bytes).concat());
        header.extend([0, 0, SNAP_LENGTH, LINKTYPE_ETHERNET].map(u32::to_le_bytes).concat());
        let create = || {
            let mut file = File::create(path)?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(|reason| CaptureError { path: path.into(), reason })?;
        Ok(Arc::new(Self { network, path: path.into(), file: Mutex::new(Some(file)) }))
    }

    fn record(&self, frame: &Frame) {
        let mut file = lock(&self.file);
        let Some(open) = &mut *file else { return };
        // Under the lock, so that time stamps are in order.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = frame.bytes.len() as u32;
        let mut record = Vec::with_capacity(16 + frame.bytes.len());
        // The seconds are an unsigned number of 32 bits until 2106.
        record.extend([time.as_secs() as u32, time.subsec_nanos(), length, length].map(u32::to_le_bytes).concat());
        record.extend_from_slice(&frame.bytes);
        if let Err(error) = open.write_all(&record) {
            tracing::warn!("capture file {}: {error}; the capture ends here", self.path.display());
            *file = None;
        }
    }
}

impl NetworkBackend for Capture {
    fn offloads(&self) -> bool {
        self.network.offloads()
    }

    fn mtu(&self) -> u16 {
        self.network.mtu()
    }

    fn send(&self, frame: Frame) -> Result<(), Frame> {
        let copy = frame.clone();
        self.network.send(frame)?;
        self.record(&copy);
        Ok(())
    }

    fn receive(&self) -> Option<Frame> {
        let frame = self.network.receive()?;
        self.record(&frame);
        Some(frame)
    }

    fn attach(&self, ready: Ready) {
        self.network.attach(ready);
    }

    fn call(&self) {
        self.network.call();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Link;
    use super::*;

    #[test]
    fn every_frame_is_in_the_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture.pcap");
        let (link, mut end) = Link::new(1500, || {});
        let capture = Capture::new(link, &path).unwrap();
        capture.send(Frame { bytes: vec![1; 60], ..Frame::default() }).unwrap();
        end.send(Frame { bytes: vec![2; 65535], ..Frame::default() });
        assert_eq!(capture.receive().unwrap().bytes.len(), 65535);
        // The capture is still open: this is what a kill would leave.
        let file = std::fs::read(&path).unwrap();
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(4), word(16), word(20)], [0xa1b2_3c4d, 0x0004_0002, 262_144, 1]);
        assert_eq!([word(32), word(36)], [60, 60]);
        assert!(file[40..100] == [1; 60]);
        assert_eq!([word(108), word(112)], [65535, 65535]);
        assert!(file[116..] == vec![2; 65535]);
        assert!((word(100), word(104)) >= (word(24), word(28)), "time does not go back");
        assert!(word(28) < 1_000_000_000);
    }

    #[test]
    fn a_refused_frame_is_captured_once_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture.pcap");
        let (link, mut end) = Link::new(1500, || {});
        let capture = Capture::new(link, &path).unwrap();
        let frame = || Frame { bytes: vec![0; 84], ..Frame::default() };
        let sent = (0..5000).take_while(|_| capture.send(frame()).is_ok()).count();
        assert!(sent < 5000);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 24 + 100 * sent as u64);
        while end.receive().is_some() {}
        capture.send(frame()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 24 + 100 * (sent as u64 + 1));
        assert!(Capture::new(capture, folder.path()).is_err());
    }
}
