//! A process that is killed at any moment loses nothing that can be kept, and stops nobody else.

use secrecy::ExposeSecret;
use smtp_oauth::testing::{FakeEntra, TokenFault};
use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{Clock, FileStore, TokenProvider, TokenRequest, TokenStore};

#[path = "support/process.rs"]
mod process;

use process::{Process, say};

/// A store that stops for ever before or after it saves, so that the parent can kill the process right there.
#[derive(Debug)]
struct Stopping {
    store: FileStore,
    saves_first: bool,
}

impl TokenStore for Stopping {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.store.load()
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        StoreFuture::new(async move {
            if self.saves_first {
                self.store.save(tokens).await?;
            }
            say("stopped");
            std::future::pending().await
        })
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        self.store.lock()
    }
}

/// Does nothing but in a process that the tests below start.
#[tokio::test]
async fn child() {
    let Some(role) = process::role() else { return };
    let store = FileStore::open(process::store_address()).unwrap();
    match role.as_str() {
        "token" => {
            process::cache(store).token(TokenRequest::new()).await.unwrap();
            say("done");
        }
        "writer" => {
            for number in 0_u64.. {
                say("writing");
                let token = format!("refresh-{number}-{}", "x".repeat(20_000));
                store.save(&StoredTokens::new(token, Clock::system().now())).await.unwrap();
            }
        }
        role => {
            let store = Stopping { store, saves_first: role == "stop after saving" };
            process::cache(store).token(TokenRequest::new()).await.unwrap();
        }
    }
}

struct Scene {
    entra: FakeEntra,
    store: FileStore,
    address: String,
    _directory: tempfile::TempDir,
}

async fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.json");
    let entra = FakeEntra::start().await;
    let store = FileStore::open(&path).unwrap();
    store.save(&entra.sign_in()).await.unwrap();
    Scene { entra, store, address: path.to_str().unwrap().to_owned(), _directory: directory }
}

impl Scene {
    async fn stored(&self) -> String {
        self.store.load().await.unwrap().unwrap().refresh_token().expose_secret().to_owned()
    }

    async fn next_process_succeeds(&self) {
        let mut next = Process::start("token", &self.address, &self.entra);
        assert_eq!(next.hear().await, "done");
    }
}

#[tokio::test]
async fn killed_during_the_request_the_old_refresh_token_is_still_there() {
    let scene = scene().await;
    let old = scene.stored().await;
    scene.entra.fail_next(1, TokenFault::Hang);
    let process = Process::start("token", &scene.address, &scene.entra);
    process::requests(&scene.entra, 1).await;
    process.kill().await;
    assert_eq!(scene.stored().await, old);
    scene.next_process_succeeds().await;
    assert_eq!(scene.entra.requests(), 2);
}

#[tokio::test]
async fn killed_between_the_answer_and_the_save_the_old_refresh_token_is_still_there() {
    let scene = scene().await;
    let old = scene.stored().await;
    let mut process = Process::start("stop before saving", &scene.address, &scene.entra);
    assert_eq!(process.hear().await, "stopped");
    process.kill().await;
    assert_eq!(scene.stored().await, old);
    // Entra does not revoke a refresh token that was used, for this very case.
    scene.next_process_succeeds().await;
    assert_eq!(scene.entra.requests(), 2);
    assert_eq!(scene.stored().await, scene.entra.refresh_token());
}

#[tokio::test]
async fn killed_after_the_save_nothing_is_asked_again() {
    let scene = scene().await;
    let mut process = Process::start("stop after saving", &scene.address, &scene.entra);
    assert_eq!(process.hear().await, "stopped");
    process.kill().await;
    assert_eq!(scene.stored().await, scene.entra.refresh_token());
    scene.next_process_succeeds().await;
    assert_eq!(scene.entra.requests(), 1);
}

#[tokio::test]
async fn killed_in_the_middle_of_writing_the_file_is_whole() {
    let scene = scene().await;
    for round in 0..12 {
        let mut process = Process::start("writer", &scene.address, &scene.entra);
        // At another place each time: it does not wait between what it says.
        for _ in 0..=3 * round {
            assert_eq!(process.hear().await, "writing");
        }
        process.kill().await;
        scene.store.load().await.unwrap().unwrap();
    }
    scene.store.save(&scene.entra.sign_in()).await.unwrap();
    scene.next_process_succeeds().await;
}
