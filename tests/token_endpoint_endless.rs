//! An answer without end is not read to its end: the client stops after 1 MiB and closes the connection.

use smtp_oauth::testing::FakeEntra;
use smtp_oauth::{TokenErrorKind, TokenProvider, TokenRequest, oauth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;
/// What the server would send.
const ALL: usize = 50 * MIB;
/// 1 MiB is read; the rest is what the buffers of two sockets may hold.
const MOST: usize = 20 * MIB;

/// Answers one request with `head` and spaces; returns how many octets of them the connection took.
async fn stream(mut connection: TcpStream, head: &str) -> usize {
    let mut request = [0; 64 * 1024];
    assert!(connection.read(&mut request).await.unwrap() > 0);
    connection.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b' '; 64 * 1024];
    let mut taken = 0;
    while taken < ALL {
        match connection.write(&piece).await {
            Ok(count) => taken += count,
            Err(_closed) => break,
        }
    }
    taken
}

#[tokio::test]
async fn an_endless_answer_is_left_after_one_mebibyte() {
    let length = format!("content-length: {ALL}");
    // The second is one chunk of 50 MiB, whose length no header tells.
    let chunk = format!("transfer-encoding: chunked\r\n\r\n{ALL:x}");
    for rest in [format!("{length}\r\n\r\n"), format!("{chunk}\r\n"), "connection: close\r\n\r\n".to_owned()]
    {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { stream(listener.accept().await.unwrap().0, &head).await });
        let entra = FakeEntra::start().await;
        let endpoint = url::Url::parse(&format!("http://{address}/token")).unwrap();
        let client = oauth::Client::builder(endpoint, "client-id").build().unwrap();
        let cache = client.refresh_token(entra.store(), ["scope"]);
        let error = cache.token(TokenRequest::new()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        assert_eq!(error.to_string(), "token endpoint answered the refresh token grant with more than 1 MiB");
        let taken = server.await.unwrap();
        assert!(taken < MOST, "{rest:?}: {taken} octets");
    }
}
