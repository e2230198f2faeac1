//! Which container has which address, and which address stands for which service.
//!
//! In: the node's subnets and who wants an address. Out: addresses, or why there is none. Both books
//! are as large as what they hold, and that is bounded by the subnet.

mod book;
mod virtual_book;

pub use book::{AddressBook, AddressError, Wish};
pub use virtual_book::{VirtualAddressError, VirtualAddresses};

#[cfg(test)]
mod tests;
