//! Signed answers between nodes: whoever knows `REPMGR_PASSWORD` can tell a fresh answer of a
//! member from a stranger's or an old one.
//!
//! The asker sends a nonce; the answer carries HMAC-SHA256 over a label, the nonce (with its length,
//! so that no byte can move from the nonce into the body) and the body. The key is stretched with
//! PBKDF2 like a SCRAM verifier, because anybody may ask: an answer must not be a cheap oracle for
//! guessing the password.

use crate::config::Secret;
use crate::domain::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The header that carries the signature, in hexadecimal.
pub const HEADER: &str = "x-pgnode-mac";

/// What a signed `/status` answer is labelled with.
pub const STATUS: &str = "pgnode/status/1";

/// PBKDF2 rounds: PostgreSQL's own default for SCRAM verifiers (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
const ROUNDS: u32 = 4096;
const SALT: &[u8] = b"pgnode peer key 1";

/// The key that all nodes of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerKey([u8; 32]);

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerKey(********)")
    }
}

impl PeerKey {
    /// Derives the key: PBKDF2-HMAC-SHA256, some milliseconds. Once a process.
    #[must_use]
    pub fn derive(password: &Secret) -> Self {
        let prf = keyed(password.reveal().as_bytes());
        let round = |input: &[&[u8]]| -> [u8; 32] {
            let mut mac = prf.clone();
            for part in input {
                mac.update(part);
            }
            mac.finalize().into_bytes().into()
        };
        // One block of output is one key: RFC 8018, 5.2, with the block index 1.
        let mut u = round(&[SALT, &1_u32.to_be_bytes()]);
        let mut key = u;
        for _ in 1..ROUNDS {
            u = round(&[&u]);
            for (k, x) in key.iter_mut().zip(u) {
                *k ^= x;
            }
        }
        Self(key)
    }

    fn mac(&self, label: &str, nonce: &Nonce, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(label.as_bytes());
        mac.update(&[u8::try_from(nonce.0.len()).unwrap_or(u8::MAX)]);
        mac.update(&nonce.0);
        mac.update(body);
        mac
    }

    /// The signature of a body for whoever sent the nonce, in hexadecimal.
    #[must_use]
    pub fn sign(&self, label: &str, nonce: &Nonce, body: &[u8]) -> String {
        hex(&self.mac(label, nonce, body).finalize().into_bytes())
    }

    /// Whether a signature is right; constant time over its bytes.
    #[must_use]
    pub fn verify(&self, label: &str, nonce: &Nonce, body: &[u8], signature: &str) -> bool {
        from_hex(signature)
            .is_some_and(|bytes| self.mac(label, nonce, body).verify_slice(&bytes).is_ok())
    }
}

/// HMAC with any key. RFC 2104: longer than a block, it is hashed; shorter, filled with zeros.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0_u8; 64];
    if let Some(head) = block.get_mut(..key.len()) {
        head.copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    Hmac::new(&block.into())
}

/// A number used once: 16 to 64 bytes that the asker chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// A fresh one of 32 bytes.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads hexadecimal digits; `None` when they are not 16 to 64 bytes.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        from_hex(hex)
            .filter(|bytes| (16..=64).contains(&bytes.len()))
            .map(Self)
    }

    /// As hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(password: &str) -> PeerKey {
        PeerKey::derive(&Secret::new(password.into()))
    }

    #[test]
    fn hmac_and_the_derived_key_agree_with_other_implementations() {
        // RFC 4231, cases 2 (short key) and 6 (longer than a block).
        let tag = |key: &[u8], text: &[u8]| {
            let mut mac = keyed(key);
            mac.update(text);
            hex(&mac.finalize().into_bytes())
        };
        assert_eq!(
            tag(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            tag(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        // python3: hashlib.pbkdf2_hmac('sha256', b'iamrepmgr', b'pgnode peer key 1', 4096).hex()
        assert_eq!(
            hex(&key("iamrepmgr").0),
            "43c8f667e77b4243421866d4cbcf1558cc33d37cd3c0c1690534782b9d786739"
        );
    }

    #[test]
    fn only_the_same_key_nonce_label_and_body_verify() {
        let ours = key("p");
        let (n1, n2) = (Nonce(vec![1; 32]), Nonce(vec![2; 32]));
        let good = ours.sign(STATUS, &n1, b"body");
        assert!(ours.verify(STATUS, &n1, b"body", &good));
        assert!(ours.verify(STATUS, &n1, b"body", &good.to_uppercase()));
        assert!(!ours.verify(STATUS, &n2, b"body", &good), "replayed");
        assert!(!ours.verify(STATUS, &n1, b"Body", &good), "changed");
        assert!(!ours.verify("pgnode/vote/1", &n1, b"body", &good));
        assert!(!key("q").verify(STATUS, &n1, b"body", &good));
        for bad in ["", "zz", &good[..62], &format!("{good}00")] {
            assert!(!ours.verify(STATUS, &n1, b"body", bad), "{bad}");
        }
        // A byte cannot move from the nonce into the body.
        let long = Nonce([vec![1; 32], b"b".to_vec()].concat());
        assert!(!ours.verify(STATUS, &n1, b"body", &ours.sign(STATUS, &long, b"ody")));
    }

    #[test]
    fn a_nonce_is_16_to_64_bytes_of_hex() {
        for (n, ok) in [(15, false), (16, true), (64, true), (65, false), (0, false)] {
            assert_eq!(Nonce::parse(&"aB".repeat(n)).is_some(), ok, "{n}");
        }
        assert_eq!(Nonce::parse(&"xy".repeat(16)), None);
        assert_eq!(Nonce::parse(&"a".repeat(33)), None);
        let nonce = Nonce::random().unwrap();
        assert_eq!(Nonce::parse(&nonce.hex()), Some(nonce.clone()));
        assert_ne!(Nonce::random().unwrap(), nonce);
    }

    #[test]
    fn a_key_is_never_formatted() {
        assert_eq!(format!("{:?}", key("p")), "PeerKey(********)");
    }
}
