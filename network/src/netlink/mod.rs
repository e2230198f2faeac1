//! Netlink: how the kernel is told of devices, addresses, routes and rules, and asked for them.
//!
//! In: messages, written attribute by attribute into a [`Batch`]. Out: done, or a [`Refused`] that says
//! which of them the kernel did not take and why. Nothing here knows what the messages mean.
//!
//! Layout of messages and attributes: linux/netlink.h; replies: Documentation/userspace-api/netlink of
//! the kernel.

mod message;
mod reading;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use message::{Attributes, Batch};
pub(crate) use reading::{Attribute, attributes, native_u32};
pub(crate) use socket::{Refused, Socket};

/// The message is a request (linux/netlink.h).
pub(crate) const REQUEST: u16 = 0x1;
/// Answer it even if all is well.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
/// List everything.
pub(crate) const DUMP: u16 = 0x300;
/// Take the place of what is there.
pub(crate) const REPLACE: u16 = 0x100;
/// Fail if it is there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Make it if it is not there.
pub(crate) const CREATE: u16 = 0x400;
/// Put it behind the others.
pub(crate) const APPEND: u16 = 0x800;
