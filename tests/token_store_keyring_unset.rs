//! A program that chose no keyring is told to; alone in its process, because the choice is one for the whole process.
#![cfg(feature = "keyring")]

use smtp_oauth::{Disposition, Error, KeyringStore, TokenErrorKind, TokenStore};

#[tokio::test]
async fn a_keyring_that_was_not_chosen_is_a_fault_of_the_program() {
    let error = KeyringStore::new("mailer", "svc-mail@contoso.com").load().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert_eq!(
        error.to_string(),
        "no keyring was chosen: call keyring_core::set_default_store with the platform's store first"
    );
    assert_eq!(Error::from(error).disposition(), Disposition::FixConfiguration);
}
