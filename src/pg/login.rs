//! A login on the replication protocol and nothing more: whether `pg_receivewal` would be let in. The
//! SQL driver cannot ask for it (PostgreSQL manual, "Message Flow" and "SASL Authentication").

use crate::config::{Address, Secret};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;

/// Why somebody was not let in. Told apart by SQLSTATE and by the server's routine, never by a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 28P01; a missing role looks the same on purpose.
    Password(String),
    /// 28000 from the reading of pg_hba.conf.
    Hba(String),
    /// 28000 from elsewhere: the role may not log in.
    NoLogin(String),
    /// 42501: the role may not replicate.
    NotReplication(String),
    /// Nobody answered.
    Unreachable(String),
    /// Anything else that the server said.
    Other(String),
}

impl Refusal {
    /// In the words of whoever refused.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Password(text)
            | Self::Hba(text)
            | Self::NoLogin(text)
            | Self::NotReplication(text)
            | Self::Unreachable(text)
            | Self::Other(text) => text,
        }
    }

    /// From what the server said. The routine is `ClientAuthentication` (auth.c) for every refusal by
    /// pg_hba.conf, and `InitializeSessionUserId` (miscinit.c) for a role that may not log in.
    #[must_use]
    pub fn of(state: &SqlState, routine: Option<&str>, message: String) -> Self {
        if *state == SqlState::INVALID_PASSWORD {
            Self::Password(message)
        } else if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            match routine {
                Some("ClientAuthentication") => Self::Hba(message),
                Some(_) | None => Self::NoLogin(message),
            }
        } else if *state == SqlState::INSUFFICIENT_PRIVILEGE {
            Self::NotReplication(message)
        } else {
            Self::Other(message)
        }
    }
}

impl From<&super::PgError> for Refusal {
    fn from(error: &super::PgError) -> Self {
        let text = crate::domain::Fault::chain(error);
        match error {
            super::PgError::Sql { source, .. } => match source.as_db_error() {
                Some(db) => Self::of(db.code(), db.routine(), db.message().to_owned()),
                None => Self::Unreachable(text),
            },
            super::PgError::Slow { .. } => Self::Unreachable(text),
            super::PgError::Child(_)
            | super::PgError::Program { .. }
            | super::PgError::File { .. }
            | super::PgError::Garbled { .. }
            | super::PgError::Live { .. }
            | super::PgError::Script { .. }
            | super::PgError::Unreadable { .. } => Self::Other(text),
        }
    }
}

/// Logs in for replication, and out again.
///
/// # Errors
/// [`Refusal`].
pub async fn replication_login(
    address: &Address,
    user: &str,
    password: &Secret,
    limit: Duration,
) -> Result<(), Refusal> {
    match tokio::time::timeout(limit, login(address, user, password)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(Refusal::Unreachable(error.to_string())),
        Err(_) => Err(Refusal::Unreachable(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

async fn login(
    address: &Address,
    user: &str,
    password: &Secret,
) -> io::Result<Result<(), Refusal>> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in [
        "user",
        user,
        "replication",
        "true",
        "application_name",
        "pgnode",
    ] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    stream.write_all(&framed(None, &body)).await?;
    let mut scram: Option<ScramSha256> = None;
    loop {
        let (tag, body) = message(&mut stream).await?;
        match tag {
            b'E' => return Ok(Err(refused(&body))),
            // ReadyForQuery.
            b'Z' => {
                stream.write_all(&framed(Some(b'X'), &[])).await?;
                return Ok(Ok(()));
            }
            b'R' => {
                let (kind, rest) = body.split_at_checked(4).ok_or_else(garbled)?;
                match kind {
                    [0, 0, 0, 0] => {}
                    [0, 0, 0, 10] => {
                        let secret = password.reveal().as_bytes();
                        let mut exchange = ScramSha256::new(secret, ChannelBinding::unsupported());
                        let first = first(&mut exchange);
                        stream.write_all(&framed(Some(b'p'), &first)).await?;
                        scram = Some(exchange);
                    }
                    [0, 0, 0, 11] => {
                        let exchange = scram.as_mut().ok_or_else(garbled)?;
                        exchange.update(rest)?;
                        let answer = exchange.message().to_vec();
                        stream.write_all(&framed(Some(b'p'), &answer)).await?;
                    }
                    [0, 0, 0, 12] => scram.as_mut().ok_or_else(garbled)?.finish(rest)?,
                    _ => {
                        let text = "the server asks for a password by another method than SCRAM";
                        return Ok(Err(Refusal::Other(text.to_owned())));
                    }
                }
            }
            // Parameters, the key for a cancel, notices.
            _ => {}
        }
    }
}

fn first(exchange: &mut ScramSha256) -> Vec<u8> {
    let words = exchange.message().to_vec();
    let mut body = SCRAM_SHA_256.as_bytes().to_vec();
    body.push(0);
    let length = u32::try_from(words.len()).unwrap_or_default();
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&words);
    body
}

fn framed(tag: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    let mut out: Vec<u8> = tag.into_iter().collect();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn garbled() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer is not PostgreSQL's protocol",
    )
}

/// No message of a login is longer.
const LONGEST: usize = 64 * 1024;

async fn message(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0_u8; 5];
    stream.read_exact(&mut head).await?;
    let [tag, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| garbled())?;
    let length = length.checked_sub(4).filter(|n| *n <= LONGEST);
    let mut body = vec![0; length.ok_or_else(garbled)?];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Fields of an error: a letter and a text, ended by zero each (PostgreSQL manual, "Error and Notice
/// Message Fields").
fn refused(body: &[u8]) -> Refusal {
    let fields: Vec<&[u8]> = body.split(|b| *b == 0).collect();
    let field = |letter: u8| {
        let text = fields.iter().find(|f| f.first() == Some(&letter))?;
        Some(String::from_utf8_lossy(text.get(1..)?).into_owned())
    };
    let state = SqlState::from_code(&field(b'C').unwrap_or_default());
    let routine = field(b'R');
    Refusal::of(&state, routine.as_deref(), field(b'M').unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_code_and_routine() {
        let error = |code: &str, routine: &str| {
            let text = format!("SFATAL\0VFATAL\0C{code}\0Mno\0Fauth.c\0L1\0R{routine}\0\0");
            refused(text.as_bytes())
        };
        let no = || "no".to_owned();
        for (code, routine, want) in [
            ("28P01", "auth_failed", Refusal::Password(no())),
            ("28000", "ClientAuthentication", Refusal::Hba(no())),
            ("28000", "InitializeSessionUserId", Refusal::NoLogin(no())),
            ("42501", "InitPostgres", Refusal::NotReplication(no())),
            ("57P03", "ProcessStartupPacket", Refusal::Other(no())),
        ] {
            assert_eq!(error(code, routine), want);
        }
    }

    #[tokio::test]
    async fn a_closed_port_and_a_stranger_are_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address {
            host: "127.0.0.1".into(),
            port,
        };
        let secret = Secret::new("x".to_owned());
        let limit = Duration::from_secs(10);
        let stranger = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400\r\n").await.unwrap();
        };
        let login = replication_login(&address, "barman", &secret, limit);
        let (said, ()) = tokio::join!(login, stranger);
        assert!(matches!(said, Err(Refusal::Unreachable(_))), "{said:?}");
        drop(listener);
        let said = replication_login(&address, "barman", &secret, limit).await;
        assert!(matches!(said, Err(Refusal::Unreachable(_))), "{said:?}");
    }
}
