//! Users and groups of an image: names to numbers, by the text of its `passwd` and `group` files.

/// Most supplementary groups of a process (Linux's own limit is 65,536; this bounds hostile files).
const MAX_GROUPS: usize = 256;

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its further groups.
    pub groups: Vec<u32>,
    /// The user's home.
    pub home: Option<String>,
}

/// A user or group that the image does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnknownName {
    /// A user.
    #[error("the image has no user {0:?} in /etc/passwd; name one that it has, or use a number")]
    User(String),
    /// A group.
    #[error("the image has no group {0:?} in /etc/group; name one that it has, or use a number")]
    Group(String),
}

struct User<'a> {
    uid: u32,
    gid: u32,
    name: &'a str,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { uid, gid, name, home: fields.nth(1).unwrap_or("") })
    })
}

/// Name, number and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_number(text: &str, group: &str) -> Result<u32, UnknownName> {
    let named = groups(group).find(|(name, ..)| *name == text).map(|(_, gid, _)| gid);
    named.or_else(|| text.parse().ok()).ok_or_else(|| UnknownName::Group(text.to_owned()))
}

/// Resolves `user[:group]` and further groups, as Docker does: a name is looked up first, then
/// taken as a number; without a group the user's own and those that list it as a member apply.
pub(super) fn resolve(
    user: &str,
    further: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, UnknownName> {
    let (user, primary) = match user.split_once(':') {
        Some((user, primary)) => (user, Some(primary).filter(|text| !text.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let known = users(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| users(passwd).find(|entry| Some(entry.uid) == number));
    let mut identity = match (&known, number) {
        (Some(known), _) => Identity {
            uid: known.uid,
            gid: known.gid,
            groups: Vec::new(),
            home: Some(known.home.to_owned()).filter(|home| !home.is_empty()),
        },
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) => return Err(UnknownName::User(user.to_owned())),
    };
    match (primary, &known) {
        (Some(primary), _) => identity.gid = group_number(primary, group)?,
        (None, Some(known)) => {
            let member = |members: &str| members.split(',').any(|member| member == known.name);
            let joined = groups(group).filter(|(.., members)| member(members));
            identity.groups = joined.map(|(_, gid, _)| gid).take(MAX_GROUPS).collect();
        }
        (None, None) => {}
    }
    for text in further.iter().take(MAX_GROUPS) {
        identity.groups.push(group_number(text, group)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:w:/var/www:/bin/sh\nbroken\n1000:x:7:8::/odd:\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:web,root\nvideo:x:44:web\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        let home = Some(home.to_owned()).filter(|home| !home.is_empty());
        Identity { uid, gid, groups: groups.to_vec(), home }
    }

    #[test]
    fn users_are_resolved_as_docker_does() {
        let table: [(&str, &[&str], Identity); 9] = [
            ("", &[], identity(0, 0, &[29], "/root")),
            ("web", &[], identity(33, 33, &[29, 44], "/var/www")),
            ("33", &[], identity(33, 33, &[29, 44], "/var/www")),
            ("web:audio", &[], identity(33, 29, &[], "/var/www")),
            ("web:12", &["video"], identity(33, 12, &[44], "/var/www")),
            ("5000", &[], identity(5000, 0, &[], "")),
            ("5000:6000", &["7", "7", "www"], identity(5000, 6000, &[7, 33], "")),
            ("1000", &[], identity(7, 8, &[], "/odd")),
            (":www", &[], identity(0, 33, &[], "/root")),
        ];
        for (user, further, expected) in table {
            let further: Vec<String> = further.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(resolve(user, &further, PASSWD, GROUP), Ok(expected), "{user:?}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let user = Err(UnknownName::User("nobody".to_owned()));
        assert_eq!(resolve("nobody", &[], PASSWD, GROUP), user);
        let group = Err(UnknownName::Group("staff".to_owned()));
        assert_eq!(resolve("web:staff", &[], PASSWD, GROUP), group);
        assert_eq!(resolve("0", &["staff".to_owned()], PASSWD, GROUP), group);
        assert_eq!(resolve("-1", &[], "", ""), Err(UnknownName::User("-1".to_owned())));
        assert_eq!(resolve("7", &[], "", ""), Ok(identity(7, 0, &[], "")));
    }
}
