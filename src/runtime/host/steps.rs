//! What a keeper does for each step.

use super::files;
use super::keeper::Keeper;
use crate::domain::Fault;
use crate::pg::Session;
use crate::plan::keeper::{Realign, Step};
use crate::runtime::archive;
use crate::runtime::survey::blocking;
use crate::sys::now_ms;

impl Keeper {
    pub(super) async fn perform(&mut self, step: Step) -> Result<(), Fault> {
        let client = self.client();
        match step {
            Step::Wait(_) | Step::Rest => Ok(()),
            Step::Receive => {
                self.receiver.start(&client);
                Ok(())
            }
            Step::Kick => {
                self.receiver.kick();
                Ok(())
            }
            Step::Realign(realign) => self.realign(realign).await,
            Step::DropSlot => {
                let why = "WAL was given up by the primary before it was received";
                self.owe(why).await?;
                client.drop_slot().await.map_err(|e| e.fault())
            }
            Step::Evict => {
                if let Err(error) = client.stop_receiver().await {
                    tracing::debug!(server = self.server.name, "{}", Fault::chain(&error));
                }
                Ok(())
            }
            Step::FirstWal => archive::round_trip(&client, self.session()?).await,
            Step::Backup(_) => {
                let dir = self.dir();
                let owed = blocking(move || files::owed(&dir)).await?;
                self.make_backup(owed);
                Ok(())
            }
            Step::Finish => {
                let all = archive::catalogue(&client).await?;
                archive::finish_waiting(&client, self.session()?, &all).await
            }
        }
    }

    fn session(&self) -> Result<&Session, Fault> {
        match &self.link {
            Some(link) => Ok(&link.session),
            None => Err(Fault::Transient("the primary is gone".into())),
        }
    }

    /// Before the archive gets a gap: a kill at any moment leaves the debt.
    async fn owe(&self, why: &'static str) -> Result<(), Fault> {
        let (dir, owner) = (self.dir(), self.owner());
        blocking(move || files::owe(&dir, why, now_ms(), owner)).await
    }

    async fn realign(&mut self, realign: Realign) -> Result<(), Fault> {
        let client = self.client();
        self.owe("receive-wal had to go on from another place")
            .await?;
        // Complete segments belong to the archive, also those of a branch that came to nothing.
        if let Err(error) = client.archive_wal().await {
            tracing::warn!(
                source = "barman",
                server = self.server.name,
                "{}",
                Fault::chain(&error)
            );
        }
        let (dir, owner, to) = (self.dir(), self.owner(), realign.to);
        let aside = blocking(move || files::realign(&dir, to, now_ms(), owner)).await?;
        let kept = aside.map_or_else(String::new, |dir| {
            format!("; what was received beyond it is kept in {}", dir.display())
        });
        tracing::warn!(
            source = "barman",
            server = self.server.name,
            "receive-wal goes on from segment {to}: {}{kept}",
            realign.gap.sentence()
        );
        Ok(())
    }
}
