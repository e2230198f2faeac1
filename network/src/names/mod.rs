//! What names mean to whom. Deciding code: it answers, [`crate::dns`] listens and sends.
//!
//! In: the picture, who asks (by the address of the container), the name and the kind of record. Out: an
//! [`Answer`]. A container learns only of services and instances with which it has a network in common,
//! so two applications with a service of one name do not see each other unless they share a network; of
//! two that are seen, that of the container's own application wins.
//!
//! The names are those that users of Docker Compose and of Docker Swarm know (Docker documentation,
//! "Networking in Compose", "Use swarm mode service discovery"):
//!
//! | name | what it stands for |
//! |---|---|
//! | `SERVICE`, an alias in the common network, `SERVICE.APPLICATION` | the service: its virtual address, or with `endpoint_mode: dnsrr` the nearest instances that are ready, in turn |
//! | `tasks.` before one of these | all instances that are ready |
//! | `SERVICE.SLOT`, `APPLICATION-SERVICE-SLOT`, `APPLICATION.SERVICE.SLOT`, a host name | the instance, while it runs |
//!
//! Each may have `.limpet` behind it, with which it is never asked of another server.

mod answer;
mod index;
mod reverse;
#[cfg(test)]
mod tests;

use core::net::IpAddr;

pub use index::Names;

/// The domain that is Limpet's alone.
pub const DOMAIN: &str = "limpet";

/// The kinds of records that make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Any other. A name of Limpet has none.
    Other,
}

/// What a question is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, in this order.
    Addresses(Vec<IpAddr>),
    /// This name (of an address).
    Name(String),
    /// There is no such name.
    NoSuchName,
    /// There is such a name, but no record of this kind now.
    NoData,
    /// Limpet does not know: other servers are asked.
    Forward,
    /// Who asks is no container of this node: it gets no answers from here.
    Refused,
}
