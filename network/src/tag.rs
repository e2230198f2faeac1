//! The tag: what tells the tables and devices of one agent from those of another in the same network
//! namespace.
//!
//! In: the node's name. Out: the names of its table and of its devices, which fit into the 15 bytes
//! that a device's name may have (`IFNAMSIZ`, linux/if.h).

use core::fmt;

use limpet_protocol::id::NodeId;
use sha2::{Digest as _, Sha256};

/// Begins the name of every device that leads to a container, whosever it is.
pub const CONTAINER_DEVICES: &str = "lv";
/// Begins the name of every device that leads to other nodes, whosever it is.
pub const TUNNEL_DEVICES: &str = "lw";
/// How many devices can be told apart: five hexadecimal digits are left for the number.
pub const MAX_DEVICES: u32 = 1 << 20;

/// The first six hexadecimal digits of the SHA-256 of a node's name.
///
/// ```
/// use limpet_network::tag::Tag;
/// let tag = Tag::of(&"pi-1".parse().unwrap());
/// assert_eq!(tag.to_string(), "9af75b");
/// assert_eq!(tag.table(), "limpet-9af75b");
/// assert_eq!(tag.tunnel_device(), "lw9af75b");
/// assert_eq!(tag.device(26), "lv9af75b0001a");
/// assert_eq!(tag.device_number("lv9af75b0001a"), Some(26));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 3]);

impl Tag {
    /// The tag of a node.
    #[must_use]
    pub fn of(node: &NodeId) -> Self {
        let digest = Sha256::digest(node.as_str().as_bytes());
        Self([digest[0], digest[1], digest[2]])
    }

    /// As a number. It marks addresses and routes that have no name; it is never 0, which is no mark.
    #[must_use]
    pub fn number(self) -> u32 {
        (1 << 24) | u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])
    }

    /// The table that holds all rules.
    #[must_use]
    pub fn table(self) -> String {
        format!("limpet-{self}")
    }

    /// The device that leads to other nodes.
    #[must_use]
    pub fn tunnel_device(self) -> String {
        format!("{TUNNEL_DEVICES}{self}")
    }

    /// What the names of all devices begin with that lead to containers.
    #[must_use]
    pub fn device_prefix(self) -> String {
        format!("{CONTAINER_DEVICES}{self}")
    }

    /// One of them; numbers from [`MAX_DEVICES`] on begin again.
    #[must_use]
    pub fn device(self, number: u32) -> String {
        format!("{CONTAINER_DEVICES}{self}{:05x}", number % MAX_DEVICES)
    }

    /// The number of one of them.
    #[must_use]
    pub fn device_number(self, device: &str) -> Option<u32> {
        let digits = device.strip_prefix(&self.device_prefix())?;
        u32::from_str_radix(digits, 16).ok().filter(|number| *number < MAX_DEVICES)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}
