//! How long commands take.

use std::time::Instant;

/// The times of commands.
pub(super) struct Profile {
    /// When timing began.
    pub origin: Instant,
    /// Operation, start and duration in seconds, for each command.
    pub times: Vec<f64>,
}

impl Profile {
    /// Begins now.
    pub fn start() -> Self {
        Profile {
            origin: Instant::now(),
            times: Vec::new(),
        }
    }

    /// Notes a command and returns its number.
    pub fn add(&mut self, operation: usize) -> usize {
        self.times.extend([operation as f64, 0.0, 0.0]);
        self.times.len() / 3 - 1
    }

    /// Adds to the time of a command.
    pub fn spend(&mut self, command: usize, start: f64, seconds: f64) {
        if let Some([_, begin, duration]) = self.times.get_mut(3 * command..3 * command + 3) {
            if *duration == 0.0 {
                *begin = start;
            }
            *duration += seconds;
        }
    }
}
