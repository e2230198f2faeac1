//! Platforms: which variant of an image runs on which machine.
//!
//! In: what a machine is, and what an index offers. Out: the offer that fits best. The order of
//! preference is containerd's: an ARM machine runs the variants below its own, arm64 is v8, and
//! a 64-bit ARM machine takes a 32-bit image where there is nothing better.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `os/architecture[/variant]`, in Go's words (OCI Image Specification, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v6`, `v7`, `v8`, …; none where the architecture has but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a platform: expected os/architecture or os/architecture/variant")]
pub struct PlatformError(pub String);

impl Platform {
    /// A platform with its names brought into the one form that is compared.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let variant = variant.unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = normal(&architecture.to_ascii_lowercase(), &variant);
        Self { os, architecture, variant }
    }

    /// The machine that this program was built for. Of ARM without a word on the variant it is
    /// taken that the compiler's target tells the truth: v7 with NEON or Thumb-2, else v6.
    #[must_use]
    pub fn host() -> Self {
        let variant = match std::env::consts::ARCH {
            "arm" if cfg!(target_feature = "v7") => Some("v7"),
            "arm" => Some("v6"),
            _ => None,
        };
        Self::new("linux", std::env::consts::ARCH, variant)
    }

    /// How well `offer` runs on this machine: 0 is its own, higher is worse, none is not at all.
    #[must_use]
    pub fn distance(&self, offer: &Self) -> Option<u32> {
        if self.os != offer.os {
            return None;
        }
        match (self.architecture.as_str(), offer.architecture.as_str()) {
            ("arm64", "arm64") => descend(level(self, 8)?, level(offer, 8)?),
            // The 32-bit instructions of an ARMv8 processor are a superset of v7's.
            ("arm64", "arm") => descend(8, level(offer, 7)?).map(|steps| steps + FOREIGN),
            ("arm", "arm") => descend(level(self, 7)?, level(offer, 7)?),
            ("amd64", "amd64") => descend(level(self, 1)?, level(offer, 1)?),
            ("amd64", "386") => Some(FOREIGN),
            (mine, theirs) if mine == theirs && self.variant == offer.variant => Some(0),
            _ => None,
        }
    }

    /// The best of the offers, the first of equals.
    pub fn select<T>(&self, offers: impl IntoIterator<Item = (Self, T)>) -> Option<T> {
        let fitting =
            offers.into_iter().filter_map(|(offer, it)| Some((self.distance(&offer)?, it)));
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, it)| it)
    }
}

/// Any native variant is better than the other word size.
const FOREIGN: u32 = 100;

fn descend(mine: u32, theirs: u32) -> Option<u32> {
    mine.checked_sub(theirs)
}

/// The number of the variant; `default` where none is named.
fn level(platform: &Platform, default: u32) -> Option<u32> {
    match platform.variant.as_deref() {
        None => Some(default),
        // `v8.2` counts as v8: the point versions add instructions that images do not rely on.
        Some(variant) => variant.strip_prefix('v')?.split('.').next()?.parse().ok(),
    }
}

fn normal(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i686" | "x86", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        other => other,
    };
    (architecture.to_owned(), (!variant.is_empty()).then(|| variant.to_owned()))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        match parts.as_slice() {
            words if !words.iter().all(is_word) => Err(PlatformError(text.to_owned())),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_variant_is_chosen() {
        let table = [
            ("linux/arm64", "linux/amd64 linux/arm/v7 linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm64", "linux/arm/v6 linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v7", "linux/arm/v5 linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v7", "linux/arm/v6 linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", "linux/arm/v7 linux/arm64", None),
            ("linux/arm/v6", "linux/arm/v5", Some("linux/arm/v5")),
            ("linux/arm", "linux/arm/v7", Some("linux/arm/v7")),
            ("linux/amd64", "linux/arm64 windows/amd64", None),
            ("linux/amd64", "unknown/unknown linux/386", Some("linux/386")),
            ("linux/x86_64", "linux/amd64/v3 linux/amd64", Some("linux/amd64")),
            ("linux/riscv64", "linux/riscv64", Some("linux/riscv64")),
        ];
        for (machine, offers, expected) in table {
            let machine: Platform = machine.parse().unwrap();
            let offers = offers.split(' ').map(|text| {
                let offer: Platform = text.parse().unwrap();
                (offer.clone(), offer.to_string())
            });
            assert_eq!(machine.select(offers).as_deref(), expected, "{machine}");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/arm 64", "linux//v8"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
