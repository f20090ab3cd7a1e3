//! One client as a process of its own: `send CLIENT PORT CERTIFICATE RECIPIENTS OCTETS MESSAGES` sends one message to a
//! [`sink`](smtp_oauth_benches::sink) and then so many over the same connection, one after the other; prints how long these
//! took and how much memory the process had at its peak, as JSON.

use std::net::Ipv4Addr;
use std::time::Instant;
use std::{env, fs};

use smtp_oauth_benches::client::{Client, Failed, Kind, Target};
use smtp_oauth_benches::load::Load;

fn main() -> Result<(), Failed> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [client, port, certificate, recipients, octets, messages] = &arguments[..] else {
        return Err("CLIENT PORT CERTIFICATE RECIPIENTS OCTETS MESSAGES".into());
    };
    let kind = match &client[..] {
        "chunking" => Kind::Chunking,
        "data" => Kind::Data,
        "lettre" => Kind::Lettre,
        "lettre-no-delay" => Kind::LettreNoDelay,
        "mail-send" => Kind::MailSend,
        "canned" => Kind::Ceiling,
        other => return Err(format!("no client {other}").into()),
    };
    let target = Target {
        address: (Ipv4Addr::LOCALHOST, port.parse()?).into(),
        root_pem: fs::read_to_string(certificate)?,
    };
    let load = Load::new(recipients.parse()?, octets.parse()?);
    let messages: usize = messages.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let elapsed = runtime.block_on(async {
        let mut client = Client::new(kind, &target)?;
        client.send(&load).await?;
        let started = Instant::now();
        for _ in 0..messages {
            // lettre's pool takes a connection back in a task of its own, which needs a turn.
            tokio::task::yield_now().await;
            client.send(&load).await?;
        }
        Ok::<_, Failed>(started.elapsed())
    })?;
    let figures = serde_json::json!({
        "client": kind.name(),
        "messages": messages,
        "seconds": elapsed.as_secs_f64(),
        "peak_kib": peak_kib()?,
    });
    println!("{figures}");
    Ok(())
}

/// Returns the most memory this process has had (`VmHWM`).
fn peak_kib() -> Result<u64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
