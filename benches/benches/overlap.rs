//! Batches over one connection whose messages overlap, beside batches that wait for each, at several round trip times.
//!
//! Measured from the first outcome to the last, so that signing in is left out. `--quick` leaves 80 ms out.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use futures_core::Stream;
use lettre::address::Envelope;
use serde::Serialize;
use smtp_oauth::Chunking;
use smtp_oauth_benches::client::{Failed, Target};
use smtp_oauth_benches::load::{KIB, Load};
use smtp_oauth_benches::sink::Sink;
use smtp_oauth_benches::{delay, figure};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 3;

/// How many messages a batch has for each that may be under way; without delay many more, or it is over at once.
const WINDOWS: u32 = 12;
const WINDOWS_NEARBY: u32 = 400;

const CASES: [(Chunking, &str, &[u32]); 2] =
    [(Chunking::Auto, "CHUNKING", &[1, 2, 4, 8, 16, 32]), (Chunking::Off, "DATA", &[1, 2, 8])];

/// One cell of the table: the best of some rounds.
#[derive(Debug, Serialize)]
struct Overlap {
    way: &'static str,
    round_trip_ms: u64,
    overlap: u32,
    messages: usize,
    messages_per_second: f64,
    cpu_us_per_message: f64,
}

struct Messages(VecDeque<(Envelope, Vec<u8>)>);

impl Stream for Messages {
    type Item = (Envelope, Vec<u8>);

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

fn main() -> Result<(), Failed> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let sink = Sink::start(0)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut figures = Vec::new();
    for round_trip_ms in [0, 20, 80].into_iter().filter(|it| *it < 80 || !is_quick) {
        let address = match round_trip_ms {
            0 => sink.address(),
            _ => delay::start(sink.address(), Duration::from_millis(round_trip_ms))?,
        };
        let target = Target::new(&sink, address);
        println!("\n{round_trip_ms} ms, 1 recipient, 2048 octets");
        for (chunking, way, overlaps) in CASES {
            for overlap in overlaps {
                let windows = if round_trip_ms == 0 { WINDOWS_NEARBY } else { WINDOWS };
                let best = (0..ROUNDS)
                    .map(|_| batch(&runtime, &target, chunking, *overlap, overlap * windows))
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .max_by(|one, other| one.0.total_cmp(&other.0));
                let (rate, cpu_us_per_message) = best.ok_or("no round")?;
                println!("  {way:<10}{overlap:>3} at a time {rate:>10.1}/s {cpu_us_per_message:>8.1} us CPU");
                figures.push(Overlap {
                    way,
                    round_trip_ms,
                    overlap: *overlap,
                    messages: usize::try_from(overlap * windows)?,
                    messages_per_second: rate,
                    cpu_us_per_message,
                });
            }
        }
    }
    figure::write("overlap", &figures)?;
    Ok(())
}

/// Sends one batch; returns messages a second, and the processor time of the client's thread for each in microseconds.
fn batch(
    runtime: &Runtime,
    target: &Target,
    chunking: Chunking,
    overlap: u32,
    count: u32,
) -> Result<(f64, f64), Failed> {
    let load = Load::new(1, 2 * KIB);
    let messages = (0..=count).map(|_| (load.envelope.clone(), load.message.clone())).collect();
    let window = NonZeroU32::new(overlap).ok_or("nothing at a time")?;
    runtime.block_on(async {
        let mailer = target.mailer(chunking, NonZeroU32::MIN)?;
        let mut batch = mailer.submit_all(Messages(messages)).overlap(window);
        batch.next().await.ok_or("no message")?.1?;
        let (started, cpu) = (Instant::now(), ThreadTime::now());
        while let Some((_, result)) = batch.next().await {
            result?;
        }
        let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        mailer.close().await;
        Ok((f64::from(count) / elapsed, cpu * 1e6 / f64::from(count)))
    })
}
