//! What cron and barman do for the bucket on a barman host.

use super::RenderFacts;
use crate::config::Config;
use serde::Serialize;
use std::path::Path;

/// A line of the crontab.
#[derive(Serialize)]
pub(super) struct ShipJob {
    what: String,
    schedule: String,
    command: String,
}

/// `pgnode s3 <verb>` for those who have not the node's environment.
fn command(config: &Config, program: &Path, verb: &str, server: Option<&str>) -> String {
    let (program, run_dir) = (
        program.to_string_lossy(),
        config.paths.run_dir.to_string_lossy(),
    );
    let words = [&*program, "s3", verb, "--run-dir", &*run_dir];
    shell_words::join(words.into_iter().chain(server))
}

/// None without a bucket, or where no catalogue is kept.
pub(super) fn jobs(config: &Config, facts: &RenderFacts) -> Vec<ShipJob> {
    if !ships(config) {
        return Vec::new();
    }
    let logged = |verb: &str, server: Option<&str>| {
        let command = command(config, &facts.pgnode, verb, server);
        format!("{command} 2>&1 | logger -t s3")
    };
    let shipping = &config.shipping;
    let mut jobs = vec![ShipJob {
        what: "The backups that wait in the queue".to_owned(),
        schedule: shipping.base_schedule.clone(),
        command: logged("base-sync", None),
    }];
    for server in &config.barman.servers {
        let name = server.name.as_str();
        jobs.push(ShipJob {
            what: format!("Archived WAL of {name}"),
            schedule: shipping.wal_schedule.clone(),
            command: logged("wal-sync", Some(name)),
        });
        jobs.push(ShipJob {
            what: format!("All of {name}; what barman has deleted is deleted in the bucket"),
            schedule: shipping.full_schedule.clone(),
            command: logged("full-sync", Some(name)),
        });
    }
    jobs
}

/// barman's `post_backup_script`; `None` without a bucket.
pub(super) fn hook(config: &Config, facts: &RenderFacts) -> Option<String> {
    ships(config).then(|| command(config, &facts.pgnode, "queue-add", None))
}

fn ships(config: &Config) -> bool {
    config.kind.keeps_backups() && config.s3.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;
    use crate::domain::Role;
    use crate::render::{RenderedFile, render};

    fn rendered(bucket: bool) -> Vec<RenderedFile> {
        let mut vars = vec![
            ("PGNODE_ROLE", "barman"),
            ("BARMAN_SERVERS", "main=pg1;other=pg7"),
            ("S3_QUEUE_KEEP", "7d"),
        ];
        if bucket {
            vars.extend([
                ("S3_BUCKET_URI", "s3://backups/p"),
                ("S3_ENDPOINT_URL", "http://s3:3900"),
                ("S3_ACCESS_KEY_ID", "id"),
                ("S3_SECRET_ACCESS_KEY", "secret"),
                ("S3_WAL_SYNC_SCHEDULE", "*/5 * * * *"),
            ]);
        }
        let vars = vars.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
        let around = Surroundings {
            hostname: "bk1".into(),
            arguments: Vec::new(),
            not_text: Vec::new(),
            read_file: &|_| Err(String::new()),
        };
        let (config, _) = Config::from_vars(vars, &around).unwrap();
        render(&config, &facts()).unwrap()
    }

    fn facts() -> RenderFacts {
        super::super::tests::example::facts(Role::Witness)
    }

    fn lines(files: &[RenderedFile], name: &str, word: &str) -> Vec<String> {
        let file = files.iter().find(|f| f.path.ends_with(name)).unwrap();
        assert!(!file.text.contains("secret"), "{}", file.text);
        let lines = file.text.lines().filter(|l| l.contains(word));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn cron_and_barman_ship_only_where_there_is_a_bucket() {
        let files = rendered(true);
        let jobs = lines(&files, "crontab", " s3 ");
        assert_eq!(jobs.len(), 5, "{jobs:?}");
        let wal = "*/5 * * * *  barman  /usr/local/bin/pgnode s3 wal-sync --run-dir /run/pgnode other 2>&1 | logger -t s3";
        assert!(jobs.iter().any(|j| j == wal), "{jobs:?}");
        let hook = lines(&files, "main.conf", "post_backup_script");
        assert_eq!(
            hook,
            ["post_backup_script = /usr/local/bin/pgnode s3 queue-add --run-dir /run/pgnode"]
        );
        let files = rendered(false);
        assert!(lines(&files, "crontab", " s3 ").is_empty());
        assert!(lines(&files, "main.conf", "post_backup_script").is_empty());
    }
}
