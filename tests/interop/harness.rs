//! The servers themselves: each port advertises what its name says, or the other tests would prove less than they seem to.
//! Asks by hand and tests none of our client.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::{Limits, Servers, Service};

/// Says EHLO, in the clear, and returns what is advertised, sorted.
fn advertised(servers: &Servers, service: Service) -> Vec<String> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, servers.port(service))).expect("connection");
    let mut lines =
        BufReader::new(tcp.try_clone().expect("connection")).lines().map(|line| line.expect("reply"));
    assert_eq!(lines.next().as_deref(), Some("220 mail.example.test ESMTP Postfix"));
    tcp.write_all(b"EHLO client.test\r\n").expect("EHLO");
    assert_eq!(lines.next().as_deref(), Some("250-mail.example.test"));
    let mut found = Vec::new();
    for line in lines {
        let (code, keyword) = line.split_at(4);
        found.push(keyword.to_owned());
        if code == "250 " {
            break;
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn each_port_advertises_its_own_extensions() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let always = ["VRFY", "ETRN", "STARTTLS", "8BITMIME"];
    let usual = ["SIZE 1048576", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8"];
    for (service, more, only) in [
        (Service::Submission, &usual[..], &["PIPELINING", "CHUNKING"][..]),
        (Service::NoPipelining, &usual, &[]),
        (Service::NoChunking, &usual, &["PIPELINING"]),
        (Service::Minimal, &[], &["CHUNKING"]),
    ] {
        let mut expected: Vec<_> = always.iter().chain(more).chain(only).copied().collect();
        expected.sort_unstable();
        assert_eq!(advertised(&servers, service), expected, "{service:?}");
    }
}
