//! Which boards there are, and what the image of each is made of. Pure.

use std::fmt;
use std::str::FromStr;

/// A kind of board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Board {
    /// A virtual 64-bit ARM machine, such as QEMU's `virt`.
    VirtArm64,
    /// A virtual PC.
    VirtAmd64,
    /// Raspberry Pi 3, 4, Zero 2 and later 64-bit ones that Debian 12's kernel knows.
    RaspiArm64,
    /// Raspberry Pi 1 and Zero.
    RaspiZero,
}

/// What is no board.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no board {0:?}: there are virt-arm64, virt-amd64, raspi-arm64, raspi-zero")]
pub struct UnknownBoard(String);

impl Board {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::VirtArm64, Self::VirtAmd64, Self::RaspiArm64, Self::RaspiZero];

    /// The Rust target of its agent, which `images/cross/build` builds.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::VirtArm64 | Self::RaspiArm64 => "aarch64-unknown-linux-musl",
            Self::VirtAmd64 => "x86_64-unknown-linux-musl",
            Self::RaspiZero => "arm-unknown-linux-musleabihf",
        }
    }

    /// What Debian calls its processor.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::VirtArm64 | Self::RaspiArm64 => "arm64",
            Self::VirtAmd64 => "amd64",
            Self::RaspiZero => "armel",
        }
    }

    /// The package that depends on the newest kernel.
    pub(super) fn kernel(self) -> &'static str {
        match self {
            Self::VirtArm64 => "linux-image-cloud-arm64",
            Self::VirtAmd64 => "linux-image-cloud-amd64",
            Self::RaspiArm64 => "linux-image-arm64",
            Self::RaspiZero => "linux-image-rpi",
        }
    }

    /// Whether the board's first program is the Raspberry Pi's firmware.
    pub(super) fn is_raspberry(self) -> bool {
        matches!(self, Self::RaspiArm64 | Self::RaspiZero)
    }

    /// Beginnings of the names of its device trees.
    pub(super) fn device_trees(self) -> &'static [&'static str] {
        match self {
            Self::VirtArm64 | Self::VirtAmd64 => &[],
            Self::RaspiArm64 => &["bcm2837-rpi-", "bcm2711-rpi-"],
            Self::RaspiZero => &["bcm2835-rpi-"],
        }
    }

    /// The modules of the kernel that are loaded at each boot, those that others need and those for what its device
    /// trees name left out.
    pub(super) fn modules(self) -> impl Iterator<Item = &'static str> {
        let own: &[&str] = match self {
            Self::VirtArm64 | Self::VirtAmd64 => &VIRTUAL,
            Self::RaspiArm64 | Self::RaspiZero => &RASPBERRY,
        };
        own.iter().chain(&MODULES).copied()
    }

    /// The modules that Wi-Fi needs. Boards that have none are none of a Raspberry Pi.
    pub(super) fn wifi_modules(self) -> impl Iterator<Item = &'static str> {
        let own: &[&str] = if self.is_raspberry() { &RASPBERRY_WIFI } else { &[] };
        own.iter().copied()
    }

    /// The kernel's command line. A kernel that goes wrong restarts; one cgroup hierarchy, with memory.
    pub(super) fn command_line(self) -> &'static str {
        match self {
            Self::VirtArm64 => "console=ttyAMA0 panic=10 quiet cgroup_enable=memory",
            Self::VirtAmd64 => "console=ttyS0 panic=10 quiet cgroup_enable=memory",
            Self::RaspiArm64 => {
                "console=tty1 console=ttyS1,115200 panic=10 quiet cgroup_enable=memory"
            }
            Self::RaspiZero => {
                "console=tty1 console=ttyAMA0,115200 panic=10 quiet cgroup_enable=memory"
            }
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VirtArm64 => "virt-arm64",
            Self::VirtAmd64 => "virt-amd64",
            Self::RaspiArm64 => "raspi-arm64",
            Self::RaspiZero => "raspi-zero",
        })
    }
}

impl FromStr for Board {
    type Err = UnknownBoard;

    fn from_str(text: &str) -> Result<Self, UnknownBoard> {
        let mut all = Self::ALL.into_iter();
        all.find(|board| board.to_string() == text).ok_or_else(|| UnknownBoard(text.to_owned()))
    }
}

/// What QEMU and its like emulate, with a watchdog in software.
const VIRTUAL: [&str; 6] =
    ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "softdog"];
/// What the device trees of a Raspberry Pi do not name: the watchdog, the card itself, Ethernet at USB and the other half
/// of each Ethernet, USB at PCI, clock rate and supply voltage.
const RASPBERRY: [&str; 15] = [
    "bcm2835_wdt",
    "mmc_block",
    "smsc95xx",
    "smsc",
    "lan78xx",
    "microchip",
    "broadcom",
    "mdio_bcm_unimac",
    "asix",
    "cdc_ether",
    "r8152",
    "rndis_host",
    "xhci_pci",
    "raspberrypi_cpufreq",
    "raspberrypi_hwmon",
];
/// The radio of a Raspberry Pi.
const RASPBERRY_WIFI: [&str; 1] = ["brcmfmac"];
/// File systems, and what containers and their networks need.
const MODULES: [&str; 25] = [
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "overlay",
    "lzo_rle",
    "zram",
    "tun",
    "veth",
    "wireguard",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_redir",
    "nft_reject_inet",
    "nft_limit",
    "sch_fq_codel",
    "sch_ingress",
    "sch_tbf",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_has_a_name() {
        for board in Board::ALL {
            assert_eq!(board.to_string().parse(), Ok(board));
        }
        assert!("raspi".parse::<Board>().unwrap_err().to_string().contains("raspi-zero"));
    }
}
