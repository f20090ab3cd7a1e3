//! Tokens in the operating system's keyring: in parts when they are long, replaced as a whole, never overwritten blindly.
#![cfg(feature = "keyring")]

use std::sync::Arc;
use std::time::Duration;

use keyring_core::{CredentialStore, Entry, Error, mock};
use secrecy::ExposeSecret;
use smtp_oauth::testing::FakeEntra;
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{AccessToken, KeyringStore, TokenErrorKind, TokenProvider, TokenRequest, TokenStore};
use time::OffsetDateTime;

/// The keyring is one for the whole process: each test uses a user of its own.
fn keyring() -> Arc<CredentialStore> {
    static STORE: std::sync::OnceLock<Arc<CredentialStore>> = std::sync::OnceLock::new();
    let store = STORE.get_or_init(|| mock::Store::new().unwrap());
    keyring_core::set_default_store(store.clone());
    store.clone()
}

fn store(user: &str) -> KeyringStore {
    keyring();
    KeyringStore::new("mailer", user)
}

fn tokens(length: usize) -> StoredTokens {
    let access = AccessToken::new("a".repeat(length), OffsetDateTime::UNIX_EPOCH).unwrap();
    StoredTokens::new(format!("refresh-{length}"), OffsetDateTime::UNIX_EPOCH)
        .with_access_token("scope", access)
}

fn entry(user: &str) -> Entry {
    Entry::new("mailer", user).unwrap()
}

async fn assert_holds(store: &KeyringStore, length: usize) {
    let loaded = store.load().await.unwrap().unwrap();
    assert_eq!(loaded.refresh_token().expose_secret(), format!("refresh-{length}"));
    assert_eq!(loaded.access_token("scope").unwrap().secret().expose_secret().len(), length);
}

#[tokio::test]
async fn short_and_long_tokens_replace_each_other_as_a_whole() {
    let store = store("replaced");
    assert!(store.load().await.unwrap().is_none());
    for length in [100, 2000, 4000, 9000, 5000, 100] {
        store.save(&tokens(length)).await.unwrap();
        assert_holds(&store, length).await;
    }
    for part in ["replaced#a0", "replaced#a1", "replaced#b0", "replaced#b3"] {
        assert!(matches!(entry(part).get_secret(), Err(Error::NoEntry)), "{part} is left behind");
    }
}

#[tokio::test]
async fn no_entry_is_longer_than_windows_takes() {
    let store = store("long");
    store.save(&tokens(9000)).await.unwrap();
    for user in ["long", "long#a0", "long#a1", "long#a2", "long#a3"] {
        assert!(entry(user).get_secret().unwrap().len() <= 2560, "{user}");
    }
}

#[tokio::test]
async fn a_dropped_save_is_over_before_the_next_one_begins() {
    let store = store("dropped");
    store.save(&tokens(4000)).await.unwrap();
    for _ in 0..50 {
        let lock = store.lock().await.unwrap();
        let dropped = tokens(60_000);
        let _begun = tokio::time::timeout(Duration::ZERO, store.save(&dropped)).await;
        drop(lock);
        let _lock = store.lock().await.unwrap();
        store.save(&tokens(50_000)).await.unwrap();
        assert_holds(&store, 50_000).await;
    }
}

#[tokio::test]
async fn damage_is_reported_and_never_overwritten() {
    let store = store("damaged");
    store.save(&tokens(4000)).await.unwrap();
    let part = entry("damaged#a1").get_secret().unwrap();
    let mut changed = part.clone();
    changed[7] ^= 1;
    entry("damaged#a1").set_secret(&changed).unwrap();
    for error in [store.load().await.unwrap_err(), store.save(&tokens(100)).await.unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::Store);
        let expected = "the keyring entry `damaged` of `mailer` is damaged: remove it and sign in again";
        assert_eq!(error.to_string(), expected);
    }
    entry("damaged#a1").set_secret(&part).unwrap();
    assert_holds(&store, 4000).await;
    entry("foreign").set_secret(b"another program's password").unwrap();
    let foreign = KeyringStore::new("mailer", "foreign");
    let error = foreign.save(&tokens(100)).await.unwrap_err();
    assert!(error.to_string().contains("is damaged at line 1, column 1"), "{error}");
    assert!(!format!("{error:?}").contains("password"), "{error:?}");
    assert_eq!(entry("foreign").get_secret().unwrap(), b"another program's password");
}

#[tokio::test]
async fn a_keyring_that_fails_is_an_error_and_keeps_the_old_tokens() {
    let store = store("failing");
    store.save(&tokens(100)).await.unwrap();
    let fail = |error| {
        let entry = entry("failing");
        entry.as_any().downcast_ref::<mock::Cred>().unwrap().set_error(error);
    };
    fail(Error::NoStorageAccess("locked".into()));
    let error = store.load().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert_eq!(error.to_string(), "the keyring entry `failing` of `mailer` cannot be read");
    fail(Error::BadEncoding(b"refresh-secret".to_vec()));
    let error = store.save(&tokens(200)).await.unwrap_err();
    assert!(!format!("{error:?}").contains("114, 101"), "{error:?}");
    assert_holds(&store, 100).await;
}

#[tokio::test]
async fn more_than_a_keyring_takes_is_refused_and_the_old_tokens_stay() {
    let store = store("huge");
    store.save(&tokens(4000)).await.unwrap();
    let error = store.save(&tokens(200_000)).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let expected = "the keyring entry `huge` of `mailer` cannot take tokens of more than 163840 bytes";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(entry("huge#b0").get_secret(), Err(Error::NoEntry)));
    assert_holds(&store, 4000).await;
}

#[tokio::test]
async fn an_empty_keyring_is_named_with_what_to_do() {
    let store = store("nobody");
    assert_eq!(format!("{store:?}"), r#"KeyringStore { service: "mailer", user: "nobody", .. }"#);
    let entra = FakeEntra::start().await;
    let provider = entra.app().build().unwrap().refresh_token(store);
    let error = provider.token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    let expected = "no refresh token is stored in the keyring entry `nobody` of `mailer`: sign in first";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_runtime_that_has_ended_is_an_error_and_nobody_waits() {
    let store = store("ended");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let error = handle.block_on(store.load()).map(drop).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert_eq!(error.to_string(), "the keyring could not be worked on");
}

#[tokio::test]
async fn tokens_are_refreshed_through_it() {
    let entra = FakeEntra::start().await;
    let store = store("refreshed");
    assert!(store.seed(&entra.sign_in()).await.unwrap());
    entra.app().build().unwrap().refresh_token(store.clone()).token(TokenRequest::new()).await.unwrap();
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
}
