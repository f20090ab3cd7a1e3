//! What was measured, as JSON that the tables and plots are made of.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io};

use serde::Serialize;

/// One cell of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub scenario: &'static str,
    pub client: &'static str,
    pub round_trip_ms: u64,
    pub recipients: usize,
    pub octets: usize,
    pub messages: usize,
    pub messages_per_second: f64,
    pub median_us: f64,
    pub p95_us: f64,
    /// Of the client's thread.
    pub cpu_us_per_message: f64,
    /// Opened while this cell was measured.
    pub connections: usize,
}

/// What one client has spent on the messages of one cell.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    pub times: Vec<Duration>,
    /// From start to end; less than the sum of `times` when messages went out side by side.
    pub elapsed: Duration,
    pub cpu: Duration,
}

impl Spent {
    pub fn messages_per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_us_per_message(&self) -> f64 {
        micros(self.cpu) / self.times.len() as f64
    }

    /// Returns the time that a share of the messages took at most.
    ///
    /// # Panics
    /// When there are none.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        micros(times[((times.len() - 1) as f64 * share).round() as usize])
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Writes `content` as JSON to the directory that `FIGURES` names, under `name`; without that variable nowhere.
///
/// # Errors
/// The file cannot be written.
pub fn write(name: &str, content: &impl Serialize) -> io::Result<()> {
    let Some(directory) = env::var_os("FIGURES").map(PathBuf::from) else { return Ok(()) };
    fs::create_dir_all(&directory)?;
    let mut text = serde_json::to_string_pretty(content).map_err(io::Error::other)?;
    text.push('\n');
    fs::write(directory.join(name).with_extension("json"), text)
}
