//! The token introspection endpoint (RFC 7662) that Dovecot asks about every token: a register of tokens and their accounts.
//! Runs on threads of its own, so that a test may block or use any runtime; speaks just enough HTTP/1.1 for Dovecot.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The tokens that the servers know, and the endpoint that answers for them.
#[derive(Debug)]
pub(crate) struct Tokens {
    port: u16,
    register: Arc<Register>,
}

#[derive(Debug, Default)]
struct Register {
    known: Mutex<HashMap<String, Entry>>,
    asked: Mutex<Vec<String>>,
    unavailable: AtomicBool,
    closed: AtomicBool,
}

#[derive(Clone, Debug)]
struct Entry {
    username: String,
    active: bool,
}

impl Tokens {
    /// Opens the endpoint on a free port of 127.0.0.1.
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("introspection port");
        let port = listener.local_addr().expect("introspection port").port();
        let register = Arc::new(Register::default());
        let shared = Arc::clone(&register);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no failure of the test.
                std::thread::spawn(move || shared.answer(&stream).ok());
            }
        });
        Self { port, register }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes a token good for one account; signing in as another with it is refused.
    pub(crate) fn accept(&self, token: &str, username: &str) {
        let entry = Entry { username: username.into(), active: true };
        self.register.known.lock().unwrap().insert(token.into(), entry);
    }

    /// Lets a token expire: from now on the endpoint calls it inactive, as it calls every token it was never told.
    pub(crate) fn expire(&self, token: &str) {
        if let Some(entry) = self.register.known.lock().unwrap().get_mut(token) {
            entry.active = false;
        }
    }

    /// Makes the endpoint answer 503, or answer again; Dovecot turns that into a bare 535 without a challenge.
    pub(crate) fn unavailable(&self, unavailable: bool) {
        self.register.unavailable.store(unavailable, Ordering::SeqCst);
    }

    /// Every token that Dovecot has asked about, in order: one for each AUTH that reached it whole.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.register.asked.lock().unwrap().clone()
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.register.closed.store(true, Ordering::SeqCst);
        // The listener's thread wakes up to see it.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Register {
    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let token = read_token(stream)?;
        let (status, body) = self.response(&token);
        self.asked.lock().unwrap().push(token);
        let length = body.len();
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        (&*stream).write_all(response.as_bytes())
    }

    fn response(&self, token: &str) -> (&'static str, String) {
        if self.unavailable.load(Ordering::SeqCst) {
            return ("503 Service Unavailable", String::new());
        }
        let body = match self.known.lock().unwrap().get(token) {
            Some(entry) => serde_json::json!({ "active": entry.active, "username": entry.username }),
            None => serde_json::json!({ "active": false }),
        };
        ("200 OK", body.to_string())
    }
}

/// Reads one request and returns the `token` of its form.
fn read_token(stream: &TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let token = url::form_urlencoded::parse(&form).find(|(name, _)| name == "token");
    Ok(token.map(|(_, value)| value.into_owned()).unwrap_or_default())
}
