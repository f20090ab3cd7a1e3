//! Seals what the database keeps (XChaCha20-Poly1305) with a key from the environment or from a private file.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Key, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

const NONCE: usize = 24;

/// The one who can read the database.
pub struct Vault(XChaCha20Poly1305);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl Vault {
    /// Takes 32 octets in base64, as `openssl rand -base64 32` prints them.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let key = bytes.ok().and_then(|bytes| Key::<XChaCha20Poly1305>::try_from(bytes.as_slice()).ok());
        let key = key.ok_or_else(|| {
            KeyError(
                "the key must be 32 octets in base64: make one with `openssl rand -base64 32`".to_owned(),
            )
        })?;
        Ok(Self(XChaCha20Poly1305::new(&key)))
    }

    /// Reads the key file, or makes one that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let fail = |what: &str, error: std::io::Error| {
            KeyError(format!("the key file {} cannot be {what}: {error}", path.display()))
        };
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !is_private(&metadata) => Err(KeyError(format!(
                "the key file {} must be a file that only its owner can read: chmod 600 it, and think of who has read it",
                path.display()
            ))),
            Ok(_) => {
                let text = std::fs::read_to_string(path).map(Zeroizing::new);
                let text = text.map_err(|error| fail("read", error))?;
                Self::from_base64(&text).map_err(|error| KeyError(format!("{}: {error}", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = Zeroizing::new(STANDARD.encode(Key::<XChaCha20Poly1305>::generate()) + "\n");
                // Made under another name, mode 0600: a crash leaves a whole key file or none.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let made = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")));
                let written = made.and_then(|mut file| {
                    file.write_all(text.as_bytes())?;
                    file.as_file().sync_all()?;
                    file.persist_noclobber(path).map_err(|error| error.error)
                });
                written.map_err(|error| fail("made", error))?;
                Self::from_base64(&text)
            }
            Err(error) => Err(fail("read", error)),
        }
    }

    /// Seals `plain` for the record `name`; under another name it cannot be opened.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = XNonce::generate();
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        let sealed = self.0.encrypt(&nonce, payload).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed; `None` when the key is another one, or somebody changed a single bit.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.0.decrypt(&nonce, payload).ok().map(Zeroizing::new)
    }
}

#[cfg(unix)]
fn is_private(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.is_file() && metadata.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file() // The directory's access list protects it.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_own_name_and_key_only() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let vault = Vault::from_base64(key).unwrap();
        let mut sealed = vault.seal("settings", b"hunter2").unwrap();
        assert_ne!(sealed, vault.seal("settings", b"hunter2").unwrap(), "each time with another nonce");
        assert_eq!(vault.open("settings", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(vault.open("tokens", &sealed).is_none());
        assert!(Vault::from_base64(&key.replacen('A', "B", 1)).unwrap().open("settings", &sealed).is_none());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(vault.open("settings", &sealed).is_none());
        assert!(vault.open("settings", b"short").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_made_private_and_refused_when_others_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let sealed = Vault::from_file(&path).unwrap().seal("a", b"b").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Vault::from_file(&path).unwrap().open("a", &sealed).unwrap().as_slice(), b"b");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Vault::from_file(&path).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_shown() {
        for text in ["", "c2hvcnQ=", "not base64!"] {
            let error = Vault::from_base64(text).err().unwrap().to_string();
            assert!(error.contains("openssl rand") && !error.contains("c2hvcnQ"), "{error}");
        }
    }
}
