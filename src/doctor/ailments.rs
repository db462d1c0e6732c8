//! Every failure that the doctor can name, with its likely cause and what mends it: the findings, the
//! document (`docs/doctor.md`) and the tests' texts all come from here. `{name}` is filled in.

use super::finding::Verdict;

/// A failure with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Ailment {
    /// Its name, for machines and for the document.
    pub id: &'static str,
    /// The step that finds it.
    pub step: u8,
    /// The check that finds it.
    pub check: &'static str,
    /// How bad.
    pub verdict: Verdict,
    /// What it likely comes from.
    pub cause: &'static str,
    /// The command or setting that mends it.
    pub remedy: &'static str,
}

macro_rules! ailments {
    ($($name:ident = $step:literal $check:literal $verdict:ident $id:literal: $cause:literal => $remedy:literal;)*) => {
        $(
            #[doc = $id]
            pub const $name: Ailment = Ailment {
                id: $id, step: $step, check: $check, verdict: Verdict::$verdict, cause: $cause, remedy: $remedy,
            };
        )*
        /// All of them, in the protocol's order.
        pub const ALL: &[&Ailment] = &[$(&$name),*];
    };
}

ailments! {
    SSH_OUT = 1 "ssh to the nodes" Fail "ssh-to-node":
        "barman cannot log in to {host} over ssh, so neither a backup nor a restore by rsync can be made"
        => "give both containers the same PGNODE_SSH_KEYS directory and check that PGNODE_SSH_PORT ({port}) of {host} can be reached; then restart the one that was changed";
    SSH_BACK = 1 "ssh to barman" Fail "ssh-to-barman":
        "the node cannot log in to the barman host {host} over ssh, so it cannot ship WAL"
        => "give both containers the same PGNODE_SSH_KEYS directory, and set BARMAN_HOST and PGNODE_SSH_PORT ({port}) on the node to where the barman host's sshd listens";
    PASSWORD = 2 "login" Fail "wrong-password":
        "the password that {user} is given here is not the one that {host} has, or the role is missing there"
        => "set {variable} to the same value on the nodes and where barman runs, and restart both: the primary sets the role's password at its start, and barman's .pgpass ({pgpass}) is written at the start";
    HBA = 2 "login" Fail "pg-hba":
        "pg_hba.conf of {host} does not let {user} in from here"
        => "set BARMAN_MODE=remote on the nodes where barman runs elsewhere (local lets barman in from 127.0.0.1 only), and remove what rejects {user} from the files in pg_hba.d; `pgnode reload` on {host} applies it";
    NO_LOGIN = 2 "login" Fail "role-cannot-log-in":
        "the role {user} of {host} may not log in: it is kept out where BARMAN_MODE is off"
        => "set BARMAN_MODE=local or remote on the nodes and restart the primary, which then gives the role its LOGIN";
    UNREACHABLE = 2 "login" Fail "unreachable":
        "nobody answers at {host}: the node is down or closed, the name is wrong, or the network is cut"
        => "look at `docker exec <node> pgnode status` there, and check the address (BARMAN_SERVERS, REPMGR_SLAVES or REPMGR_NODE_NETWORK_NAME) and the network between the containers";
    LOGIN = 2 "login" Fail "login-refused":
        "{host} refused {user}"
        => "look at the log of {host}: `docker logs <node>`";
    NOT_REPLICATION = 2 "login" Fail "role-without-replication":
        "the role {user} has lost its REPLICATION attribute, so no WAL can be streamed"
        => "as the superuser on the primary: ALTER ROLE {user} REPLICATION";
    GRANT = 2 "rights" Fail "missing-grant":
        "the role barman lacks {grant} on {host}"
        => "as the superuser on the primary, in the database postgres: {sql}";
    PGPASS = 2 "password file" Fail "pgpass":
        "barman reads its passwords from {pgpass}, and libpq passes over a file that is not its own, or that others may read, without a word"
        => "restart this container, which writes the file anew";
    NO_PRIMARY = 2 "a primary" Fail "no-primary":
        "none of the nodes that answered is a primary: a failover is under way, or the primary is not in the list"
        => "look at `pgnode status` on the nodes; on a barman host name all nodes of the cluster in BARMAN_SERVERS";
    NOT_LISTED = 3 "listed" Fail "not-listed":
        "barman does not know {server}: its file in {dir} is missing"
        => "`pgnode reload` (or a restart of this container) writes the file anew";
    INACTIVE = 3 "listed" Fail "inactive":
        "barman holds {server} as inactive although its primary is here: no WAL and no backup is taken"
        => "`pgnode reload` (or a restart of this container) writes barman's files anew";
    BARMAN = 3 "listed" Fail "barman-does-not-run":
        "barman itself fails"
        => "run `{command}` in this container as user barman and read what it says; a restart writes its configuration anew";
    WAL_ARCHIVE = 4 "barman check" Fail "check-wal-archive":
        "no WAL has been archived yet: shipping is not set up, or an idle server has not finished a segment"
        => "force a switch: as role barman on the primary SELECT pg_create_restore_point('x'), pg_switch_wal(), pg_create_restore_point('y'); then `barman archive-wal {server}`";
    REPLICATION_SLOT = 4 "barman check" Fail "check-replication-slot":
        "the slot that keeps WAL for barman is missing, not in use or not initialised"
        => "`barman cron` as user barman makes the slot and starts receive-wal (cron does so each minute: is it running? `pgnode status`); a lost one: `barman receive-wal --drop-slot {server}` and then `barman cron`";
    RECEIVE_WAL = 4 "barman check" Fail "check-receive-wal":
        "no receive-wal process runs for {server}: WAL written now is not received"
        => "`barman cron` as user barman starts it; if it ends again, `barman receive-wal --reset {server}` and a new backup, and its reason is in the log";
    MINIMUM_REDUNDANCY = 4 "barman check" Fail "check-minimum-redundancy":
        "there are fewer complete backups than BARMAN_MINIMUM_REDUNDANCY asks for"
        => "`barman backup {server}` as user barman (or `pgnode doctor --full`), or lower BARMAN_MINIMUM_REDUNDANCY";
    MAXIMUM_AGE = 4 "barman check" Fail "check-backup-age":
        "the newest backup is older than BARMAN_BACKUP_MAX_AGE"
        => "`barman backup {server}` as user barman, and see in the log why the scheduled one (BARMAN_BACKUP_SCHEDULE) was not made";
    MINIMUM_SIZE = 4 "barman check" Fail "check-backup-size":
        "the newest backup is smaller than it should be"
        => "look at `barman show-backup {server} latest`, and make another: `barman backup {server}`";
    FAILED_BACKUPS = 4 "barman check" Fail "check-failed-backups":
        "backups have failed"
        => "read why: `barman show-backup {server} last-failed`; once a good one is made: `barman delete {server} <id>` for each failed one";
    WAL_AGE = 4 "barman check" Fail "check-wal-age":
        "the newest archived WAL is older than allowed"
        => "`barman archive-wal {server}`; see step 6 for what keeps WAL from arriving";
    ARCHIVER_ERRORS = 4 "barman check" Fail "check-archiver-errors":
        "files that barman could not archive lie in {home}/{server}/errors: duplicates with other contents, or names that are not WAL"
        => "find out where they came from (two clusters that ship to one place?), move them away, and make a new backup";
    INCOMING = 4 "barman check" Fail "check-leftover-wal":
        "WAL lies where the present method does not look: BARMAN_METHOD was changed"
        => "`barman archive-wal {server}`; what remains in {home}/{server}/incoming or streaming afterwards can be moved away";
    QUEUE = 4 "barman check" Fail "check-queue":
        "more WAL waits to be archived than is allowed: barman's cron does not run or is too slow"
        => "`barman archive-wal {server}`, and look whether cron runs: `pgnode status`";
    SSH_LINE = 4 "barman check" Fail "check-ssh":
        "barman's own ssh to the primary fails"
        => "see step 1: PGNODE_SSH_KEYS, PGNODE_SSH_PORT";
    DIRECTORIES = 4 "barman check" Fail "check-directories":
        "a directory below {home}/{server} is missing or not barman's"
        => "restart this container, which gives BARMAN_BACKUP_DIR to barman; is the volume mounted read-only?";
    SYSTEM_ID = 4 "barman check" Fail "check-system-id":
        "the server is not the cluster that this catalogue was begun with: it was created anew, or restored, under the same name"
        => "keep the old backups under their name and give the new cluster another one (BARMAN_SERVER_NAME or BARMAN_SERVERS); or move {home}/{server} away";
    RETENTION = 4 "barman check" Fail "check-retention":
        "the retention policy is not understood"
        => "set BARMAN_RETENTION to, for example, `5 days`";
    COMPRESSION_LINE = 4 "barman check" Fail "check-compression":
        "WAL cannot be compressed as configured"
        => "set BARMAN_COMPRESSION to gzip, bzip2 or none";
    PG_BASEBACKUP = 4 "barman check" Fail "check-pg-basebackup":
        "the client programs in this image are missing or older than the server"
        => "use an image whose PostgreSQL is at least as new as the server's";
    POSTGRESQL = 4 "barman check" Fail "check-postgresql":
        "barman cannot log in to the primary"
        => "see what step 2 says: `pgnode doctor {server} --step 2`";
    PRIVILEGES = 4 "barman check" Fail "check-privileges":
        "the role barman lacks rights"
        => "see step 2; the next start of the primary grants them again";
    WAL_LEVEL = 4 "barman check" Fail "check-wal-level":
        "wal_level is minimal: nothing can be restored to a point in time"
        => "remove wal_level from your own settings and restart the primary";
    ARCHIVE_MODE = 4 "barman check" Fail "check-archive-mode":
        "the primary does not archive"
        => "set BARMAN_METHOD=rsync on the nodes and restart them: archive_mode needs a restart";
    ARCHIVING = 4 "barman check" Fail "check-archiving":
        "the primary's archive_command fails"
        => "see step 6 and `SELECT * FROM pg_stat_archiver` on the primary";
    CONFIGURATION = 4 "barman check" Fail "check-configuration":
        "barman's configuration contradicts itself: two servers share a directory"
        => "give each cluster in BARMAN_SERVERS a name of its own, and look for foreign files in {dir}";
    OTHER_LINE = 4 "barman check" Fail "check-other":
        "a line of `barman check` that is not in this table"
        => "barman's manual, `man barman-check`";
    ARCHIVE_ELSEWHERE = 5 "destination" Fail "archive-elsewhere":
        "the live archive_command ships to {there}, and barman looks in {here}: WAL is lost to the backups"
        => "remove archive_command from your own settings (ALTER SYSTEM RESET archive_command; files in conf.d; -c), then `pgnode reload` on the primary: a reload is enough for archive_command, and only archive_mode needs a restart";
    ARCHIVE_OVERRIDDEN = 5 "destination" Fail "archive-overridden":
        "the live archive_command is not pgnode's, it comes from {there}"
        => "remove archive_command there (in postgresql.auto.conf: ALTER SYSTEM RESET archive_command), then SELECT pg_reload_conf(): a reload is enough";
    ARCHIVE_OFF = 5 "destination" Fail "archive-off":
        "the primary ships no WAL, although BARMAN_METHOD=rsync rests on it"
        => "set BARMAN_METHOD=rsync on the nodes too and restart them: archive_mode needs a restart, a reload is not enough";
    ARCHIVE_PENDING = 5 "destination" Fail "archive-restart-pending":
        "archive_mode was changed in the files and the server still runs with the old one"
        => "restart the primary's container: archive_mode needs a restart";
    MARKER_TABLE = 6 "marker" Fail "no-marker":
        "no marker can be written: the table pgnode.marker in the database postgres is missing, or the role barman may not use it"
        => "restart the primary's container: its start makes the table and grants INSERT, SELECT and DELETE to barman; restores made before that can be compared by time only";
    SWITCH = 6 "switch" Fail "no-switch":
        "no switch of the WAL segment could be forced"
        => "as the superuser on the primary: GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_create_restore_point(text) TO barman";
    SLOT_MISSING = 6 "slot" Fail "slot-missing":
        "there is no slot `barman`, so nothing keeps WAL for barman: after a failover it is made again within a minute"
        => "`barman cron` as user barman, or `barman receive-wal --create-slot {server}`; if it stays away a new backup is needed: `barman backup {server}`";
    SLOT_INACTIVE = 6 "slot" Fail "slot-inactive":
        "nobody reads from the slot `barman`: receive-wal does not run, and WAL piles up on the primary"
        => "`barman cron` as user barman starts receive-wal; is cron running (`pgnode status`), is the barman host up?";
    SLOT_HOLDS = 6 "slot" Fail "slot-holds-wal":
        "the slot `{slot}` holds back {held} of WAL, and at {limit} (max_slot_wal_keep_size) it is given up"
        => "bring its reader back ({reader}); if it is gone for good: SELECT pg_drop_replication_slot('{slot}') on the primary; for more room PGNODE_MAX_SLOT_WAL";
    SLOT_LOST = 6 "slot" Fail "slot-lost":
        "WAL that the slot `{slot}` needs is gone: its reader was away for too long"
        => "for barman: `barman receive-wal --drop-slot {server}`, `barman receive-wal --reset {server}`, `barman cron`, and a new backup at once: `barman backup {server}`; a standby is cloned anew by itself";
    ARCHIVER = 6 "archiver" Fail "archiver-fails":
        "archive_command fails for {wal}, and WAL piles up on the primary until it works"
        => "run the command by hand as user postgres: {command}; then look at the log of the primary for what it says";
    DISK = 6 "disk" Fail "disk-nearly-full":
        "{path} has {free} left of {total}: WAL or backups soon do not fit"
        => "enlarge the volume of {path}; for backups also lower BARMAN_RETENTION, or delete one: `barman delete {server} oldest`";
    DISK_BACKUP = 6 "disk" Warn "no-room-for-a-backup":
        "{path} has {free} left, and the last backup took {size}: the next one does not fit"
        => "enlarge the volume of {path}, lower BARMAN_RETENTION or BARMAN_MINIMUM_REDUNDANCY, or delete one: `barman delete {server} oldest`";
    CLOCK = 6 "clock" Fail "clock-skew":
        "the clocks of this container and of {host} differ: a restore to a time would miss it by as much"
        => "let both hosts keep time (chrony, systemd-timesyncd); containers have the clock of their host";
    NOT_RECEIVED = 6 "round trip" Fail "wal-not-received":
        "the segment was finished on the primary and did not reach barman"
        => "is receive-wal running (`barman cron` as user barman starts it), is there room in {home}, does `pg_stat_archiver` (rsync) show a failure? The reason is in barman's log";
    NOT_ARCHIVED = 6 "round trip" Fail "wal-not-archived":
        "the segment reached barman and was not archived"
        => "`barman archive-wal {server}` as user barman, and read what it says; look for files in {home}/{server}/errors";
    NO_BACKUP = 7 "last backup" Fail "no-backup":
        "there is no complete backup: nothing can be restored"
        => "`barman backup {server}` as user barman, or `pgnode doctor --full`";
    STALE = 7 "last backup" Fail "stale-backup":
        "the newest complete backup is older than BARMAN_BACKUP_MAX_AGE ({limit})"
        => "`barman backup {server}` as user barman, and see in the log why the scheduled one (BARMAN_BACKUP_SCHEDULE) was not made";
    WAITING = 7 "last backup" Fail "backup-waits-for-wal":
        "backup {id} is copied and waits for the WAL of its end, which an idle server does not finish by itself"
        => "force a switch: as role barman on the primary SELECT pg_create_restore_point('x'), pg_switch_wal(), pg_create_restore_point('y'); then `barman archive-wal {server}` and `barman check-backup {server} {id}`";
    BLANK = 7 "last backup" Fail "blank-backup":
        "backup {id} was begun and never finished: barman was ended while it copied"
        => "`barman delete {server} {id}` and `barman backup {server}` as user barman";
    NOT_SHIPPED = 7 "into the bucket" Warn "backup-not-shipped":
        "backup {id} could not be brought into the bucket, and waits for a person"
        => "mend what it says, then `pgnode s3 base-sync {server} --retry-errors`; a task whose backup is gone for good is yours to remove: {file}";
    SHIPPING = 7 "into the bucket" Warn "shipping-fails":
        "the last `pgnode s3 {kind}-sync {server}` failed"
        => "mend what it says, and run it by hand; cron runs it again by its schedule";
    BACKUP = 7 "a new backup" Fail "backup-fails":
        "a backup could not be made"
        => "run `barman backup {server}` as user barman and read what it says";
    DRILL_DIR = 8 "scratch directory" Fail "drill-directory":
        "a drill empties its scratch directory, so it must be its own"
        => "set PGNODE_DRILL_DIR to a new or empty directory, away from PGDATA and from other files";
    DRILL_SPACE = 8 "room" Fail "drill-no-room":
        "{path} has {free} free and the drill needs {need}"
        => "set PGNODE_DRILL_DIR to a volume with that much room";
    DRILL_BUSY = 8 "one at a time" Warn "drill-running":
        "another drill of {server} is running"
        => "wait for its end; `pgnode doctor` shows its result";
    DRILL_TABLESPACE = 8 "tablespaces" Fail "drill-tablespace":
        "a tablespace was made after the backup: replaying that would touch its live directory"
        => "make a new backup, which holds the tablespace: `barman backup {server}`";
    DRILL_NO_BACKUP = 8 "a backup to restore" Fail "drill-no-backup":
        "there is no complete backup that can be restored here"
        => "`barman backup {server}` as user barman, or `pgnode doctor --full`";
    DRILL_LACKS = 8 "a backup to restore" Fail "drill-lacks":
        "something that backup {id} needs is not there: it cannot be restored"
        => "make a new backup at once: `pgnode backup` on the primary; `pgnode s3 verify` says what is missing";
    DRILL_COPY = 8 "base copy" Fail "drill-copy":
        "the backup's files could not be copied"
        => "look at {home}/{server}/base/{id}: is it whole, is the disk sound? Make a new backup: `barman backup {server}`";
    DRILL_VERIFY = 8 "manifest" Fail "drill-manifest":
        "backup {id} is not what was copied from the server: files are damaged or missing"
        => "do not rely on it: `barman backup {server}` now, then `barman delete {server} {id}`; check the disk under {home}";
    DRILL_WAL = 8 "WAL" Fail "drill-wal-missing":
        "segment {wal} is not in the archive, so no backup before it can be restored beyond it"
        => "make a new backup at once: `barman backup {server}`; look for the segment in {home}/{server}/errors and on the primary (pg_wal)";
    DRILL_START = 8 "recovery" Fail "drill-recovery":
        "the restored server did not come up"
        => "make a new backup: `barman backup {server}`, and read the server's last words above";
    DRILL_ROWS = 8 "rows" Fail "drill-rows":
        "the restored rows are not those that were written"
        => "do not rely on backup {id}: `barman backup {server}` now, and keep the old one for an examination";
    DRILL_CHECKSUMS = 8 "checksums" Fail "drill-checksums":
        "pages of the restored cluster have wrong checksums: the data were damaged before or in the backup"
        => "check the live cluster too (pg_amcheck, or pg_checksums on a stopped standby); restore from an older backup what is damaged";
    DRILL_BROKEN = 8 "scratch server" Fail "drill-broken":
        "the drill itself could not be carried out; this says nothing about the backup"
        => "read the reason above, mend it and run `pgnode drill {server}` again";
    DRILL_FAILED = 8 "last drill" Fail "drill-failed":
        "the last drill of {server} failed"
        => "`pgnode drill {server}` runs it again; make a new backup first: `barman backup {server}`";
    BUCKET_REFUSES = 9 "the bucket" Fail "bucket-refuses":
        "the S3 server answers, and does not do what it is asked"
        => "look at {variable}: {remedy}; then restart the container, or change the file that it names";
    BUCKET_SILENT = 9 "the bucket" Fail "bucket-silent":
        "the S3 server gives no answer: a wrong address, no route, a certificate that is not trusted (S3_CA_BUNDLE), or it is down"
        => "look at {variable}, and at the way from this container to there; WAL waits in pg_wal until it answers";
    BUCKET_ASKED = 9 "archiving" Fail "bucket-server-silent":
        "this node's server could not be asked whether it archives"
        => "look at `pgnode status` and at the log of this container";
    BUCKET_FOREIGN = 9 "whose it is" Fail "bucket-foreign":
        "this place in the bucket is another cluster's, so nothing of this one is archived or backed up: WAL piles up in pg_wal"
        => "set BARMAN_CLOUD_SERVER_NAME or S3_BUCKET_URI to a place of this cluster's own, and restart the container; where the other cluster is gone for good, move away what is there";
    BUCKET_WAL = 9 "round trip" Fail "bucket-wal-missing":
        "a segment was finished and did not come into the bucket: WAL piles up in pg_wal until it does"
        => "look at the archiver's check above and for `wal-push` in the log of this container; `pgnode status` says how many segments wait";
    BUCKET_NO_BACKUP = 9 "last backup" Fail "bucket-no-backup":
        "there is no complete backup in the bucket: nothing can be restored"
        => "`pgnode backup` on the primary";
    BUCKET_STALE = 9 "last backup" Fail "bucket-stale-backup":
        "the newest complete backup in the bucket is older than BARMAN_BACKUP_MAX_AGE ({limit})"
        => "`pgnode backup` on the primary, and see in the log why the scheduled one (BARMAN_BACKUP_SCHEDULE) was not made";
    BUCKET_BACKUP = 9 "a new backup" Fail "bucket-backup-fails":
        "a backup could not be made"
        => "`pgnode backup` on the primary, and read what it says";
    BUCKET_WRONG = 9 "verify" Fail "bucket-wrong":
        "what is in the bucket is not all that a restore needs"
        => "`pgnode s3 verify` shows all of it; make a new backup at once: `pgnode backup` on the primary (`barman backup` on a barman host)";
    BUCKET_LEFTOVERS = 9 "leftovers" Warn "bucket-leftovers":
        "backups that were killed have left objects and unfinished uploads, which cost room and are of no use"
        => "`pgnode backup list` shows them; `pgnode backup delete {id}` frees them";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once_and_every_remedy_says_something_to_do() {
        let names: BTreeSet<&str> = ALL.iter().map(|a| a.id).collect();
        assert_eq!(names.len(), ALL.len());
        for a in ALL {
            assert!((1..=9).contains(&a.step), "{}", a.id);
            assert!(a.remedy.len() > 10 && a.cause.len() > 10, "{}", a.id);
            assert!(
                !a.cause.ends_with('.') && !a.remedy.ends_with('.'),
                "{}",
                a.id
            );
        }
        assert!(ALL.is_sorted_by_key(|a| a.step));
    }
}
