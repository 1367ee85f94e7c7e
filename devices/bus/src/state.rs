//! Serialised device state.

use serde::{Serialize, de::DeserializeOwned};

/// Why a state could not be saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state did not serialise.
    #[error("state of {device}: cannot be saved: {source}")]
    Save {
        /// Name of the device.
        device: String,
        /// The cause.
        source: postcard::Error,
    },
    /// The bytes are not a state of this device.
    #[error("state of {device}: the saved bytes are damaged or of another version: {source}")]
    Restore {
        /// Name of the device.
        device: String,
        /// The cause.
        source: postcard::Error,
    },
    /// The state is well-formed but does not fit this machine.
    #[error("state of {device}: {reason}")]
    Mismatch {
        /// Name of the device.
        device: String,
        /// What does not fit.
        reason: String,
    },
}

/// Serialises the `state` of `device`.
pub fn save<T: Serialize>(device: &str, state: &T) -> Result<Vec<u8>, StateError> {
    postcard::to_stdvec(state).map_err(|source| StateError::Save { device: device.into(), source })
}

/// Reads back what [`save`] made; all bytes must be used.
pub fn restore<T: DeserializeOwned>(device: &str, bytes: &[u8]) -> Result<T, StateError> {
    let wrong = |source| StateError::Restore { device: device.into(), source };
    let (state, rest) = postcard::take_from_bytes(bytes).map_err(wrong)?;
    if rest.is_empty() { Ok(state) } else { Err(wrong(postcard::Error::DeserializeBadEncoding)) }
}
