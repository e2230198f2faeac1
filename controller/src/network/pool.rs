//! The addresses of the fleet: one pool, cut into a part for each node.
//!
//! | rule | source |
//! |---|---|
//! | a part a node, /24 of a pool of the fleet | Docker Swarm, `default-addr-pool` and `default-addr-pool-mask-length`; flannel, `Network` and `SubnetLen` |
//! | IPv6 is a /48 of unique local addresses with a pseudo-random global id, a /64 a node | RFC 4193, section 3 |
//!
//! The first /16 of the pool, of a small one its first 64th, is no node's: addresses that stand for
//! services are in it. A node has the same number in both families.

use core::net::{IpAddr, Ipv6Addr};

use limpet_protocol::network::Subnet;
use sha2::{Digest as _, Sha256};

/// Smallest and largest prefix of the pool: with less than /20 there is room for few services.
const POOL_PREFIXES: (u8, u8) = (8, 20);
/// Longest prefix of a node's part: 13 instances.
const LONGEST_NODE_PREFIX: u8 = 28;
/// Bits that number the nodes, at most: as many as an IPv6 pool has.
const MOST_NODE_BITS: u8 = 16;
/// Largest range of addresses that stand for services.
const LARGEST_VIRTUAL_PREFIX: u8 = 16;
/// Of a smaller pool one part of so many doublings is for them.
const VIRTUAL_BITS: u8 = 6;
/// Of IPv6: the pool of a fleet, and the part of a node.
const PREFIX6: (u8, u8) = (48, 64);
/// Addresses of a node's part that no instance gets: the first, the node itself, and the last.
const RESERVED: u128 = 3;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    v4: Subnet,
    node_prefix: u8,
    v6: Subnet,
}

/// Why a pool cannot be cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// IPv6, or too small or large.
    #[error("expected a range of IPv4 addresses from /{} to /{}, such as 10.128.0.0/10", POOL_PREFIXES.0, POOL_PREFIXES.1)]
    Pool,
    /// Parts that are too small or too many.
    #[error(
        "expected 2 to {MOST_NODE_BITS} more bits than the pool's, and {LONGEST_NODE_PREFIX} at most"
    )]
    NodePrefix,
}

impl Pool {
    /// Cuts a pool into parts with a prefix.
    ///
    /// # Errors
    /// It is no such pool, or the parts are too small or too many.
    pub fn new(v4: Subnet, node_prefix: u8, v6: Subnet) -> Result<Self, PoolError> {
        let (least, most) = POOL_PREFIXES;
        if !v4.address().is_ipv4() || !(least..=most).contains(&v4.prefix()) {
            return Err(PoolError::Pool);
        }
        let bits = node_prefix.saturating_sub(v4.prefix());
        if !(2..=MOST_NODE_BITS).contains(&bits) || node_prefix > LONGEST_NODE_PREFIX {
            return Err(PoolError::NodePrefix);
        }
        Ok(Self { v4, node_prefix, v6 })
    }

    /// The IPv4 pool.
    #[must_use]
    pub const fn v4(&self) -> Subnet {
        self.v4
    }

    /// The IPv6 pool.
    #[must_use]
    pub const fn v6(&self) -> Subnet {
        self.v6
    }

    /// The prefix of a node's part.
    #[must_use]
    pub const fn node_prefix(&self) -> u8 {
        self.node_prefix
    }

    /// The addresses that stand for services.
    #[must_use]
    pub fn virtual_addresses(&self) -> Subnet {
        let prefix = self.v4.prefix().saturating_add(VIRTUAL_BITS).max(LARGEST_VIRTUAL_PREFIX);
        self.v4.part(prefix, 0).unwrap_or(self.v4)
    }

    /// The same for IPv6.
    #[must_use]
    pub fn virtual_addresses6(&self) -> Subnet {
        self.v6.part(PREFIX6.1, 0).unwrap_or(self.v6)
    }

    /// The first number that is a node's.
    #[must_use]
    pub fn first(&self) -> u32 {
        let parts = self.virtual_addresses().parts(self.node_prefix);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// The first number that is none any more.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::try_from(self.v4.parts(self.node_prefix)).unwrap_or(u32::MAX)
    }

    /// The part of the node with a number.
    #[must_use]
    pub fn subnet(&self, number: u32) -> Option<Subnet> {
        self.v4.part(self.node_prefix, u128::from(number))
    }

    /// The same for IPv6.
    #[must_use]
    pub fn subnet6(&self, number: u32) -> Option<Subnet> {
        self.v6.part(PREFIX6.1, u128::from(number))
    }

    /// How many instances of a node can have an address.
    #[must_use]
    pub fn addresses(&self) -> usize {
        let all = 1_u128 << (32 - u32::from(self.node_prefix).min(32));
        usize::try_from(all.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
    }
}

/// The unique local addresses of a fleet: the 40 bits of their global id are a digest of the fleet's own
/// id, which is random (RFC 4193, 3.2.2, takes a digest of a time and a machine's number).
#[must_use]
pub fn unique_local(cluster_id: &str) -> Subnet {
    let digest = Sha256::new()
        .chain_update(b"limpet unique local addresses\0")
        .chain_update(cluster_id)
        .finalize();
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&digest[..5]);
    let address = IpAddr::V6(Ipv6Addr::from(bytes));
    let pool = Subnet::new(address, PREFIX6.0);
    assert!(pool.is_ok(), "all bits behind the prefix are zero");
    pool.unwrap_or_else(|_| unreachable!("checked in the line before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(v4: &str, node_prefix: u8) -> Result<Pool, PoolError> {
        Pool::new(v4.parse().unwrap(), node_prefix, unique_local("a"))
    }

    #[test]
    fn a_pool_is_cut_into_virtual_addresses_and_nodes() {
        for (v4, prefix, virtual_range, first, end, of_first, addresses) in [
            ("10.128.0.0/10", 24, "10.128.0.0/16", 256, 16_384, "10.129.0.0/24", 253),
            ("10.0.0.0/8", 24, "10.0.0.0/16", 256, 65_536, "10.1.0.0/24", 253),
            ("172.16.0.0/12", 24, "172.16.0.0/18", 64, 4_096, "172.16.64.0/24", 253),
            ("192.168.0.0/16", 26, "192.168.0.0/22", 16, 1_024, "192.168.4.0/26", 61),
            ("10.0.0.0/20", 24, "10.0.0.0/26", 1, 16, "10.0.1.0/24", 253),
            ("10.0.0.0/20", 28, "10.0.0.0/26", 4, 256, "10.0.0.64/28", 13),
        ] {
            let pool = pool(v4, prefix).unwrap();
            assert_eq!(pool.virtual_addresses().to_string(), virtual_range, "{v4}");
            assert_eq!((pool.first(), pool.end()), (first, end), "{v4}");
            let subnet = pool.subnet(first).unwrap();
            assert_eq!(subnet.to_string(), of_first);
            assert!(!subnet.overlaps(&pool.virtual_addresses()), "{v4}");
            assert_eq!(pool.addresses(), addresses);
            assert!(pool.subnet(end).is_none() && pool.subnet(end - 1).is_some());
            assert!(pool.subnet6(end - 1).is_some());
            assert!(!pool.subnet6(first).unwrap().overlaps(&pool.virtual_addresses6()));
        }
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        for (v4, prefix, wrong) in [
            ("fd00::/48", 64, PoolError::Pool),
            ("10.0.0.0/7", 24, PoolError::Pool),
            ("10.0.0.0/24", 28, PoolError::Pool),
            ("10.0.0.0/10", 10, PoolError::NodePrefix),
            ("10.0.0.0/10", 8, PoolError::NodePrefix),
            ("10.0.0.0/10", 27, PoolError::NodePrefix),
            ("10.0.0.0/16", 30, PoolError::NodePrefix),
        ] {
            assert_eq!(pool(v4, prefix), Err(wrong), "{v4} {prefix}");
        }
    }

    #[test]
    fn a_fleet_has_its_own_unique_local_addresses() {
        let one = unique_local("0123456789abcdef");
        assert_eq!((one.prefix(), one), (48, unique_local("0123456789abcdef")));
        assert!(one.to_string().starts_with("fd"), "{one}");
        assert_ne!(one, unique_local("0123456789abcdee"));
    }
}
