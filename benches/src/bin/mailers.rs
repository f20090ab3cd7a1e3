//! What idle mailers take: `mailers PORT CERTIFICATE COUNT` builds that many, then lets each send one message and keep its
//! connection, and prints the memory of the process after each step, as JSON.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::{env, fs};

use smtp_oauth::Chunking;
use smtp_oauth_benches::client::{Failed, Target};
use smtp_oauth_benches::load::Load;

fn main() -> Result<(), Failed> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [port, certificate, count] = &arguments[..] else { return Err("PORT CERTIFICATE COUNT".into()) };
    let target = Target {
        address: (Ipv4Addr::LOCALHOST, port.parse()?).into(),
        root_pem: fs::read_to_string(certificate)?,
    };
    let load = Load::new(1, 2048);
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // What the first one loads for all does not count.
        target.mailer(Chunking::Auto, NonZeroU32::MIN)?.submit_raw(&load.envelope, &load.message).await?;
        let before = resident_kib()?;
        let mut mailers = Vec::with_capacity(count);
        for _ in 0..count {
            mailers.push(target.mailer(Chunking::Auto, NonZeroU32::MIN)?);
        }
        let built = resident_kib()?;
        for mailer in &mailers {
            mailer.submit_raw(&load.envelope, &load.message).await?;
        }
        let connected = resident_kib()?;
        let each = |kib: u64| kib.saturating_sub(before) as f64 / count as f64;
        let figures = serde_json::json!({
            "mailers": count,
            "built_kib_each": each(built),
            "connected_kib_each": each(connected),
        });
        println!("{figures}");
        Ok(())
    })
}

/// Returns the memory this process has now (`VmRSS`).
fn resident_kib() -> Result<u64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
