//! A proxy that cuts a connection after a given number of octets, or at a given TLS record.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both sides are closed.
    Close,
    /// Nothing passes any more, in either direction, until the client closes.
    Stall,
    /// The same, and nothing more is read: what the client writes stays with it. It has given up when it connects again.
    Deaf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// After exactly so many octets.
    After(usize),
    /// At the end of a TLS record, counted from 0, or so many octets beside it.
    Record { record: usize, beside: isize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub direction: Direction,
    pub place: Where,
    pub how: How,
}

/// What passed over the first connection.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
    pub records_to_server: usize,
    pub records_to_client: usize,
}

/// Passes octets on; cuts the first connection and leaves later ones alone.
pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    flow: watch::Receiver<Flow>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on at once but for the cut.
    pub async fn start(server: SocketAddr, cut: Option<Cut>) -> Self {
        Self::open(server, cut, 16 * 1024).await
    }

    /// Takes so little at a time that the client's kernel soon takes no more of what is written.
    pub async fn narrow(server: SocketAddr, cut: Option<Cut>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2 * 1024).unwrap();
        // Small segments make Linux begin with a small send buffer.
        #[cfg(unix)]
        socket2::SockRef::from(&socket).set_tcp_mss(88).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self::serve(socket.listen(16).unwrap(), server, cut, 1024)
    }

    /// Passes a few octets at a time, so that whoever reads is woken for each.
    pub async fn trickle(server: SocketAddr, octets: usize) -> Self {
        Self::open(server, None, octets).await
    }

    async fn open(server: SocketAddr, cut: Option<Cut>, piece: usize) -> Self {
        Self::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), server, cut, piece)
    }

    fn serve(listener: TcpListener, server: SocketAddr, cut: Option<Cut>, piece: usize) -> Self {
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Seen>>::default();
        let (stall, flow) = watch::channel(Flow::Passes);
        let task = tokio::spawn(accept(listener, server, cut, piece, seen.clone(), stall));
        Self { port, seen, flow, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until nothing passes any more; for ever if that does not come.
    pub async fn stalled(&self) {
        self.flow(|flow| flow != Flow::Passes).await;
    }

    /// Waits until the client has closed the connection over which nothing passes any more.
    pub async fn given_up(&self) {
        self.flow(|flow| flow == Flow::GivenUp).await;
    }

    async fn flow(&self, wanted: impl Fn(Flow) -> bool) {
        if self.flow.clone().wait_for(|flow| wanted(*flow)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    mut cut: Option<Cut>,
    piece: usize,
    seen: Arc<Mutex<Seen>>,
    stall: watch::Sender<Flow>,
) {
    let mut connections = tokio::task::JoinSet::new();
    let mut first = true;
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if *stall.borrow() == Flow::Stalled {
            stall.send_replace(Flow::GivenUp);
        }
        let server = TcpStream::connect(server).await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let seen = std::mem::take(&mut first).then(|| seen.clone());
        connections.spawn(carry([client, server], cut.take(), piece, seen, stall.clone()));
    }
}

async fn carry(
    [client, server]: [TcpStream; 2],
    cut: Option<Cut>,
    piece: usize,
    seen: Option<Arc<Mutex<Seen>>>,
    stall: watch::Sender<Flow>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let limit = |direction| cut.filter(|cut| cut.direction == direction).map(|cut| cut.place);
    let up = Pipe::new(limit(Direction::ToServer), piece, seen.clone(), Direction::ToServer);
    let down = Pipe::new(limit(Direction::ToClient), piece, seen, Direction::ToClient);
    let cut_here = {
        let mut up = std::pin::pin!(up.run(&mut from_client, &mut to_server));
        let mut down = std::pin::pin!(down.run(&mut from_server, &mut to_client));
        tokio::select! {
            biased;
            end = &mut up => end,
            end = &mut down => end,
        }
    };
    let Some(Cut { how, .. }) = cut.filter(|_| cut_here == End::Cut) else { return };
    match how {
        How::Close => {}
        How::Stall => {
            stall.send_replace(Flow::Stalled);
            let mut rest = [0; 4096];
            while from_client.read(&mut rest).await.is_ok_and(|count| count > 0) {}
            stall.send_replace(Flow::GivenUp);
        }
        How::Deaf => {
            stall.send_replace(Flow::Stalled);
            let _ = stall.subscribe().wait_for(|flow| *flow == Flow::GivenUp).await;
        }
    }
}

/// Whether octets pass over the connection that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Passes,
    Stalled,
    GivenUp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Cut,
}

/// One direction.
struct Pipe {
    cut: Option<Where>,
    /// The most octets passed on at a time.
    piece: usize,
    seen: Option<Arc<Mutex<Seen>>>,
    direction: Direction,
    passed: usize,
    records: Records,
}

impl Pipe {
    fn new(cut: Option<Where>, piece: usize, seen: Option<Arc<Mutex<Seen>>>, direction: Direction) -> Self {
        Self { cut, piece, seen, direction, passed: 0, records: Records::default() }
    }

    async fn run(mut self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> End {
        let mut chunk = vec![0; self.piece];
        loop {
            if self.limit() == Some(self.passed) {
                return End::Cut;
            }
            let Ok(count @ 1..) = from.read(&mut chunk).await else { return End::Closed };
            self.records.read(&chunk[..count]);
            let room = self.limit().map_or(count, |limit| count.min(limit - self.passed));
            self.passed += room;
            // Noted first: whoever has got the octets finds them here.
            self.note(&chunk[..room]);
            if to.write_all(&chunk[..room]).await.is_err() {
                return End::Closed;
            }
            tokio::task::yield_now().await;
            if room < count {
                return End::Cut;
            }
        }
    }

    fn limit(&self) -> Option<usize> {
        match self.cut? {
            Where::After(octets) => Some(octets),
            Where::Record { record, beside } => self.records.ends.get(record)?.checked_add_signed(beside),
        }
    }

    fn note(&self, octets: &[u8]) {
        let Some(seen) = &self.seen else { return };
        let mut seen = seen.lock().unwrap();
        match self.direction {
            Direction::ToServer => {
                seen.to_server.extend_from_slice(octets);
                seen.records_to_server = self.records.ends.len();
            }
            Direction::ToClient => {
                seen.to_client.extend_from_slice(octets);
                seen.records_to_client = self.records.ends.len();
            }
        }
    }
}

/// Where the TLS records of a direction end (RFC 8446 §5.1); known as soon as a header is.
#[derive(Default)]
struct Records {
    read: usize,
    header: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn read(&mut self, octets: &[u8]) {
        for octet in octets {
            if self.ends.last().is_none_or(|end| self.read >= *end) {
                self.header.push(*octet);
                if let [_, _, _, high, low] = self.header[..] {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    self.ends.push(self.read + 1 + length);
                    self.header.clear();
                }
            }
            self.read += 1;
        }
    }
}
