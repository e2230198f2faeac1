//! What a node's kernel lacks, as sentences for people, and how that is found out without changing
//! anything.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::route_messages as message;
use crate::netlink::{Batch, Refused, Socket};
use crate::nft;
use crate::rules::{Chain, Family, Hook, Point, Refusal, Ruleset, Set, Statement};
use crate::tag::Tag;

/// Something that the kernel cannot do, what that costs and how it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Lack {
    /// No nf_tables.
    #[error(
        "the kernel has no nf_tables: containers have no network; use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET"
    )]
    Rules,
    /// Connections are not tracked.
    #[error(
        "nf_tables of the kernel does not track connections: containers have no network; use a kernel with CONFIG_NFT_CT"
    )]
    Connections,
    /// Addresses are not translated.
    #[error(
        "nf_tables of the kernel does not translate addresses: containers have no network; use a kernel with CONFIG_NFT_NAT and CONFIG_NFT_MASQ, 5.2 or later"
    )]
    Translation,
    /// Connections cannot be balanced.
    #[error(
        "nf_tables of the kernel cannot count: containers have no network, because connections cannot be balanced; use a kernel with CONFIG_NFT_NUMGEN"
    )]
    Balancing,
    /// Packets cannot be refused with an answer.
    #[error(
        "nf_tables of the kernel cannot answer what it refuses: containers have no network; use a kernel with CONFIG_NFT_REJECT and CONFIG_NFT_REJECT_INET"
    )]
    Refusing,
    /// It is not known which addresses are the node's.
    #[error(
        "nf_tables of the kernel does not know the node's own addresses: containers have no network, because ports cannot be published; use a kernel with CONFIG_NFT_FIB and CONFIG_NFT_FIB_INET"
    )]
    OwnAddresses,
    /// No veth.
    #[error(
        "the kernel has no veth devices: containers have no network; use a kernel with CONFIG_VETH"
    )]
    Devices,
    /// No IPv6.
    #[error(
        "the kernel has no IPv6: networks with enable_ipv6 have IPv4 only on this node; remove ipv6.disable=1 from the kernel's command line, or use a kernel with CONFIG_IPV6"
    )]
    Ipv6,
    /// No token buckets.
    #[error(
        "the kernel cannot limit a device's rate: x-bandwidth has no effect on this node; use a kernel with CONFIG_NET_SCH_TBF"
    )]
    Limits,
}

impl Lack {
    /// Whether containers can have a network in spite of it.
    #[must_use]
    pub const fn is_bearable(self) -> bool {
        matches!(self, Self::Ipv6 | Self::Limits)
    }
}

/// What rules need beside tables and chains, each with a rule that needs nothing else.
fn needs() -> [(Lack, bool, Point, Statement); 7] {
    let row = || "row".to_owned();
    let balance = Statement::Balance { family: Family::V4, row: row(), count: 1, port: Some(80) };
    [
        (Lack::Connections, false, Point::Forward, Statement::Translated),
        (Lack::Translation, true, Point::Postrouting, Statement::Masquerade),
        (Lack::Translation, true, Point::Postrouting, Statement::SourceBecomes([0; 4].into())),
        (Lack::Balancing, true, Point::Prerouting, balance),
        (Lack::Refusing, false, Point::Forward, Statement::Refuse(Refusal::Prohibited)),
        (Lack::Refusing, false, Point::Forward, Statement::Refuse(Refusal::PortUnreachable)),
        (Lack::OwnAddresses, true, Point::Prerouting, Statement::OwnDestination),
    ]
}

/// A table with nothing but these rules.
fn sample(tag: Tag, needs: &[(Lack, bool, Point, Statement)]) -> Ruleset {
    let chain =
        |(number, (_, translates, point, statement)): (usize, &(Lack, bool, Point, Statement))| {
            let hook = Hook { translates: *translates, point: *point, priority: 0 };
            let family = Statement::Family(Family::V4);
            let rules = vec![vec![family, statement.clone()]];
            (format!("check/{number}"), Chain { hook: Some(hook), rules })
        };
    Ruleset {
        table: format!("limpet-check-{tag}"),
        sets: BTreeMap::from([("row".to_owned(), Set::Row(Family::V4, vec![[0; 4].into()]))]),
        chains: needs.iter().enumerate().map(chain).collect(),
    }
}

/// What the kernel's nf_tables lack. All is asked for at once; only if something is refused, one by one.
pub(super) fn of_rules(socket: &Socket, tag: Tag) -> Result<BTreeSet<Lack>, Refused> {
    let refused = |needs: &[_]| socket.attempt_all(&nft::check(&sample(tag, needs)));
    if refused(&needs())?.is_empty() {
        return Ok(BTreeSet::new());
    }
    if !refused(&[])?.is_empty() {
        return Ok(BTreeSet::from([Lack::Rules]));
    }
    let mut lacks = BTreeSet::new();
    for need in needs() {
        if !refused(core::slice::from_ref(&need))?.is_empty() {
            lacks.insert(need.0);
        }
    }
    Ok(lacks)
}

/// What the kernel lacks of devices. What is asked for cannot be, and the reason that the kernel gives
/// tells whether it knows what that is.
pub(super) fn of_devices(socket: &Socket, tag: Tag) -> BTreeSet<Lack> {
    let mut lacks = BTreeSet::new();
    let mut batch = Batch::default();
    message::make_impossible_pair(&mut batch, &tag.device(0));
    if code(socket.perform(&batch)) == Some(Errno::OPNOTSUPP) {
        lacks.insert(Lack::Devices);
    }
    let mut batch = Batch::default();
    message::limit_nothing(&mut batch);
    if code(socket.perform(&batch)) == Some(Errno::NOENT) {
        lacks.insert(Lack::Limits);
    }
    lacks
}

fn code(done: Result<(), Refused>) -> Option<Errno> {
    done.err().and_then(|refused| refused.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_that_costs_and_how_it_is_mended() {
        let lacks = needs().map(|need| need.0);
        for lack in lacks.into_iter().chain([Lack::Rules, Lack::Devices, Lack::Ipv6, Lack::Limits])
        {
            let text = lack.to_string();
            assert!(
                text.contains(": ") && text.contains("; ") && text.contains("CONFIG_"),
                "{text}"
            );
            assert_eq!(lack.is_bearable(), !text.contains("containers have no network"), "{text}");
        }
    }
}
