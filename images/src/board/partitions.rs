//! How a card is divided: the table in its first sector, and where each part begins. Pure.
//!
//! ```text
//! 1 MiB    boot: FAT, what the board's firmware reads, with limpet.toml       partition 1
//! 97 MiB   nothing: room for two slots of updates                             partitions 2 and 3, later
//! 289 MiB  state: ext4, to the end of the card after the first boot           partition 4
//! ```
//! The layout is that of the IBM PC's master boot record, which the Raspberry Pi's firmware reads.

/// A mebibyte, on whose multiples parts begin: cards erase by blocks of a few.
const MIB: u64 = 1 << 20;
/// A sector of the table.
const SECTOR_BYTES: usize = 512;
/// Firmware of all models of a family, a kernel and what it boots into, with room for larger ones.
const SLOT_BYTES: u64 = 96 * MIB;

/// The boot partition.
pub(super) const BOOT: Part = Part { number: 1, kind: FAT32, first: MIB, bytes: SLOT_BYTES };
/// The state's partition, as small as it may be until the first boot.
pub(super) const STATE: Part =
    Part { number: 4, kind: LINUX, first: MIB + 3 * SLOT_BYTES, bytes: 32 * MIB };
/// The whole. QEMU takes only powers of two for a card.
pub(super) const IMAGE_BYTES: u64 = 512 * MIB;

const FAT32: u8 = 0x0c;
const LINUX: u8 = 0x83;
/// What stands where cylinders, heads and sectors did, for programs that still look: beyond them all.
const NO_CYLINDERS: [u8; 3] = [0xfe, 0xff, 0xff];
const DISK_ID: usize = 440;
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;

/// One part of a card.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    number: usize,
    kind: u8,
    /// Where it begins.
    pub(super) first: u64,
    /// How long it is.
    pub(super) bytes: u64,
}

/// The first sector of an image. `disk_id` tells cards apart to the kernel.
pub(super) fn table(disk_id: u32) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    sector[DISK_ID..DISK_ID + 4].copy_from_slice(&disk_id.to_le_bytes());
    for part in [BOOT, STATE] {
        let at = ENTRIES + (part.number - 1) * ENTRY_BYTES;
        let entry = &mut sector[at..at + ENTRY_BYTES];
        entry[1..4].copy_from_slice(&NO_CYLINDERS);
        entry[4] = part.kind;
        entry[5..8].copy_from_slice(&NO_CYLINDERS);
        entry[8..12].copy_from_slice(&sectors(part.first).to_le_bytes());
        entry[12..16].copy_from_slice(&sectors(part.bytes).to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Bytes as sectors: the parts of an image are far from the end of 32 bits.
fn sectors(bytes: u64) -> u32 {
    u32::try_from(bytes / SECTOR_BYTES as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_behind_each_other_within_the_image() {
        const { assert!(BOOT.first + BOOT.bytes <= STATE.first) }
        const { assert!(STATE.first + STATE.bytes <= IMAGE_BYTES) }
        const { assert!(IMAGE_BYTES.is_power_of_two()) }
        let room = STATE.first - BOOT.first - BOOT.bytes;
        assert_eq!(room, 2 * SLOT_BYTES, "two slots fit in between");
    }

    #[test]
    fn the_table_is_that_of_a_pc() {
        let table = table(0x1234_5678);
        assert_eq!(table[440..444], [0x78, 0x56, 0x34, 0x12]);
        assert_eq!(
            table[446..462],
            [0, 0xfe, 0xff, 0xff, 12, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 3, 0]
        );
        assert_eq!(table[462..494], [0; 32]);
        assert_eq!(table[498], LINUX);
        assert_eq!(table[510..], [0x55, 0xaa]);
    }
}
