//! Connecting to peers by name, also while the name server is slow or gone: what a name meant last
//! is remembered and tried when the lookup takes longer than a moment. Answers are signed, so a wrong
//! host behind an old address is not believed.

use crate::domain::{PeerError, Unreachable};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Before the next address of the same name is tried beside the first (RFC 8305's delay).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried at all.
const ADDRESSES: usize = 8;
/// How long a lookup may take before the remembered addresses are tried beside it.
const HEAD_START: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<IpAddr>,
    /// A lookup hangs: no second one, each would hold a thread.
    looking: bool,
}

/// Remembers what names meant. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Dialer(Arc<Mutex<HashMap<String, Known>>>);

impl Dialer {
    fn with<T>(&self, host: &str, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(host.to_owned()).or_default())
    }

    /// Connects to the first address that lets us. Each next one is tried a little later beside the
    /// ones before it, so that a dead IPv6 route does not eat the deadline, which is the caller's.
    ///
    /// # Errors
    /// [`PeerError::Unreachable`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, PeerError> {
        let (known, busy) = self.with(host, |k| {
            let busy = std::mem::replace(&mut k.looking, true);
            (k.addresses.clone(), busy)
        });
        let mut attempts = Attempts::default();
        let mut lookup = (!busy || known.is_empty()).then(|| self.look_up(host, port));
        if lookup.is_none() {
            attempts.add(&known, port);
        }
        let head_start = tokio::time::sleep(HEAD_START);
        let mut head_start = std::pin::pin!(head_start);
        let mut waiting = true;
        let mut failed = unreachable(Unreachable::Resolve, "the name has no address");
        loop {
            tokio::select! {
                Some(found) = async { Some(lookup.as_mut()?.await) }, if lookup.is_some() => {
                    lookup = None;
                    match found {
                        Ok(Ok(addresses)) => attempts.add(&addresses, port),
                        Ok(Err(why)) => {
                            failed = unreachable(Unreachable::Resolve, why);
                            attempts.add(&known, port);
                        }
                        Err(_) => attempts.add(&known, port),
                    }
                }
                () = &mut head_start, if waiting && lookup.is_some() => {
                    waiting = false;
                    attempts.add(&known, port);
                }
                Some(attempt) = attempts.running.join_next() => match attempt {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(why)) => failed = unreachable(Unreachable::Connect, why),
                    Err(_cancelled) => {}
                },
                else => return Err(failed),
            }
        }
    }

    /// Goes on when nobody waits for it any more: its thread would be busy anyway.
    fn look_up(
        &self,
        host: &str,
        port: u16,
    ) -> tokio::task::JoinHandle<std::io::Result<Vec<IpAddr>>> {
        let (host, dialer) = (host.to_owned(), self.clone());
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            let found = found.map(|all| {
                let all: Vec<IpAddr> = all.map(|a| a.ip()).take(ADDRESSES).collect();
                all
            });
            dialer.with(&host, |k| {
                k.looking = false;
                if let Ok(addresses) = &found
                    && !addresses.is_empty()
                {
                    k.addresses.clone_from(addresses);
                }
            });
            found
        })
    }
}

fn unreachable(how: Unreachable, why: impl std::fmt::Display) -> PeerError {
    PeerError::Unreachable {
        how,
        why: why.to_string(),
    }
}

#[derive(Default)]
struct Attempts {
    tried: Vec<IpAddr>,
    running: JoinSet<std::io::Result<TcpStream>>,
}

impl Attempts {
    fn add(&mut self, addresses: &[IpAddr], port: u16) {
        let mut wait = Duration::ZERO;
        for ip in addresses {
            if self.tried.contains(ip) {
                continue;
            }
            self.tried.push(*ip);
            let address = SocketAddr::new(*ip, port);
            self.running.spawn(async move {
                tokio::time::sleep(wait).await;
                TcpStream::connect(address).await
            });
            wait += STAGGER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_name_that_is_no_longer_found_is_remembered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer::default();
        let name = "no-such-name.invalid";
        let error = dialer.connect(name, port).await.unwrap_err();
        assert!(
            matches!(
                error,
                PeerError::Unreachable {
                    how: Unreachable::Resolve,
                    ..
                }
            ),
            "{error}"
        );
        dialer.with(name, |k| k.addresses = vec![[127, 0, 0, 1].into()]);
        dialer.connect(name, port).await.unwrap();
        // A lookup that hangs is not joined by a second one.
        dialer.with(name, |k| k.looking = true);
        dialer.connect(name, port).await.unwrap();
    }
}
