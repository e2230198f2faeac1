//! The messages: what a table, its chains, sets and rules look like, and how one takes the place of
//! another.

use super::expression::{write_chain_entry, write_rule};
use super::registers::{address_bytes, key_bytes, padded_width, type_number};
use crate::netlink::{ACKNOWLEDGE, APPEND, Attributes, Batch, CREATE, DUMP, REQUEST};
use crate::rules::{Chain, Field, Hook, Point, Ruleset, Set};

/// The subsystem of nf_tables in the type of each message (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10 << 8;
/// `enum nf_tables_msg_types`.
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
/// What is between these is done as a whole, when the second is there.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// `struct nfgenmsg`: family, version, resource. The family `inet`; for begin and end the subsystem.
const INET: [u8; 4] = [1, 0, 0, 0];
const ANY: [u8; 4] = [0, 0, 0, 10];
/// Flags of sets (`enum nft_set_flags`): it does not change; it is a map.
const CONSTANT: u32 = 2;
const MAP: u32 = 8;
/// The type of what leads to chains (`NFT_DATA_VERDICT`).
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// What nft(8) calls the type of a number (its datatype.h).
const INTEGER_TYPE: u32 = 4;
/// What elements of one message may take: their list is an attribute, whose length has 16 bits.
const MAX_ELEMENT_BYTES: usize = 48 * 1024;

/// Attributes that are read: of a table its name, and its handle, which no other table ever had.
pub(crate) const TABLE_NAME: u16 = 1;
pub(crate) const TABLE_HANDLE: u16 = 4;
/// Of a chain its table and its name.
pub(crate) const CHAIN_TABLE: u16 = 1;
pub(crate) const CHAIN_NAME: u16 = 3;
/// The number of the generation.
pub(crate) const GENERATION: u16 = 1;
/// What is before the attributes of an answer: `struct nfgenmsg`.
pub(crate) const HEADER_BYTES: usize = 4;

/// Rules take the place of those in the table of the same name.
pub(crate) fn replace(rules: &Ruleset) -> Batch {
    let mut batch = begin();
    delete(&mut batch, &rules.table);
    add(&mut batch, rules);
    end(&mut batch);
    batch
}

/// Finds out whether the kernel would take rules: the end is missing, so it changes nothing.
pub(crate) fn check(rules: &Ruleset) -> Batch {
    let mut batch = begin();
    add(&mut batch, rules);
    batch
}

/// Takes a table away.
pub(crate) fn remove(table: &str) -> Batch {
    let mut batch = begin();
    delete(&mut batch, table);
    end(&mut batch);
    batch
}

/// Asks how often any rules have been changed.
pub(crate) fn get_generation() -> Batch {
    let mut batch = Batch::default();
    batch.add("ask for the generation of the rules", (GET_GENERATION, REQUEST), &ANY, |_| {});
    batch
}

/// Asks for a table.
pub(crate) fn get_table(table: &str) -> Batch {
    let mut batch = Batch::default();
    batch.add(format!("ask for table {table}"), (GET_TABLE, REQUEST), &INET, |message| {
        message.text(1, table);
    });
    batch
}

/// Lists all tables.
pub(crate) fn list_tables() -> Batch {
    let mut batch = Batch::default();
    batch.add("list tables", (GET_TABLE, REQUEST | DUMP), &INET, |_| {});
    batch
}

/// Lists the chains of a table.
pub(crate) fn list_chains(table: &str) -> Batch {
    let mut batch = Batch::default();
    let attempt = format!("list the chains of table {table}");
    batch.add(attempt, (GET_CHAIN, REQUEST | DUMP), &INET, |message| {
        message.text(1, table);
    });
    batch
}

fn begin() -> Batch {
    let mut batch = Batch::default();
    batch.add("begin to change rules", (BEGIN, REQUEST), &ANY, |_| {});
    batch
}

fn end(batch: &mut Batch) {
    batch.add("change rules", (END, REQUEST), &ANY, |_| {});
}

/// A table that is not there cannot be taken away: it is made first.
fn delete(batch: &mut Batch, table: &str) {
    let name = |message: &mut Attributes<'_>| {
        message.text(1, table);
    };
    batch.add(format!("make table {table}"), (NEW_TABLE, REQUEST | CREATE), &INET, name);
    let attempt = format!("remove table {table}");
    batch.add(attempt, (DELETE_TABLE, REQUEST | ACKNOWLEDGE), &INET, name);
}

/// Adds a table: chains first, because maps lead to them; sets before the rules that look into them.
fn add(batch: &mut Batch, rules: &Ruleset) {
    let Ruleset { table, sets, chains } = rules;
    let kind = (NEW_TABLE, REQUEST | CREATE | ACKNOWLEDGE);
    batch.add(format!("make table {table}"), kind, &INET, |message| {
        message.text(1, table);
    });
    for (name, chain) in chains {
        add_chain(batch, table, name, chain);
    }
    for (number, (name, set)) in (1..).zip(sets) {
        add_set(batch, table, (name, number), set);
        add_elements(batch, table, name, set);
    }
    for (name, chain) in chains {
        for rule in &chain.rules {
            let words = || rule.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let attempt = format!("add to chain {name} the rule \"{}\"", words());
            batch.add(attempt, (NEW_RULE, REQUEST | CREATE | APPEND), &INET, |message| {
                message.text(1, table).text(2, name);
                message.nested(4, |list| write_rule(list, rule));
            });
        }
    }
}

fn add_chain(batch: &mut Batch, table: &str, name: &str, chain: &Chain) {
    let attempt = format!("make chain {name}");
    batch.add(attempt, (NEW_CHAIN, REQUEST | CREATE), &INET, |message| {
        message.text(1, table).text(3, name);
        if let Some(Hook { translates, point, priority }) = chain.hook {
            // `enum nf_inet_hooks`, linux/netfilter.h.
            let point = match point {
                Point::Prerouting => 0,
                Point::Input => 1,
                Point::Forward => 2,
                Point::Output => 3,
                Point::Postrouting => 4,
            };
            message.nested(4, |hook| {
                hook.big(1, point).big(2, priority.cast_unsigned());
            });
            message.text(7, if translates { "nat" } else { "filter" });
        }
    });
}

fn add_set(batch: &mut Batch, table: &str, (name, number): (&str, u32), set: &Set) {
    let attempt = format!("make set {name}");
    batch.add(attempt, (NEW_SET, REQUEST | CREATE), &INET, |message| {
        message.text(1, table).text(2, name);
        match set {
            Set::Members { key, .. } => {
                message.big(3, CONSTANT).big(4, type_number(key)).big(5, padded_width(key));
            }
            Set::Chains { key, .. } => {
                message.big(3, CONSTANT | MAP).big(4, type_number(key)).big(5, padded_width(key));
                message.big(6, VERDICT_TYPE).big(7, 0);
            }
            Set::Row(family, _) => {
                let address = [Field::Source(*family)];
                message.big(3, CONSTANT | MAP).big(4, INTEGER_TYPE).big(5, 4);
                message.big(6, type_number(&address)).big(7, padded_width(&address));
            }
        }
        message.big(10, number);
        if let Some(size) = u32::try_from(set.len()).ok().filter(|size| *size > 0) {
            message.nested(9, |description| {
                description.big(1, size);
            });
        }
    });
}

/// Adds a set's elements, in as many messages as they need.
fn add_elements(batch: &mut Batch, table: &str, name: &str, set: &Set) {
    type Write<'a> = Box<dyn Fn(&mut Attributes<'_>) + 'a>;
    let elements: Vec<Write<'_>> = match set {
        Set::Members { elements, .. } => elements
            .iter()
            .map(|key| Box::new(|e: &mut Attributes<'_>| member(e, key)) as _)
            .collect(),
        Set::Chains { elements, .. } => elements
            .iter()
            .map(|(key, chain)| {
                Box::new(|e: &mut Attributes<'_>| write_chain_entry(e, key, chain)) as _
            })
            .collect(),
        Set::Row(_, addresses) => (0_u32..)
            .zip(addresses)
            .map(|(number, address)| {
                Box::new(move |entry: &mut Attributes<'_>| {
                    entry.nested(1, |data| {
                        data.bytes(1, &number.to_ne_bytes());
                    });
                    entry.nested(2, |data| {
                        data.bytes(1, &address_bytes(*address));
                    });
                }) as _
            })
            .collect(),
    };
    let mut left = elements.iter().peekable();
    while left.peek().is_some() {
        let attempt = format!("fill set {name}");
        batch.add(attempt, (NEW_ELEMENTS, REQUEST | CREATE), &INET, |message| {
            message.text(1, table).text(2, name).nested(3, |list| {
                let end = list.position() + MAX_ELEMENT_BYTES;
                while let Some(write) = left.next_if(|_| list.position() < end) {
                    list.nested(1, write);
                }
            });
        });
    }
}

fn member(element: &mut Attributes<'_>, key: &[crate::rules::Value]) {
    element.nested(1, |data| {
        data.bytes(1, &key_bytes(key));
    });
}
