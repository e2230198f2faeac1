//! Recipes: what an image of Debian's packages is made of.
//!
//! In: the text of an `image.toml`. Out: a checked [`Recipe`], or what is wrong with it. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Packages that a recipe may name; what they depend on is not counted.
const MAX_PACKAGES: usize = 200;

/// What no program in a container reads. Folders end in `/`; `*` stands for a part of a name.
const NOT_NEEDED: [&str; 7] = [
    "usr/share/bug/",
    "usr/share/doc-base/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/doc/",
];

/// An image to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What services call the image.
    pub name: String,
    /// Packages that are in it, with all that they depend on.
    pub packages: Vec<String>,
    /// Packages that are not in it though others depend on them, and what only they depend on: those
    /// that are there to install things with, and what a program can do without.
    #[serde(default)]
    pub without: Vec<String>,
    /// Beginnings of paths that are left out. `*` stands for any part of a name.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Users beside root and nobody.
    #[serde(default)]
    pub users: Vec<User>,
    /// Folders that no package brings.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// `NAME=value`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Members of the image's configuration as OCI spells them: `User`, `Entrypoint`, `Cmd`, ...
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// A user with a group of the same name and number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub id: u32,
    /// The home folder, which `folders` makes.
    #[serde(default = "nowhere")]
    pub home: String,
}

/// A folder to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where, without the first slash.
    pub path: String,
    /// The number of the user whose it is; without a word root's.
    #[serde(default)]
    pub owner: u32,
    /// Permission bits: `0o755` without a word.
    #[serde(default = "open")]
    pub mode: u32,
}

fn nowhere() -> String {
    "/nonexistent".into()
}

fn open() -> u32 {
    0o755
}

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is no TOML, or not of this form.
    #[error("read it as TOML")]
    Syntax(#[source] toml::de::Error),
    /// No packages, or too many.
    #[error("`packages` names {0} packages: name 1 to {MAX_PACKAGES}")]
    Count(usize),
    /// What is no package name could be taken for an option of apt-get.
    #[error("{0:?} is no name of a package")]
    Package(String),
    /// A path that leads out of the image.
    #[error("{0:?} is no path in an image: begin below the root, without `..`")]
    Path(String),
    /// The environment is said in a place where it would be overwritten.
    #[error("write `environment` instead of `config.Env`")]
    Environment,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(RecipeError::Syntax)?;
        if recipe.packages.is_empty() || recipe.packages.len() > MAX_PACKAGES {
            return Err(RecipeError::Count(recipe.packages.len()));
        }
        for name in recipe.packages.iter().chain(&recipe.without) {
            if !is_package(name) {
                return Err(RecipeError::Package(name.clone()));
            }
        }
        if let Some(folder) = recipe.folders.iter().find(|folder| !stays_inside(&folder.path)) {
            return Err(RecipeError::Path(folder.path.clone()));
        }
        if recipe.config.contains_key("Env") {
            return Err(RecipeError::Environment);
        }
        Ok(recipe)
    }

    /// Whether something of a package comes into the image.
    pub(super) fn keeps(&self, path: &str) -> bool {
        // Whoever passes an image on passes the licences of what is in it on.
        let licence = path.starts_with("usr/share/doc/") && path.ends_with("/copyright");
        let patterns = NOT_NEEDED.into_iter().chain(self.drop.iter().map(String::as_str));
        licence || !patterns.into_iter().any(|pattern| begins(path, pattern))
    }

    /// `/etc/passwd` and `/etc/group`.
    pub(super) fn accounts(&self) -> [(&'static str, String); 2] {
        let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
        let mut group = "root:x:0:\n".to_owned();
        for User { name, id, home } in &self.users {
            passwd += &format!("{name}:x:{id}:{id}::{home}:/usr/sbin/nologin\n");
            group += &format!("{name}:x:{id}:\n");
        }
        passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
        group += "nogroup:x:65534:\n";
        [("etc/passwd", passwd), ("etc/group", group)]
    }
}

/// Whether a word is a name of a package (Debian Policy, 5.6.7).
fn is_package(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() > 1
        && name.starts_with(plain)
        // Apt would take it for the wish to remove what is before it.
        && !name.ends_with('-')
        && name.chars().all(|c| plain(c) || matches!(c, '+' | '-' | '.'))
}

pub(super) fn stays_inside(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a path begins as a pattern says, in which `*` stands for anything but a slash.
fn begins(path: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return path.starts_with(pattern) };
    let Some(tail) = path.strip_prefix(start) else { return false };
    let part = tail.find('/').unwrap_or(tail.len());
    (0..=part).any(|end| tail.get(end..).is_some_and(|tail| begins(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_beginnings() {
        let cases = [
            ("usr/lib/x/gconv/a.so", "usr/lib/*/gconv/", true),
            ("usr/lib/x/y/gconv/a.so", "usr/lib/*/gconv/", false),
            ("usr/lib/llvmjit_types.bc", "usr/lib/llvmjit", true),
            ("usr/lib", "usr/lib/", false),
            ("etc/a.conf", "etc/*.conf", true),
            ("etc/a/b.conf", "etc/*.conf", false),
        ];
        for (path, pattern, expected) in cases {
            assert_eq!(begins(path, pattern), expected, "{path} {pattern}");
        }
    }

    #[test]
    fn licences_stay_and_pages_go() {
        let recipe = Recipe::parse("name = 'a'\npackages = ['dash']\ndrop = ['bin/']").unwrap();
        assert!(recipe.keeps("usr/share/doc/dash/copyright") && recipe.keeps("usr/bin/dash"));
        for path in ["usr/share/doc/dash/changelog.gz", "usr/share/man/man1/dash.1.gz", "bin/dash"]
        {
            assert!(!recipe.keeps(path), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let refused = |rest: &str| {
            let text = format!("name = 'a'\n{rest}");
            Recipe::parse(&text).unwrap_err().to_string()
        };
        assert_eq!(refused("packages = []"), "`packages` names 0 packages: name 1 to 200");
        assert_eq!(refused("packages = ['--yes']"), "\"--yes\" is no name of a package");
        assert_eq!(refused("package = ['a']"), "read it as TOML");
        let path = "\"../etc\" is no path in an image: begin below the root, without `..`";
        assert_eq!(refused("packages = ['dash']\nfolders = [{ path = '../etc' }]"), path);
        let env = refused("packages = ['dash']\nconfig = { Env = [] }");
        assert_eq!(env, "write `environment` instead of `config.Env`");
    }

    #[test]
    fn users_get_names() {
        let text = "name = 'a'
            packages = ['dash']
            users = [{ name = 'me', id = 70, home = '/srv' }]
            folders = [{ path = 'srv', owner = 70, mode = 0o700 }, { path = 'opt' }]";
        let recipe = Recipe::parse(text).unwrap();
        let [(_, passwd), (_, group)] = recipe.accounts();
        assert!(passwd.contains("\nme:x:70:70::/srv:/usr/sbin/nologin\n"), "{passwd}");
        assert!(group.contains("\nme:x:70:\n"), "{group}");
        let folders = [&recipe.folders[0], &recipe.folders[1]];
        assert_eq!(folders.map(|it| (it.owner, it.mode)), [(70, 0o700), (0, 0o755)]);
    }
}
