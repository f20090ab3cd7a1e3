//! What checking the settings costs: the profile of Exchange Online, good and bad, and a settings file. Opens no socket.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use smtp_oauth::{Office365Profile, Settings};

const FILE: &str = r#"{
    "server": {
        "username": "svc-mail@contoso.com",
        "sender": "Contoso alerts <alerts@contoso.com>",
        "test_recipient": "admin@contoso.com"
    },
    "authentication": { "tenant": "contoso.onmicrosoft.com", "client_id": "11111111-2222-3333-4444-555555555555" }
}"#;

fn profile(criterion: &mut Criterion) {
    criterion.bench_function("profile, good", |bencher| {
        bencher.iter(|| {
            Office365Profile::builder()
                .username(black_box("svc-mail@contoso.com"))
                .sender("Contoso alerts <alerts@contoso.com>")
                .test_recipient("admin@contoso.com")
                .build()
                .expect("good settings")
        });
    });
    criterion.bench_function("profile, two problems", |bencher| {
        bencher.iter(|| {
            Office365Profile::builder()
                .username(black_box("svc-mail"))
                .sender("Contoso alerts")
                .build()
                .expect_err("neither is an address")
        });
    });
}

fn file(criterion: &mut Criterion) {
    criterion.bench_function("settings file", |bencher| {
        bencher.iter(|| {
            let settings: Settings = serde_json::from_str(black_box(FILE)).expect("good JSON");
            settings.resolve().expect("good settings")
        });
    });
}

criterion_group!(benches, profile, file);
criterion_main!(benches);
