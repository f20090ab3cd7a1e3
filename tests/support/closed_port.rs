//! A port of this machine that refuses every connection for as long as a test needs that.

use tokio::net::TcpSocket;

/// Bound and not listened on: a connection is refused, and nobody else is given the port meanwhile.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}
