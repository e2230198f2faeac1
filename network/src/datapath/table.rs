//! The table: rules take the place of those that are there, in one transaction, if they differ.

use super::{Applied, Datapath, DatapathError, flows};
use crate::netlink::{Attribute, Batch, Refused, Socket, attributes};
use crate::nft;
use crate::rules::{OTHERS_V4, OTHERS_V6, Ruleset, SoleForwarder};

/// What was applied last, and how to see that it is still there.
#[derive(Debug)]
pub(super) struct Last {
    rules: Ruleset,
    /// How often any rules had been changed, by anybody.
    generation: Vec<u8>,
    /// What tells the table from another of the same name.
    handle: Vec<u8>,
}

/// The names of all tables of any agent begin so.
const TABLES: &str = "limpet-";

impl Datapath {
    /// Puts rules in the place of those that are there, in one transaction, and lets the node forward
    /// packets. Nothing is done when they are there already; that somebody else took them away is
    /// noticed. What goes to instances that are no longer among those that get connections is led anew,
    /// as far as it is no connection that can end by itself.
    ///
    /// # Errors
    /// The kernel refused a rule; those from before stay.
    pub fn apply(&mut self, rules: &Ruleset) -> Result<Applied, DatapathError> {
        let Some(socket) = &self.rules else { return Err(DatapathError::NoRules) };
        if let Some(last) = self.last.as_mut().filter(|last| last.rules == *rules)
            && last.is_there(socket)
        {
            self.start_forwarding()?;
            return Ok(Applied::Same);
        }
        let change = self.last.take().map(|last| flows::Change::between(&last.rules, rules));
        socket.perform(&nft::replace(rules))?;
        let generation = ask(socket, &nft::get_generation(), nft::GENERATION)?;
        let handle = ask(socket, &nft::get_table(&rules.table), nft::TABLE_HANDLE)?;
        self.last = Some(Last { rules: rules.clone(), generation, handle });
        if let Some(change) = change {
            flows::forget(socket, &change)?;
        }
        self.start_forwarding()?;
        self.sweep()?;
        Ok(Applied::Changed)
    }

    /// How often any rules of the namespace have been changed, by anybody.
    ///
    /// # Errors
    /// The kernel has no rules or did not answer.
    pub fn generation(&self) -> Result<u32, DatapathError> {
        let Some(socket) = &self.rules else { return Err(DatapathError::NoRules) };
        let bytes = ask(socket, &nft::get_generation(), nft::GENERATION)?;
        Ok(<[u8; 4]>::try_from(bytes).map_or(0, u32::from_be_bytes))
    }

    /// For which families the table that is there says that nobody forwarded before Limpet.
    pub(super) fn sole_forwarder_before(&self) -> Result<SoleForwarder, Refused> {
        let Some(socket) = &self.rules else { return Ok(SoleForwarder::default()) };
        let table = self.tag.table();
        let chains = socket.list(&nft::list_chains(&table))?;
        let is_there = |name: &str| {
            chains.iter().any(|body| {
                let is = |kind, text| find(body, kind).and_then(|a| a.text()) == Some(text);
                is(nft::CHAIN_TABLE, &table) && is(nft::CHAIN_NAME, name)
            })
        };
        Ok(SoleForwarder { v4: is_there(OTHERS_V4), v6: is_there(OTHERS_V6) })
    }

    /// Removes all rules, devices, routes and addresses of this tag. Packets are no longer forwarded if
    /// nobody but Limpet wanted that.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn remove(&mut self) -> Result<(), DatapathError> {
        self.last = None;
        let sole = self.sole_forwarder_before()?;
        let devices = self.own_devices()?.into_iter().map(|(device, _)| device).collect();
        self.remove_devices(&devices)?;
        self.given_up.clear();
        self.due.clear();
        self.remove_gateway()?;
        if let Some(socket) = &self.rules {
            if !self.others_are_there(socket)? {
                self.stop_forwarding(sole)?;
            }
            socket.perform(&nft::remove(&self.tag.table()))?;
        }
        Ok(())
    }

    /// Whether another agent has rules in this namespace.
    fn others_are_there(&self, socket: &Socket) -> Result<bool, Refused> {
        let own = self.tag.table();
        let tables = socket.list(&nft::list_tables())?;
        let mut names = tables.iter().filter_map(|body| find(body, nft::TABLE_NAME)?.text());
        Ok(names.any(|name| name.starts_with(TABLES) && name != own))
    }
}

impl Last {
    /// Whether the table is still the one that was made. Of the rules of others any may have changed.
    fn is_there(&mut self, socket: &Socket) -> bool {
        let Ok(generation) = ask(socket, &nft::get_generation(), nft::GENERATION) else {
            return false;
        };
        if generation == self.generation {
            return true;
        }
        let handle = ask(socket, &nft::get_table(&self.rules.table), nft::TABLE_HANDLE);
        let same = handle.is_ok_and(|handle| handle == self.handle);
        if same {
            self.generation = generation;
        }
        same
    }
}

/// Asks for something and takes one attribute of the answer.
fn ask(socket: &Socket, request: &Batch, kind: u16) -> Result<Vec<u8>, Refused> {
    let body = socket.get(request)?;
    Ok(find(&body, kind).map(|found| found.value.to_vec()).unwrap_or_default())
}

fn find(body: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(body.get(nft::HEADER_BYTES..)?).find(|attribute| attribute.kind == kind)
}
