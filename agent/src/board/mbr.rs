//! The partition table of a card, as far as its last partition grows.
//!
//! In: the first sector. Out: the same with one partition that reaches farther. Pure. The layout is that of
//! the IBM PC's master boot record: four entries of 16 bytes from byte 446, each with the first sector and
//! the number of sectors as little-endian words, and 55 AA at the end.

/// A sector, by which the table counts whatever the card's own are.
pub(super) const SECTOR_BYTES: usize = 512;
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;
const ENTRY_COUNT: usize = 4;
const FIRST_SECTOR: usize = 8;
const SECTOR_COUNT: usize = 12;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// A table that cannot be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MbrError {
    /// It is another kind of table, or none.
    #[error("the disk has no master boot record")]
    NoTable,
    /// The partition is not in it.
    #[error("the table has no partition {0}")]
    NoPartition(u32),
    /// What comes behind it would be overwritten.
    #[error("partition {0} is not the last one")]
    NotLast(u32),
}

/// Lets a partition (from 1) reach to the end of a disk of so many sectors. None if it does already.
pub(super) fn grown(
    sector: &[u8; SECTOR_BYTES],
    number: u32,
    disk_sectors: u64,
) -> Result<Option<[u8; SECTOR_BYTES]>, MbrError> {
    if sector[SECTOR_BYTES - SIGNATURE.len()..] != SIGNATURE {
        return Err(MbrError::NoTable);
    }
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let index = index.filter(|index| *index < ENTRY_COUNT).ok_or(MbrError::NoPartition(number))?;
    let (first, count) = entry(sector, index);
    if count == 0 {
        return Err(MbrError::NoPartition(number));
    }
    if (0..ENTRY_COUNT).any(|other| entry(sector, other).0 > first) {
        return Err(MbrError::NotLast(number));
    }
    // The table has 32 bits: what is behind 2 TiB stays unused.
    let end = disk_sectors.min(u64::from(u32::MAX));
    let reach = u32::try_from(end.saturating_sub(u64::from(first))).unwrap_or(u32::MAX);
    if reach <= count {
        return Ok(None);
    }
    let mut changed = *sector;
    let at = ENTRIES + index * ENTRY_BYTES + SECTOR_COUNT;
    changed[at..at + 4].copy_from_slice(&reach.to_le_bytes());
    Ok(Some(changed))
}

fn entry(sector: &[u8; SECTOR_BYTES], index: usize) -> (u32, u32) {
    let word = |offset| {
        let at = ENTRIES + index * ENTRY_BYTES + offset;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&sector[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    (word(FIRST_SECTOR), word(SECTOR_COUNT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(partitions: &[(usize, u32, u32)]) -> [u8; SECTOR_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        sector[510..].copy_from_slice(&SIGNATURE);
        for (number, first, count) in partitions {
            let at = ENTRIES + (number - 1) * ENTRY_BYTES;
            sector[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        }
        sector
    }

    #[test]
    fn the_last_partition_reaches_to_the_end_of_the_disk() {
        let before = table(&[(1, 2048, 1000), (4, 4096, 100)]);
        assert_eq!(grown(&before, 4, 10_000), Ok(Some(table(&[(1, 2048, 1000), (4, 4096, 5904)]))));
        assert_eq!(grown(&before, 4, 4196), Ok(None));
        assert_eq!(grown(&before, 4, 4100), Ok(None), "never smaller");
        let end = u32::MAX - 4096;
        let whole = table(&[(1, 2048, 1000), (4, 4096, end)]);
        assert_eq!(grown(&before, 4, u64::MAX), Ok(Some(whole)));
    }

    #[test]
    fn nothing_else_is_touched() {
        let before = table(&[(1, 2048, 1000), (4, 4096, 100)]);
        assert_eq!(grown(&before, 1, 10_000), Err(MbrError::NotLast(1)));
        for number in [0, 2, 5] {
            assert_eq!(grown(&before, number, 10_000), Err(MbrError::NoPartition(number)));
        }
        assert_eq!(grown(&[0; SECTOR_BYTES], 1, 10_000), Err(MbrError::NoTable));
    }
}
