//! Modules of a kernel: which devices they are for, and the order in which they are loaded. Pure.
//!
//! In: what each module says of itself in its section `.modinfo` (`depends=a,b`, `alias=of:N*T*CNAME` for each device of a
//! device tree that it drives), and what is wanted. Out: names in an order in which each comes after those that it
//! needs. Debian's packages do not have the lists that `depmod` makes of this on the machine where they are installed.

use std::collections::BTreeSet;

use memchr::memmem;

/// In front of the list of names; the zero ends what stands before it in the section.
const DEPENDS: &[u8] = b"\0depends=";
/// In front of the name of a device, of any node and of any type.
const DEVICE: &[u8] = b"\0alias=of:N*T*C";
const SUFFIX: &str = ".ko";

/// What a module needs, by the content of its file.
pub(super) fn needs(content: &[u8]) -> Vec<String> {
    let list = values(content, DEPENDS).next().unwrap_or_default();
    list.split(',').filter(|name| !name.is_empty()).map(named).collect()
}

/// The devices that a module drives, as a device tree names them.
pub(super) fn devices(content: &[u8]) -> impl Iterator<Item = String> {
    // Each is there twice: alone, and with anything that the tree says behind it.
    values(content, DEVICE).map(|name| name.trim_end_matches("C*").to_owned())
}

/// What stands behind a name in the section.
fn values<'a>(content: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    memmem::find_iter(content, name).map(move |at| {
        let rest = &content[at + name.len()..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    })
}

/// A module's name: `-` and `_` are the same to the kernel.
fn named(name: &str) -> String {
    name.replace('-', "_")
}

/// A module's name by the path of its file, if that is one.
pub(super) fn of_path(path: &str) -> Option<String> {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.strip_suffix(SUFFIX).map(named)
}

/// What is wanted, after what that needs. Names that no module has are left out: they are in the
/// kernel, or nothing of it.
pub(super) fn in_order(
    wanted: impl Iterator<Item = String>,
    needs: impl Fn(&str) -> Option<Vec<String>>,
) -> Vec<String> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<(String, bool)> = wanted.map(|name| (named(&name), false)).collect();
    open.reverse();
    while let Some((name, complete)) = open.pop() {
        let Some(needed) = needs(&name) else { continue };
        if complete {
            order.push(name);
        } else if seen.insert(name.clone()) {
            open.push((name, true));
            open.extend(needed.into_iter().map(|name| (name, false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let content = b"\x7fELF...\0license=GPL\0depends=nf-conntrack,libcrc32c\0name=nft_ct\0";
        assert_eq!(needs(content), ["nf_conntrack", "libcrc32c"]);
        assert_eq!(needs(b"\0depends=\0"), [""; 0]);
        let content = b"\0alias=of:N*T*Cbrcm,sdhostC*\0alias=of:N*T*Cbrcm,sdhost\0alias=pci:v1\0";
        assert_eq!(devices(content).collect::<Vec<_>>(), ["brcm,sdhost"; 2]);
        assert_eq!(of_path("lib/modules/6.1/kernel/rtc/rtc-pl031.ko").unwrap(), "rtc_pl031");
        assert_eq!(of_path("lib/modules/6.1/modules.builtin"), None);
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let known: std::collections::BTreeMap<_, _> = [
            ("nft_ct", vec!["nf_tables", "nf_conntrack"]),
            ("nf_conntrack", vec!["libcrc32c"]),
            ("nf_tables", vec!["libcrc32c"]),
            ("libcrc32c", vec![]),
            ("loop_a", vec!["loop_b"]),
            ("loop_b", vec!["loop_a"]),
        ]
        .map(|(name, needs)| {
            (name.to_owned(), needs.into_iter().map(str::to_owned).collect::<Vec<_>>())
        })
        .into();
        let needs = |name: &str| known.get(name).cloned();
        let order =
            in_order(["nft-ct", "nf_tables", "built_in"].map(str::to_owned).into_iter(), needs);
        assert_eq!(order, ["libcrc32c", "nf_conntrack", "nf_tables", "nft_ct"]);
        assert_eq!(in_order(["loop_a".to_owned()].into_iter(), needs).len(), 2, "comes to an end");
    }
}
