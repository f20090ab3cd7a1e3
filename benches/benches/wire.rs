//! What the octets cost before and after the network: SASL responses, replies, line ends and dots. Opens no socket.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use secrecy::SecretString;
use smtp::content::Content;
use smtp::sasl::{Credentials, Mechanism, responses};
use smtp::stream::GuardedStream;
use tokio::io::{AsyncRead, ReadBuf, join, sink};

/// The crate's own files: these are not public, and need no more of the crate than each other.
#[allow(dead_code, reason = "not all of them is measured")]
#[path = "../../src/smtp"]
mod smtp {
    mod capabilities;
    pub(super) mod content;
    mod failure;
    mod phase;
    mod reply;
    pub(super) mod sasl;
    pub(super) mod stream;
}

/// A server that says one reply again and again.
struct Says(&'static [u8]);

impl AsyncRead for Says {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        out.put_slice(self.0);
        Poll::Ready(Ok(()))
    }
}

fn sasl(criterion: &mut Criterion) {
    let token = SecretString::from("x".repeat(1800));
    let credentials = Credentials::Bearer { token: &token, host: "smtp.office365.com", port: 587 };
    for mechanism in [Mechanism::XOAuth2, Mechanism::OAuthBearer] {
        criterion.bench_function(
            &format!("{} response, token of 1,800 octets", mechanism.name()),
            |bencher| {
                bencher
                    .iter(|| responses(mechanism, black_box("svc-mail@contoso.com"), black_box(credentials)));
            },
        );
    }
}

fn replies(criterion: &mut Criterion) {
    let cases: [(&str, &[u8]); 3] = [
        ("reply, one line", b"250 2.1.0 Sender OK\r\n"),
        (
            "reply, a refusal",
            b"535 5.7.3 Authentication unsuccessful [FR3P281CA0076.DEUP281.PROD.OUTLOOK.COM 2026-11-23T10:00:00.000Z 08DE1]\r\n",
        ),
        (
            "reply to EHLO, nine lines",
            b"250-FR3P281CA0076.outlook.office365.com Hello [203.0.113.7]\r\n250-SIZE 157286400\r\n250-PIPELINING\r\n\
              250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH LOGIN XOAUTH2\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250 CHUNKING\r\n",
        ),
    ];
    for (name, reply) in cases {
        let mut stream =
            GuardedStream::new(Box::new(join(Says(reply), sink())), ([127, 0, 0, 1], 587).into());
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| match pin!(stream.reply()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reply) => reply.expect("a reply"),
                Poll::Pending => unreachable!("it is there at once"),
            });
        });
    }
}

fn content(criterion: &mut Criterion) {
    // Lines as MIME parts in base64 have them, one in ten with a dot to double.
    let lines =
        (0..1280).map(|number| [if number % 10 == 0 { "." } else { "x" }, &"x".repeat(75), "\r\n"].concat());
    let message = lines.collect::<String>().into_bytes();
    let mut out = Vec::new();
    let mut fill = |name, stuffs: bool| {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let content = Content::new(black_box(&message));
                let mut octets = if stuffs { content.dotted() } else { content.plain() };
                octets.fill(&mut out, usize::MAX)
            });
        });
    };
    fill("100 KB made ready for BDAT", false);
    fill("100 KB made ready for DATA", true);
}

criterion_group!(wire, sasl, replies, content);
criterion_main!(wire);
