//! A gate before a server: it passes so many octets to the server, then none until it is opened.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub struct Gate {
    port: u16,
    held: watch::Receiver<bool>,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Gate {
    /// Holds the first connection after `octets` to the server; nothing that the server says is held.
    pub async fn start(server: SocketAddr, octets: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hold, held) = watch::channel(false);
        let (open, opened) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut room = octets;
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let room = std::mem::replace(&mut room, usize::MAX);
                connections.spawn(carry(client, server, room, hold.clone(), opened.clone()));
            }
        });
        Self { port, held, open, _tasks: tasks }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until octets are held.
    pub async fn held(&mut self) {
        self.held.wait_for(|held| *held).await.unwrap();
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut room: usize,
    hold: watch::Sender<bool>,
    mut opened: watch::Receiver<bool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move {
        let mut chunk = vec![0; 4096];
        while let Ok(count @ 1..) = from_client.read(&mut chunk).await {
            if count > room {
                hold.send_replace(true);
                if opened.wait_for(|opened| *opened).await.is_err() {
                    return;
                }
                room = usize::MAX;
            }
            room -= count;
            if to_server.write_all(&chunk[..count]).await.is_err() {
                return;
            }
        }
    };
    let down = async move {
        let _end = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::join!(up, down);
}
