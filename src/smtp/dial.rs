//! Resolves the name, and opens a TCP connection to the first of several addresses that answers (RFC 8305): one that is silent holds nobody up.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::connection::Endpoint;
use super::failure::{Cause, Failure};
use super::phase::Phase;
use crate::clock::{Clock, Moment};
use crate::config::Tls;
use crate::observe;

/// RFC 8305 §5: how long an attempt is ahead of the next one.
const AHEAD: Duration = Duration::from_millis(250);

/// Resolves the name and connects to the first address that answers.
pub(super) async fn connect(endpoint: &Endpoint, deadline: Moment) -> Result<TcpStream, Failure> {
    let Endpoint { config, clock, .. } = endpoint;
    let limit = config.timeouts().connect();
    let started = clock.moment();
    let until = started.after(limit).min(deadline);
    let timeout = |phase| endpoint.late(phase, limit, deadline);
    let resolving = async {
        clock
            .until(until, tokio::net::lookup_host((config.host(), config.port())))
            .await
            .map_err(|_| timeout(Phase::Resolve))?
            .map_err(|error| Failure::new(Phase::Resolve, Cause::Network(error)))
    };
    let span = observe::connection::phase(Phase::Resolve.name());
    let addresses = span.note(span.run(resolving).await, Failure::name)?.collect::<Vec<_>>();
    endpoint.note(Phase::Resolve, started);
    endpoint.observer.note(|facts| facts.addresses.clone_from(&addresses));
    if config.tls() == Tls::LoopbackPlaintext && !addresses.iter().all(|address| address.ip().is_loopback()) {
        // The settings allow it for a server on this machine, and the resolver says that `localhost` is another.
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name is not of this machine");
        return Err(Failure::new(Phase::Connect, Cause::Network(error)));
    }
    let started = clock.moment();
    let connecting = async {
        clock
            .until(until, dial(clock, &addresses))
            .await
            .map_err(|_| timeout(Phase::Connect))?
            .map_err(|error| Failure::new(Phase::Connect, Cause::Network(error)))
    };
    let span = observe::connection::phase(Phase::Connect.name());
    let tcp = span.note(span.run(connecting).await, Failure::name)?;
    // A pipelined group goes out in one write and must not wait for the acknowledgement of the one before.
    tcp.set_nodelay(true).map_err(|error| Failure::new(Phase::Connect, Cause::Network(error)))?;
    endpoint.note(Phase::Connect, started);
    Ok(tcp)
}

/// Connects; the caller has the deadline.
///
/// # Cancellation
/// A dropped future closes whatever was opened.
async fn dial(clock: &Clock, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = interleaved(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = rest.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            biased;
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(connection))) => return Ok(connection),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = clock.sleep(AHEAD), if rest.len() > 0 => {}
        }
    }
}

/// Takes one address of each family in turn, beginning with the resolver's first choice (RFC 8305 §4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == preferred);
    let mut order = Vec::with_capacity(addresses.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while order.len() < addresses.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;
    use crate::config::MailServerConfig;
    use crate::tls::TlsSettings;

    #[test]
    fn families_take_turns() {
        let parse =
            |text: &str| text.split(' ').map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = parse("[::1]:1 [::2]:1 [::3]:1 127.0.0.1:1 127.0.0.2:1");
        assert_eq!(interleaved(&given), parse("[::1]:1 127.0.0.1:1 [::2]:1 127.0.0.2:1 [::3]:1"));
    }

    #[tokio::test]
    async fn a_write_does_not_wait_for_the_acknowledgement_of_the_one_before() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = MailServerConfig::builder()
            .host("127.0.0.1")
            .port(server.local_addr().unwrap().port())
            .tls(Tls::LoopbackPlaintext)
            .username("svc-mail@contoso.com")
            .build()
            .unwrap();
        let clock = Clock::system();
        let deadline = clock.moment().after(Duration::from_secs(30));
        let tls = TlsSettings::new().client_config().unwrap();
        let connection = connect(&Endpoint::new(config, tls, clock), deadline).await.unwrap();
        assert!(connection.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_silent_address_does_not_keep_the_next_from_answering() {
        // A full backlog does not answer: connections beyond it wait.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(0).unwrap();
        let silent_address = silent.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(connection)) =
            tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(silent_address)).await
        {
            held.push(connection);
        }
        let healthy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent_address, healthy.local_addr().unwrap()];
        let connection = dial(&Clock::system(), &addresses).await.unwrap();
        assert_eq!(connection.peer_addr().unwrap(), addresses[1]);
    }

    #[tokio::test]
    async fn a_refused_address_gives_way_at_once_and_the_last_error_is_told() {
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = closed.local_addr().unwrap();
        let healthy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = dial(&Clock::system(), &[closed, healthy.local_addr().unwrap()]).await.unwrap();
        assert_eq!(connection.peer_addr().unwrap(), healthy.local_addr().unwrap());
        let error = dial(&Clock::system(), &[closed]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(dial(&Clock::system(), &[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
