//! The order in which modules of a kernel are loaded. Pure.
//!
//! In: what each module says of itself in its section `.modinfo` (`depends=a,b`), and what is wanted. Out:
//! names in an order in which each comes after those that it needs. Debian's packages do not have the list
//! that `depmod` makes of this on the machine where they are installed.

use std::collections::BTreeSet;

/// In front of the list of names; the zero ends what stands before it in the section.
const DEPENDS: &[u8] = b"\0depends=";
const SUFFIX: &str = ".ko";

/// What a module needs, by the content of its file.
pub(super) fn needs(content: &[u8]) -> Vec<String> {
    let found = content.windows(DEPENDS.len()).position(|window| window == DEPENDS);
    let Some(at) = found else { return Vec::new() };
    let rest = &content[at + DEPENDS.len()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let list = String::from_utf8_lossy(&rest[..end]);
    list.split(',').filter(|name| !name.is_empty()).map(named).collect()
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
pub(super) fn in_order<'a>(
    wanted: impl Iterator<Item = &'a str>,
    needs: impl Fn(&str) -> Option<Vec<String>>,
) -> Vec<String> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<(String, bool)> = wanted.map(|name| (named(name), false)).collect();
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
        let order = in_order(["nft-ct", "nf_tables", "built_in"].into_iter(), needs);
        assert_eq!(order, ["libcrc32c", "nf_conntrack", "nf_tables", "nft_ct"]);
        assert_eq!(in_order(["loop_a"].into_iter(), needs).len(), 2, "comes to an end");
    }
}
