//! The console behind DBCN and the legacy calls.

/// Where the guest's debug console leads: the same place as the board's first UART. Neither method blocks.
pub trait Console: Send + Sync {
    /// Takes bytes from the guest; returns how many of the first ones it took.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Gives input that has arrived to the guest; returns how many bytes it put into `bytes`, from its start on.
    fn read(&self, bytes: &mut [u8]) -> usize;
}
