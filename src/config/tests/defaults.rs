//! What nothing given means.

use super::*;

#[test]
fn nothing_given_is_the_contracts_defaults() {
    let (config, sources) = load(&[]).unwrap();
    insta::assert_snapshot!(show::text(&config, &sources), @r"
    Node
      PGNODE_ROLE                      postgres                     default
      REPMGR_MASTER                    true                         default
      REPMGR_NODE_NAME                 node1                        default
      REPMGR_NODE_ID                   1                            derived from REPMGR_NODE_NAME
      REPMGR_NODE_NETWORK_NAME         box                          derived from the hostname

    PostgreSQL
      PGPORT                           5432                         default
      PGNODE_TECHNICAL_PORT            5434                         default
      POSTGRES_USER                    postgres                     default
      POSTGRES_PASSWORD                ********                     default
      POSTGRES_DB                      postgres                     derived from POSTGRES_USER
      POSTGRES_INITDB_ARGS             -                            not set
      PGNODE_MAX_SLOT_WAL              auto                         derived from the volume's size
      PGNODE_KEEP_DIVERGED             false                        default

    Cluster
      REPMGR_PRIMARY_HOST              -                            not set
      REPMGR_PRIMARY_PORT              -                            not set
      REPMGR_SLAVES                    -                            not set
      REPMGR_PARTNER_NODES             -                            derived from REPMGR_SLAVES and REPMGR_PRIMARY_HOST
      REPMGR_PASSWORD                  ********                     default
      REPMGR_STREAMING_PASSWORD        ********                     default

    Failover
      PGNODE_FAILOVER_PROFILE          default                      default
      PGNODE_FAILOVER_BEAT             1000ms                       derived from PGNODE_FAILOVER_PROFILE
      PGNODE_FAILOVER_LEASE            4000ms                       derived from PGNODE_FAILOVER_PROFILE
      PGNODE_FAILOVER_CLOSE            1500ms                       derived from PGNODE_FAILOVER_PROFILE
      PGNODE_FAILOVER_PROMISE          6000ms                       derived from PGNODE_FAILOVER_PROFILE
      PGNODE_SYNCHRONOUS               off                          default
      PGNODE_SYNCHRONOUS_STRICT        false                        default

    Backups
      BARMAN_MODE                      local                        default
      BARMAN_PASSWORD                  ********                     default
      BARMAN_STREAMING_PASSWORD        ********                     default
      BARMAN_SERVERS                   -                            not set
      BARMAN_SERVER_NAME               node1                        derived from REPMGR_NODE_NAME
      BARMAN_METHOD                    streaming                    default
      BARMAN_HOST                      -                            not set
      BARMAN_RETENTION                 RECOVERY WINDOW OF 5 DAYS    default
      BARMAN_BACKUP_SCHEDULE           0 3 * * *                    default
      BARMAN_INCREMENTAL_SCHEDULE      -                            not set
      BARMAN_MINIMUM_REDUNDANCY        1                            default
      BARMAN_COMPRESSION               gzip                         default
      BARMAN_BANDWIDTH_LIMIT           -                            not set
      BARMAN_PARALLEL_JOBS             1                            default
      BARMAN_IMMEDIATE_CHECKPOINT      true                         default
      BARMAN_BACKUP_MAX_AGE            2d                           default

    S3
      S3_BUCKET_URI                    -                            not set
      S3_ENDPOINT_URL                  -                            not set
      S3_REGION                        -                            not set
      S3_ACCESS_KEY_ID                 -                            not set
      S3_SECRET_ACCESS_KEY             -                            not set
      S3_SESSION_TOKEN                 -                            not set
      S3_CREDENTIALS_FILE              -                            not set
      S3_CONFIG_FILE                   -                            not set
      S3_PROFILE                       -                            not set
      S3_ADDRESSING                    -                            not set
      S3_CA_BUNDLE                     -                            not set
      S3_SSE                           -                            not set
      S3_SSE_KMS_KEY_ID                -                            not set
      S3_TAGS                          -                            not set
      S3_HISTORY_TAGS                  -                            not set
      S3_MAX_PARALLEL                  -                            not set
      S3_PART_SIZE                     -                            not set
      S3_COMPRESSION                   -                            not set
      S3_BASE_COMPRESSION              -                            not set
      S3_BANDWIDTH_LIMIT               -                            not set
      S3_RETRY                         -                            not set
      BARMAN_CLOUD_SERVER_NAME         node1                        derived from BARMAN_SERVER_NAME
      S3_WAL_SYNC_SCHEDULE             */15 * * * *                 default
      S3_BASE_SYNC_SCHEDULE            30 5 * * *                   default
      S3_FULL_SYNC_SCHEDULE            0 6 1 * *                    default
      S3_QUEUE_DIR                     /home/barman/data/.s3-queue  derived from BARMAN_BACKUP_DIR
      S3_QUEUE_KEEP                    30d                          default

    Restore
      PGNODE_RESTORE                   -                            not set
      PGNODE_RESTORE_FROM              -                            not set
      PGNODE_RESTORE_TABLESPACES       -                            not set
      PGNODE_RESTORE_TARGET_TIME       -                            not set
      PGNODE_RESTORE_TARGET_LSN        -                            not set
      PGNODE_RESTORE_TARGET_XID        -                            not set
      PGNODE_RESTORE_TARGET_NAME       -                            not set
      PGNODE_RESTORE_TARGET_IMMEDIATE  -                            not set
      PGNODE_RESTORE_TARGET_INCLUSIVE  -                            not set
      PGNODE_RESTORE_TARGET_TIMELINE   -                            not set
      PGNODE_RESTORE_TARGET_ACTION     -                            not set
      PGNODE_RESTORE_RETRY             -                            not set

    Drills
      PGNODE_DRILL_SCHEDULE            -                            not set
      PGNODE_DRILL_DIR                 /home/barman/data/.drill     derived from BARMAN_BACKUP_DIR

    ssh
      PGNODE_SSH_PORT                  2222                         default
      PGNODE_SSH_KEYS                  -                            not set

    HTTP and log
      PGNODE_HTTP_ADDR                 0.0.0.0:8008                 default
      PGNODE_LOG_FORMAT                text                         default
      RUST_LOG                         info                         default

    Time limits
      PGNODE_PRIMARY_TIMEOUT           1h                           default
      PGNODE_STOP_TIMEOUT              10                           default

    Directories
      PGNODE_DATA_DIR                  /var/lib/postgresql          default
      PGDATA                           /var/lib/postgresql/data     derived from PGNODE_DATA_DIR
      BARMAN_BACKUP_DIR                /home/barman/data            default
      REPMGR_CONFIG_DIR                /etc/repmgr.d                default
      BARMAN_CONFIG_DIR                /etc/barman.d                default
      PGNODE_CONFIG_DIR                /etc/pgnode                  default
      PGNODE_RUN_DIR                   /run/pgnode                  default
      PGNODE_SOCKET_DIR                /run/postgresql              default

    Warnings
      well-known default passwords are in use: POSTGRES_PASSWORD, REPMGR_PASSWORD, REPMGR_STREAMING_PASSWORD, BARMAN_PASSWORD, BARMAN_STREAMING_PASSWORD; set each of them, or its _FILE form, before anyone can reach port 5432
    ");
    assert_eq!(config.limits.primary_wait, Duration::from_secs(3600));
    assert_eq!(config.identity.id, NodeId(1));
    assert_eq!(config.default_passwords.len(), 5);
}
