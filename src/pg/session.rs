//! Connections to PostgreSQL: to our own server by socket and peer authentication, so that
//! supervision survives a change of password; to another node by TCP and password.

use super::PgError;
use crate::config::{Address, Config, Secret};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection with its background task; both end when it is dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: tokio::task::JoinHandle<()>,
    limit: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Our own server, as the superuser.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn local(config: &Config, port: u16, database: &str) -> Result<Self, PgError> {
        let mut options = tokio_postgres::Config::new();
        options
            .host_path::<&Path>(config.paths.socket_dir.as_ref())
            .port(port)
            .user(&config.postgres.superuser)
            .dbname(database)
            .application_name("pgnode");
        Self::open(options, format!("connecting to {database} on port {port}")).await
    }

    /// Another node, with a password.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn remote(
        address: &Address,
        user: &str,
        password: &Secret,
        database: &str,
    ) -> Result<Self, PgError> {
        let mut options = tokio_postgres::Config::new();
        options
            .host(&address.host)
            .port(address.port)
            .user(user)
            .password(password.reveal())
            .dbname(database)
            .connect_timeout(CONNECT)
            .application_name("pgnode");
        Self::open(options, format!("connecting to {address} as {user}")).await
    }

    /// A server of ours that listens in this directory only.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn socket(
        dir: &Path,
        port: u16,
        user: &str,
        database: &str,
    ) -> Result<Self, PgError> {
        let mut options = tokio_postgres::Config::new();
        options
            .host_path(dir)
            .port(port)
            .user(user)
            .dbname(database)
            .application_name("pgnode");
        let doing = format!("connecting to {database} in {}", dir.display());
        Self::open(options, doing).await
    }

    async fn open(mut options: tokio_postgres::Config, doing: String) -> Result<Self, PgError> {
        // With `synchronous_standby_names` set a commit on the technical port would wait for ever
        // for a standby that cannot connect; and nobody's function in `public` may stand in for one
        // of PostgreSQL's while the superuser asks. What we ask is small: compiling it takes longer.
        options.options("-c synchronous_commit=local -c search_path=pg_catalog -c jit=off");
        let connecting = tokio::time::timeout(CONNECT, options.connect(NoTls)).await;
        let (client, connection) = match connecting {
            Ok(Ok(pair)) => pair,
            Ok(Err(source)) => return Err(PgError::Sql { doing, source }),
            Err(_) => {
                return Err(PgError::Slow {
                    doing,
                    seconds: CONNECT.as_secs(),
                });
            }
        };
        let connection = tokio::spawn(async move {
            // Its end shows in the next query's error.
            drop(connection.await);
        });
        Ok(Self {
            client,
            connection,
            limit: Duration::from_secs(30),
        })
    }

    /// The same session with another limit for each statement.
    #[must_use]
    pub fn patient(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    async fn within<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(PgError::Sql {
                doing: doing.to_owned(),
                source,
            }),
            Err(_) => Err(PgError::Slow {
                doing: doing.to_owned(),
                seconds: self.limit.as_secs(),
            }),
        }
    }

    /// Rows of a query.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn rows(
        &self,
        doing: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        self.within(doing, self.client.query(sql, params)).await
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn one(
        &self,
        doing: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, PgError> {
        self.within(doing, self.client.query_one(sql, params)).await
    }

    /// Statements without a result, in one message: without `BEGIN` in it, one transaction.
    ///
    /// # Errors
    /// [`PgError::Sql`] or [`PgError::Slow`].
    pub async fn execute(&self, doing: &str, sql: &str) -> Result<(), PgError> {
        self.within(doing, self.client.batch_execute(sql)).await
    }
}
