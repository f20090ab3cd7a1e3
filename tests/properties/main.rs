//! Whatever a server, a person or a file says: the same properties that the fuzzer in `tests/fuzz` checks, on random inputs
//! that look like the real thing, and on every input that once broke one.

mod answer;
mod callback;
mod discovery;
mod message;
mod patience;
mod server;
mod session;
mod settings;
mod token_endpoint;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

/// Octets that a failing test shows as text.
struct Shown(Vec<u8>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Replies that servers give, and what looks like one.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        8 => prop::sample::select(vec!["220", "221", "235", "250", "334", "354", "421", "451", "452", "500", "502", "503", "535", "550", "552", "554"]),
        1 => prop::sample::select(vec!["000", "199", "299", "600", "999", "+25", "25", "2500", ""]),
    ];
    let separator = prop::sample::select(vec![" ", " ", " ", "-", "", "\t"]);
    let usual = vec![
        "OK",
        "2.0.0 OK <1@mail.example>",
        "5.7.3 Authentication unsuccessful",
        "4.7.66 TLS",
        "5.7.139 SmtpClientAuthentication is disabled for the Tenant",
        "4.5.3 Too many recipients",
        "4.3.2 Concurrent connections limit exceeded",
        "eyJzdGF0dXMiOiI0MDEifQ==",
        session::PASSWORD,
        session::TOKEN,
        "SIZE 10",
        "AUTH XOAUTH2",
        "CHUNKING",
    ];
    let text = prop_oneof![
        4 => prop::sample::select(usual).prop_map(str::to_owned),
        1 => prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
    ];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "", "\r\n250 OK\r\n"]);
    (code, separator, text, end)
        .prop_map(|(code, separator, text, end)| format!("{code}{separator}{text}{end}").into_bytes())
}

fn step() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop_oneof![6 => reply(), 1 => prop::collection::vec(reply(), 2..4).prop_map(|lines| lines.concat()), 1 => prop::collection::vec(any::<u8>(), 0..20)];
    let then = prop_oneof![10 => Just(""), 1 => Just("!"), 1 => Just("?"), 1 => Just("!=")];
    prop_oneof![
        12 => Just(Vec::new()),
        4 => (then, lines).prop_map(|(then, lines)| [then.as_bytes(), &lines].concat()),
    ]
}

/// Inputs that fail are kept by hand, among those of the fuzzer.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

/// Letters that mean something to whoever reads an address, a header or a form.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "name", "example", "com", "contoso", "x1"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["\r\n", "\n", "\r", ">", "<", " ", "\"", "\\", "@", ".", "ü", "+", "=", "&", "%0d%0a", "\u{7f}", "\0"]).prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..6).prop_map(|pieces| pieces.concat())
}

/// JSON of any shape under keys that mean something.
fn json(
    keys: &'static [&'static str],
    texts: &'static [&'static str],
) -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..70_000).prop_map(Value::from),
        text().prop_map(Value::from),
        prop::sample::select(texts).prop_map(Value::from),
        prop::sample::select(texts).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 12, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            5 => prop::collection::vec((prop::sample::select(keys), inner), 0..12)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

const TOKEN_KEYS: &[&str] = &[
    "access_token",
    "token_type",
    "expires_in",
    "refresh_token",
    "scope",
    "id_token",
    "error",
    "error_description",
    "error_codes",
    "suberror",
    "correlation_id",
    "claims",
    "device_code",
    "user_code",
    "verification_uri",
    "verification_uri_complete",
    "interval",
    "message",
];
const TOKEN_TEXTS: &[&str] = &[
    "Bearer",
    "mail",
    "invalid_grant",
    "authorization_pending",
    "slow_down",
    "AADSTS70008: expired",
    "3600",
    token_endpoint::REFRESH_TOKEN,
    token_endpoint::CLIENT_SECRET,
    "https://login.example/device",
    "http://evil.example",
    "e30.eyJhdWQiOiJhcHAiLCJub25jZSI6Im5vbmNlLW9mLXRoaXMtc2lnbi1pbiJ9.c2ln",
];
const DISCOVERY_KEYS: &[&str] = &[
    "issuer",
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "token_endpoint_auth_methods_supported",
];
const DISCOVERY_TEXTS: &[&str] = &[
    "https://login.example",
    "https://login.example/",
    "https://login.example/realms/mail",
    "http://127.0.0.1:8080/",
    "https://login.microsoftonline.com/{tenantid}/v2.0",
    "https://login.example/token",
    "http://login.example/token",
    "https://127.0.0.1/token",
    "https://user:password@login.example/token",
    "https://[::1]/",
    "file:///etc/passwd",
];
const SETTINGS_KEYS: &[&str] = &[
    "server",
    "authentication",
    "profile",
    "cloud",
    "host",
    "port",
    "tls",
    "minimum_tls",
    "root_certificates",
    "trust_platform_roots",
    "sender",
    "test_recipient",
    "username",
    "timeouts",
    "hello_name",
    "max_connections",
    "chunking",
    "initial_response",
    "refresh_margin",
    "limits",
    "reuse",
    "method",
    "tenant",
    "client_id",
    "client_secret",
    "client_secret_expires",
    "authority",
    "grant",
    "token_store",
    "password",
    "env",
    "file",
    "total",
];
const SETTINGS_TEXTS: &[&str] = &[
    "office365",
    "custom",
    "oauth",
    "basic",
    "svc-mail@contoso.com",
    "contoso.onmicrosoft.com",
    "common",
    "8f2c1d1e-0000-0000-0000-000000000000",
    "smtp.office365.com",
    "localhost",
    "587",
    "starttls",
    "implicit",
    "none",
    "30s",
    "1h 30m",
    "999999999999999999999s",
    "auto",
    "off",
    "2027-06-30",
    "client_credentials",
    "us-government",
    "true",
    "1.2",
    "https://login.example",
    "NO_SUCH_VARIABLE",
];

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_server_makes_a_client_lie_hang_or_tell_secrets(
        variant in any::<u8>(),
        steps in prop::collection::vec(step(), 0..24).prop_map(|steps| Shown(steps.join(&0xFF))),
    ) {
        let input = [vec![variant], steps.0].concat();
        session::check(&input);
    }

    #[test]
    fn no_server_makes_a_client_lie_about_messages_that_overlap(
        variant in any::<u8>(),
        // The greeting and the sign-in are left alone more often than not.
        start in prop_oneof![9 => Just(vec![Vec::new(); 3]), 1 => Just(Vec::new())],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let steps = Shown([start, steps].concat().join(&0xFF));
        session::check_overlap(&[vec![variant], steps.0].concat());
    }

    #[test]
    fn any_message_to_any_address_arrives_as_it_is_or_not_at_all(
        variant in any::<u8>(),
        names in prop::collection::vec(text(), 5),
        body in prop_oneof![
            text().prop_map(String::into_bytes),
            prop::collection::vec(prop::sample::select(vec![b'\r', b'\n', b'.', b'a', 0xFC]), 0..40),
        ],
    ) {
        let mut input = vec![variant];
        for name in names {
            input.extend_from_slice(name.as_bytes());
            input.push(0xFF);
        }
        message::check(&[input, body].concat());
    }

    #[test]
    fn a_token_endpoint_gives_a_token_or_a_reason_and_tells_no_secret(
        (grant, status) in (0_u8..4, prop_oneof![3 => Just(0_u8), 1 => 1_u8..10]),
        header in prop_oneof![9 => Just(vec![0xFF, 0xFF]), 1 => prop::collection::vec(any::<u8>(), 0..12)],
        body in json(TOKEN_KEYS, TOKEN_TEXTS),
    ) {
        let head = [vec![grant, status], header].concat();
        token_endpoint::check(&[head, body.to_string().into_bytes()].concat());
    }

    #[test]
    fn no_endpoint_is_believed_that_the_issuer_cannot_vouch_for(
        issuer in any::<u8>(),
        body in json(DISCOVERY_KEYS, DISCOVERY_TEXTS),
    ) {
        discovery::check(&[vec![issuer, 0, 0xFF, 0xFF], body.to_string().into_bytes()].concat());
    }

    #[test]
    fn only_the_answer_to_a_sign_in_ends_it(
        start in prop::sample::select(vec!["?", "/signed-in?", "https://app.example/signed-in?", ""]),
        parameters in prop::collection::vec((
            prop::sample::select(vec!["code", "state", "iss", "error", "error_description", "session_state", ""]),
            prop_oneof![
                2 => Just(token_endpoint::STATE.to_owned()),
                1 => Just("https://login.example".to_owned()),
                2 => text(),
            ],
        ), 0..5),
    ) {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        callback::check(&format!("{start}{}", parameters.join("&")));
    }

    #[test]
    fn settings_of_any_shape_are_taken_or_explained(value in json(SETTINGS_KEYS, SETTINGS_TEXTS)) {
        settings::check(value.to_string().as_bytes());
    }

    #[test]
    fn a_server_and_a_sign_in_of_any_shape_are_taken_or_explained(
        server in json(SETTINGS_KEYS, SETTINGS_TEXTS),
        authentication in json(SETTINGS_KEYS, SETTINGS_TEXTS),
    ) {
        let value = serde_json::json!({ "server": server, "authentication": authentication });
        settings::check(value.to_string().as_bytes());
    }
}

/// A property and the inputs that are kept for it.
type Kept = (&'static str, fn(&[u8]));

#[test]
fn every_input_that_is_kept_still_holds() {
    let properties: [Kept; 7] = [
        ("session", session::check),
        ("overlap", session::check_overlap),
        ("message", message::check),
        ("token_endpoint", token_endpoint::check),
        ("callback", |input| callback::check(&String::from_utf8_lossy(input))),
        ("discovery", discovery::check),
        ("settings", settings::check),
    ];
    for (name, check) in properties {
        let inputs = fs::read_dir(Path::new("tests/properties/inputs").join(name)).unwrap();
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no inputs for {name}");
    }
}
