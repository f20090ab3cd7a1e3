//! A line with a delay before a server: every octet arrives half a round trip later, in both directions, and nothing else
//! holds it up. It always reads, so its bandwidth has no limit.
//!
//! Threads that sleep, because tokio's timer has a resolution of a millisecond. A connection begins one and a half round
//! trips late, which is what TCP's handshake takes until the server can speak.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a line to `server` and returns where it begins; it runs as long as the process.
///
/// # Errors
/// No port is free.
pub fn start(server: SocketAddr, round_trip: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that fails is the client's to notice.
            thread::spawn(move || drop(connect(client, server, round_trip)));
        }
    });
    Ok(address)
}

fn connect(client: TcpStream, server: SocketAddr, round_trip: Duration) -> io::Result<()> {
    thread::sleep(round_trip * 3 / 2);
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    carry(client.try_clone()?, server.try_clone()?, round_trip / 2);
    carry(server, client, round_trip / 2);
    Ok(())
}

/// Carries one direction: one thread reads, another writes what is due.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (arrived, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if arrived.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((when, octets)) = due.recv() {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&octets).is_err() {
                break;
            }
        }
        // The other side may have closed already.
        drop(to.shutdown(Shutdown::Write));
    });
}
