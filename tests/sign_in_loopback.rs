//! Signing in from a desktop program: the port that the browser comes back to, and who is let in.

use std::time::Duration;

use smtp_oauth::oauth::LoopbackSignIn;
use smtp_oauth::testing::{FakeEntra, ManualClock};
use smtp_oauth::{MemoryStore, TokenErrorKind, TokenStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

struct Desktop {
    manual: ManualClock,
    entra: FakeEntra,
    url: Url,
    port: u16,
}

async fn start() -> (Desktop, LoopbackSignIn) {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).token_length(100).public_client().start().await;
    let app = entra.app().build().unwrap();
    let sign_in = app.authorization_code("http://localhost".parse().unwrap()).listen().await.unwrap();
    let url = sign_in.url().clone();
    let redirect = query(&url, "redirect_uri");
    let port = redirect.strip_prefix("http://localhost:").unwrap().parse().unwrap();
    (Desktop { manual, entra, url, port }, sign_in)
}

impl Desktop {
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        // The far side may close before it has read everything.
        let _written = stream.write_all(bytes).await;
        let mut response = Vec::new();
        let _read = stream.read_to_end(&mut response).await;
        String::from_utf8(response).unwrap()
    }

    async fn get(&self, target: &str) -> String {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", self.port).as_bytes()).await
    }
}

fn query(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[tokio::test]
async fn the_browser_comes_back_once_and_the_port_is_closed() {
    let (desktop, sign_in) = start().await;
    let store = MemoryStore::new();
    let callback = desktop.entra.approve(&desktop.url);
    let (signed_in, page) = tokio::join!(sign_in.finish(store.clone()), desktop.entra.browse(&callback));
    assert_eq!(signed_in.unwrap().account(), Some("svc-mail@contoso.com"));
    assert!(store.load().await.unwrap().is_some());
    let page = page.unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("<html lang=\"en\">"), "{page}");
    assert!(page.contains("Sign-in received") && page.contains("default-src 'none'"), "{page}");
    for secret in [query(&callback, "code"), query(&callback, "state")] {
        assert!(!page.contains(&secret), "{page}");
    }
    assert!(TcpStream::connect(("127.0.0.1", desktop.port)).await.is_err());
    assert_eq!(
        desktop.entra.received()[0].parameter("redirect_uri"),
        format!("http://localhost:{}", desktop.port)
    );
}

#[tokio::test]
async fn other_requests_are_answered_and_do_not_end_the_wait() {
    let (desktop, sign_in) = start().await;
    let store = MemoryStore::new();
    let callback = desktop.entra.approve(&desktop.url);
    let browser = async {
        let target = callback[url::Position::BeforePath..].to_owned();
        let cases = [
            ("/favicon.ico".to_owned(), "404"),
            ("/".to_owned(), "404"),
            (format!("/other{}", target.trim_start_matches('/')), "404"),
            ("/?code=stolen&state=wrong".to_owned(), "400"),
            ("/?error=access_denied".to_owned(), "400"),
            (format!("{target}&state=again"), "400"),
            (format!("{target}&code=again"), "400"),
        ];
        for (target, status) in cases {
            let page = desktop.get(&target).await;
            assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {page}");
            assert!(!page.contains("stolen"), "{page}");
        }
        for bytes in [
            format!("POST {target} HTTP/1.1\r\n\r\n").into_bytes(),
            b"\xff\xfe\r\n\r\n".to_vec(),
            b"GET\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat_n(b'a', 70_000)).collect(),
        ] {
            let page = desktop.send(&bytes).await;
            assert!(page.is_empty() || page.starts_with("HTTP/1.1 400"), "{page}");
        }
        // One that says nothing does not stand in the way.
        let silent = TcpStream::connect(("127.0.0.1", desktop.port)).await.unwrap();
        let page = desktop.get(&target).await;
        drop(silent);
        page
    };
    let (signed_in, page) = tokio::join!(sign_in.finish(store.clone()), browser);
    signed_in.unwrap();
    assert!(page.contains("Sign-in received"));
    assert_eq!(desktop.entra.requests(), 1);
}

#[tokio::test]
async fn a_person_who_declines_ends_the_wait() {
    let (desktop, sign_in) = start().await;
    let callback = desktop.entra.deny(&desktop.url);
    let store = MemoryStore::new();
    let (result, page) = tokio::join!(sign_in.finish(store.clone()), desktop.entra.browse(&callback));
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "sign-in was refused (AADSTS65004)");
    assert!(page.unwrap().contains("Not signed in"));
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_deadline() {
    let (desktop, sign_in) = start().await;
    let store = MemoryStore::new();
    let finish = sign_in.deadline(Duration::from_secs(90)).finish(store.clone());
    let error = desktop.manual.advance_until(Duration::from_secs(10), finish).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "nobody signed in within 90 seconds: start again");
    assert!(TcpStream::connect(("127.0.0.1", desktop.port)).await.is_err());
}

#[tokio::test]
async fn dropping_the_sign_in_closes_the_port() {
    let (desktop, sign_in) = start().await;
    assert!(TcpStream::connect(("127.0.0.1", desktop.port)).await.is_ok());
    let shown = format!("{sign_in:?}");
    assert!(!shown.contains(&query(&desktop.url, "state")), "{shown}");
    drop(sign_in);
    assert!(TcpStream::connect(("127.0.0.1", desktop.port)).await.is_err());
}

#[tokio::test]
async fn a_registered_path_is_kept_to_the_letter() {
    let entra = FakeEntra::builder().public_client().redirect("http://localhost/Signed-In").start().await;
    let app = entra.app().build().unwrap();
    let redirect = "http://localhost/Signed-In".parse().unwrap();
    let sign_in = app.authorization_code(redirect).listen().await.unwrap();
    let callback = entra.approve(sign_in.url());
    let store = MemoryStore::new();
    let (signed_in, page) = tokio::join!(sign_in.finish(store.clone()), entra.browse(&callback));
    signed_in.unwrap();
    assert!(page.unwrap().contains("Sign-in received"));
}

#[tokio::test]
async fn only_this_machine_can_be_listened_on() {
    let entra = FakeEntra::start().await;
    let app = entra.app().build().unwrap();
    for redirect in ["https://localhost", "http://app.contoso.com", "http://[::1]", "http://localhost/?x=1"] {
        let error = app.authorization_code(redirect.parse().unwrap()).listen().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Configuration, "{redirect}");
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirect = format!("http://localhost:{}", taken.local_addr().unwrap().port());
    let error = app.authorization_code(redirect.parse().unwrap()).listen().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_futures_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    fn is_public<T: Send + Sync + std::fmt::Debug>() {}
    fn check(sign_in: LoopbackSignIn, store: &MemoryStore) {
        is_send(&sign_in.finish(store.clone()));
    }
    let _check = check;
    is_public::<LoopbackSignIn>();
}
