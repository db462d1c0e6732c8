//! Proof that an answer comes from a node that knows the cluster's password, and that it is new.

use crate::config::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key that all nodes of a cluster share, made from `REPMGR_PASSWORD`.
#[derive(Clone)]
pub struct PeerKey([u8; 32]);

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerKey(********)")
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes a key of any length; the other arm cannot be reached and signs with no key's worth.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&[0_u8; 64].into()));
    for part in parts {
        mac.update(part);
    }
    mac
}

impl PeerKey {
    /// Derives the key.
    #[must_use]
    pub fn new(password: &Secret) -> Self {
        Self(
            hmac(password.reveal().as_bytes(), &[b"pgnode peer key 1"])
                .finalize()
                .into_bytes()
                .into(),
        )
    }

    fn over(&self, nonce: &str, body: &[u8]) -> Hmac<Sha256> {
        // The nonce is hexadecimal, so the 0 ends it without doubt.
        hmac(&self.0, &[b"pgnode/status/1", nonce.as_bytes(), &[0], body])
    }

    /// The MAC of an answer to this nonce, hexadecimal.
    #[must_use]
    pub fn sign(&self, nonce: &str, body: &[u8]) -> String {
        to_hex(&self.over(nonce, body).finalize().into_bytes())
    }

    /// Whether a MAC is right, compared in constant time.
    #[must_use]
    pub fn verify(&self, nonce: &str, body: &[u8], mac: &str) -> bool {
        from_hex(mac).is_some_and(|mac| self.over(nonce, body).verify_slice(&mac).is_ok())
    }
}

/// Whether a nonce is one: 16 to 64 bytes in hexadecimal.
#[must_use]
pub(super) fn is_nonce(text: &str) -> bool {
    (32..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_nonce_and_body_verify() {
        let key = PeerKey::new(&Secret::new("a".into()));
        let other = PeerKey::new(&Secret::new("b".into()));
        let mac = key.sign("0011", b"body");
        assert!(key.verify("0011", b"body", &mac));
        assert!(!key.verify("0012", b"body", &mac));
        assert!(!key.verify("0011", b"bodY", &mac));
        assert!(!other.verify("0011", b"body", &mac));
        for bad in ["", "zz", "0", &mac[1..], &format!("{mac}00")] {
            assert!(!key.verify("0011", b"body", bad), "{bad}");
        }
        assert!(!format!("{key:?}").contains(&to_hex(&key.0)));
    }

    #[test]
    fn a_nonce_has_a_length_and_an_alphabet() {
        for (text, want) in [
            ("", false),
            (&"a".repeat(31), false),
            (&"a".repeat(32), true),
            (&"g".repeat(32), false),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(is_nonce(text), want, "{text}");
        }
    }
}
