//! The other nodes, and which of the addresses are this one.

use super::address::{self, DEFAULT_PORT, Refused};
use super::given::{RawEnv, Surroundings};
use super::reader::Reader;
use super::rules;
use super::source::Source;
use super::table::{self, Var};
use super::types::{Address, NodeKind, Peers, StartAs};

impl Reader {
    /// A list of addresses, or a fault that does not repeat what may hold a password.
    fn addresses(&mut self, var: &'static Var, given: Option<&str>) -> Option<Vec<Address>> {
        match given.map(address::list) {
            Some(Ok(list)) => Some(list),
            Some(Err(refused)) => self.refused(var, given, refused),
            None if self.is_wrong(var) => None,
            None => Some(Vec::new()),
        }
    }

    fn refused<T>(
        &mut self,
        var: &'static Var,
        given: Option<&str>,
        refused: Refused,
    ) -> Option<T> {
        self.wrong(var, given.filter(|_| refused.showable), refused.rule);
        None
    }

    /// `REPMGR_PRIMARY_HOST` and `_PORT`; the port may also stand with the host.
    #[expect(
        clippy::option_option,
        reason = "unset and faulty are different things"
    )]
    fn primary(&mut self, raw: &RawEnv) -> Option<Option<Address>> {
        let given = raw.repmgr_primary_host.as_deref();
        let port = self.optional(
            &table::REPMGR_PRIMARY_PORT,
            raw.repmgr_primary_port.as_deref(),
            rules::port,
        );
        let host = match given.map(address::one) {
            Some(Ok(host)) => Some(host),
            Some(Err(refused)) => return self.refused(&table::REPMGR_PRIMARY_HOST, given, refused),
            None if self.is_wrong(&table::REPMGR_PRIMARY_HOST) => return None,
            None => None,
        };
        let port = port?;
        let Some((host, with_host)) = host else {
            return Some(None);
        };
        if let (Some(a), Some(b)) = (port, with_host)
            && a != b
        {
            let rule = format!("names another port than REPMGR_PRIMARY_PORT, which is {a}");
            self.wrong(&table::REPMGR_PRIMARY_HOST, given, rule);
            return None;
        }
        if port.is_none() && with_host.is_some() {
            self.sources.set(
                &table::REPMGR_PRIMARY_PORT,
                Source::Derived("REPMGR_PRIMARY_HOST"),
            );
        }
        Some(Some(Address {
            host,
            port: port.or(with_host).unwrap_or(DEFAULT_PORT),
        }))
    }

    /// `own_port` is `None` when the consumer port is wrong: then nobody is taken for this node.
    pub(super) fn peers(
        &mut self,
        raw: &RawEnv,
        ctx: &Surroundings<'_>,
        kind: Option<NodeKind>,
        start_as: Option<StartAs>,
        network_name: Option<&str>,
        own_port: Option<u16>,
    ) -> Option<Peers> {
        let primary = self.primary(raw);
        let slaves = self.addresses(&table::REPMGR_SLAVES, raw.repmgr_slaves.as_deref());
        let partners = self.addresses(
            &table::REPMGR_PARTNER_NODES,
            raw.repmgr_partner_nodes.as_deref(),
        );
        let (mut primary, slaves, mut partners) = (primary?, slaves?, partners?);

        let hostname = ctx.hostname.as_str();
        let names: Vec<&str> = network_name.into_iter().chain([hostname]).collect();
        let is_self = |address: &Address| {
            own_port.is_some_and(|port| address::is_self(address, &names, port))
        };

        if partners.is_empty() && raw.repmgr_partner_nodes.is_none() {
            let from = "REPMGR_SLAVES and REPMGR_PRIMARY_HOST";
            self.sources
                .set(&table::REPMGR_PARTNER_NODES, Source::Derived(from));
            for address in slaves.iter().chain(&primary) {
                if !partners.iter().any(|known| address::same(known, address)) {
                    partners.push(address.clone());
                }
            }
        }
        partners.retain(|address| !is_self(address));
        let own_primary = primary.take_if(|address| is_self(address)).is_some();

        if kind.is_some_and(NodeKind::is_witness) && primary.is_none() && partners.is_empty() {
            self.wrong_with(
                &table::REPMGR_PARTNER_NODES,
                None,
                "names no other node, and a witness (PGNODE_ROLE=witness) needs a cluster to vote in",
                format!(
                    "name the data nodes, for example REPMGR_PARTNER_NODES={}",
                    table::REPMGR_PARTNER_NODES.example
                ),
            );
            return None;
        }
        if start_as == Some(StartAs::Slave) && primary.is_none() && partners.is_empty() {
            self.wrong_with(
                &table::REPMGR_PRIMARY_HOST,
                None,
                if own_primary {
                    "names this node itself, which is a slave (REPMGR_MASTER=false) and knows no other node"
                } else {
                    "is not set, and a slave (REPMGR_MASTER=false) needs a node to clone from"
                },
                format!(
                    "set REPMGR_PRIMARY_HOST to the master's address, for example REPMGR_PRIMARY_HOST={}",
                    table::REPMGR_PRIMARY_HOST.example
                ),
            );
            return None;
        }
        if let (Some(StartAs::Master), Some(other)) = (start_as, &primary)
            && raw.repmgr_master.is_none()
        {
            self.sources.note(format!(
                "REPMGR_PRIMARY_HOST names another node ({other}), but REPMGR_MASTER is not set and means true: on an empty disk this node would create a cluster of its own; a slave says REPMGR_MASTER=false"
            ));
        }
        Some(Peers {
            slaves,
            primary,
            partners,
        })
    }
}
