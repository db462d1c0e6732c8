//! Three nodes of Patroni and an etcd, for the benchmark: the same packages, the same faults, the same prober.

use super::Outcome;
use super::cluster::{Cluster, Flavour};
use super::docker::{Network, docker};

/// `ttl`, `loop_wait` and `retry_timeout`, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Cluster {
    pub(crate) fn patroni(prefix: &str, image: &str, timing: Timing) -> Outcome<Self> {
        let mut cluster = Self {
            network: Network::new(prefix)?,
            nodes: Vec::new(),
            flavour: Flavour::Patroni,
            can_switch_over: true,
            barman: false,
            bucket: None,
        };
        let (network, label) = (&cluster.network, cluster.network.label());
        let (name, ip) = (format!("{}-etcd", network.name), network.address(20));
        let mut etcd = vec!["run", "-d", "--name", &name, "--label", &label];
        etcd.extend(["--network", &network.name, "--network-alias", "etcd"]);
        etcd.extend(["--ip", &ip, image, "etcd"]);
        docker(&etcd)?;
        let gateway = network.gateway();
        for number in 1..=3_u8 {
            let vars = [
                ("NAME", format!("pg{number}")),
                ("GATEWAY", gateway.clone()),
                ("TTL", timing.0.to_string()),
                ("LOOP_WAIT", timing.1.to_string()),
                ("RETRY_TIMEOUT", timing.2.to_string()),
            ];
            let vars = vars.map(|(k, v)| (k.to_owned(), v));
            cluster.add(image, number, &vars, None, &[], &["patroni".to_owned()])?;
        }
        for node in &cluster.nodes {
            node.start()?;
        }
        cluster.first_start()?;
        Ok(cluster)
    }
}
