//! What is on a board, by its device tree. Pure.
//!
//! In: a flattened device tree (Devicetree Specification, chapter 5: a header of numbers in 32 bits, a block of tokens, a
//! block of names). Out: the names by which drivers know its devices. What has another status than `okay` is not on
//! this board.

use std::collections::BTreeSet;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
/// Where the header says where the two blocks begin.
const STRUCTURE: usize = 8;
const NAMES: usize = 12;

/// The `compatible` of all devices. Of a file that is no device tree, those in front of the first mistake.
pub(super) fn compatible(tree: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (Some(()) | None) = read(tree, &mut found);
    found
}

#[derive(Default)]
struct Node<'a> {
    compatible: &'a [u8],
    is_off: bool,
}

fn read(tree: &[u8], found: &mut BTreeSet<String>) -> Option<()> {
    let mut at = number(tree, STRUCTURE)?;
    let names = number(tree, NAMES)?;
    let mut open: Vec<Node<'_>> = Vec::new();
    loop {
        let token = u32::try_from(number(tree, at)?).ok()?;
        at += 4;
        match token {
            BEGIN_NODE => {
                at = (at + text(tree, at)?.len() + 1).next_multiple_of(4);
                open.push(Node::default());
            }
            PROPERTY => {
                let (length, name) = (number(tree, at)?, number(tree, at + 4)?);
                let value = tree.get(at + 8..)?.get(..length)?;
                at = (at + 8 + length).next_multiple_of(4);
                let node = open.last_mut()?;
                match text(tree, names + name)? {
                    b"compatible" => node.compatible = value,
                    b"status" => node.is_off = !matches!(value, b"okay\0" | b"ok\0"),
                    _ => {}
                }
            }
            END_NODE => {
                let node = open.pop()?;
                if !node.is_off {
                    let names = node.compatible.split(|byte| *byte == 0);
                    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
                    found.extend(names.filter(|name| !name.is_empty()));
                }
            }
            NOTHING => {}
            _ => return Some(()),
        }
    }
}

fn number(tree: &[u8], at: usize) -> Option<usize> {
    let bytes = tree.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn text(tree: &[u8], at: usize) -> Option<&[u8]> {
    let rest = tree.get(at..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with a card reader that is there and a radio that is not.
    fn tree() -> Vec<u8> {
        const NAMES: &[u8] = b"compatible\0status\0";
        let status = 11;
        let mut structure = Vec::new();
        let word = |out: &mut Vec<u8>, number: usize| {
            out.extend(u32::try_from(number).unwrap().to_be_bytes());
        };
        let padded = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(4), 0);
        };
        let begin = |out: &mut Vec<u8>, name: &[u8]| {
            word(out, 1);
            padded(out, name);
        };
        let property = |out: &mut Vec<u8>, name: usize, value: &[u8]| {
            for number in [3, value.len(), name] {
                word(out, number);
            }
            padded(out, value);
        };
        begin(&mut structure, b"\0");
        property(&mut structure, 0, b"raspberrypi,4-model-b\0brcm,bcm2711\0");
        begin(&mut structure, b"mmc@7e340000\0");
        property(&mut structure, 0, b"brcm,bcm2711-emmc2\0");
        property(&mut structure, status, b"okay\0");
        word(&mut structure, 2);
        begin(&mut structure, b"wifi@1\0");
        property(&mut structure, status, b"disabled\0");
        property(&mut structure, 0, b"brcm,bcm4329-fmac\0");
        word(&mut structure, 2);
        for token in [4, 2, 9] {
            word(&mut structure, token);
        }
        let mut tree = Vec::new();
        for number in [0xd00d_feed, 0, 16, 16 + structure.len()] {
            word(&mut tree, number);
        }
        [tree, structure, NAMES.to_vec()].concat()
    }

    #[test]
    fn devices_that_are_off_are_left_out() {
        let found = compatible(&tree());
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["brcm,bcm2711", "brcm,bcm2711-emmc2", "raspberrypi,4-model-b"]);
    }

    #[test]
    fn what_is_cut_off_comes_to_an_end() {
        let tree = tree();
        for length in 0..tree.len() {
            assert!(compatible(&tree[..length]).len() <= 3);
        }
    }
}
