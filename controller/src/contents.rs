//! Configs and secrets in the store: put, named, required, swept away.
//!
//! In: contents as people give them. Out: their ids; and, for an application that is applied, what
//! has to stay as it is until that is in the store. A config is kept in clear under the SHA-256 of
//! its bytes, a secret sealed ([`Vault`](crate::store::Vault)) under an id that tells nothing. What no
//! application, no spec in use and no name needs goes after a while ([`GRACE_MS`]).

use std::collections::BTreeSet;

use limpet_protocol::application::Application;
use limpet_protocol::codec::{self, CodecError};
use limpet_protocol::id::{ContentId, ContentName};
use limpet_protocol::limits::MAX_CONTENT_BYTES;
use limpet_protocol::message::ConfigContent;
use limpet_protocol::spec::{ContentMount, Spec};
use limpet_seal::Secret;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::store::records::{ApplicationRecord, ConfigRecord, ContentNameRecord, SecretRecord};
use crate::store::{
    CommitError, Compare, Entry, Key, Kind, MAX_VALUE_BYTES, Op, Revision, Store, StoreError,
    Transaction, VaultError,
};

/// How long a content stays that nothing names: between its upload and the apply that names it.
const GRACE_MS: u64 = 60 * 60 * 1_000;
/// Most configs and secrets, together.
const MAX_CONTENTS: usize = 10_000;

/// Why a content cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error(
        "{size} bytes are more than a {kind} may have ({MAX_CONTENT_BYTES}, one message to a node): \
         put the file into the image, or into a volume or a folder of the node"
    )]
    TooLarge { kind: ContentKind, size: usize },
    #[error(
        "there are {MAX_CONTENTS} configs and secrets already: remove applications or names that need some"
    )]
    TooMany,
    #[error(
        "there is a {kind} {name} already: give --replace (`replace=true`) to change it; who uses it gets it with the next apply"
    )]
    Taken { kind: ContentKind, name: ContentName },
    #[error("there is no {kind} {name}: make it with `limpet {kind} create {name} FILE`")]
    NoName { kind: ContentKind, name: String },
    #[error(
        "services.{service}: {kind} {name} has no content {id} here: upload it first, as `limpet apply` does"
    )]
    NoContent { kind: ContentKind, service: String, name: String, id: ContentId },
    #[error("read {key} from the store")]
    Record {
        key: Key,
        #[source]
        source: CodecError,
    },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentKind {
    Config,
    Secret,
}

impl std::fmt::Display for ContentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Config => "config",
            Self::Secret => "secret",
        })
    }
}

impl ContentKind {
    const BOTH: [Self; 2] = [Self::Config, Self::Secret];

    fn key(self, id: &ContentId) -> Key {
        match self {
            Self::Config => Key::Config(id.to_string()),
            Self::Secret => Key::Secret(id.to_string()),
        }
    }

    pub(crate) fn name_key(self, name: &ContentName) -> Key {
        match self {
            Self::Config => Key::ConfigName(name.clone()),
            Self::Secret => Key::SecretName(name.clone()),
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Config => Kind::Config,
            Self::Secret => Kind::Secret,
        }
    }

    pub(crate) const fn names(self) -> Kind {
        match self {
            Self::Config => Kind::ConfigName,
            Self::Secret => Kind::SecretName,
        }
    }

    pub(crate) fn mounts(self, spec: &Spec) -> &[ContentMount] {
        match self {
            Self::Config => &spec.configs,
            Self::Secret => &spec.secrets,
        }
    }
}

/// The id that a content has, kept or not.
pub(crate) fn id(
    store: &Store,
    kind: ContentKind,
    content: &Secret,
) -> Result<ContentId, ContentError> {
    let size = content.expose().len();
    if size > MAX_CONTENT_BYTES {
        return Err(ContentError::TooLarge { kind, size });
    }
    Ok(match kind {
        ContentKind::Config => ContentId(Sha256::digest(content.expose()).into()),
        ContentKind::Secret => store.vault().id(content)?,
    })
}

/// Keeps a content, under a name if one is given; gives its id.
pub(crate) async fn put(
    store: &Store,
    kind: ContentKind,
    content: &Secret,
    name: Option<(&ContentName, bool)>,
    now_ms: u64,
) -> Result<ContentId, ContentError> {
    let id = id(store, kind, content)?;
    sweep(store, now_ms).await?;
    let mut transaction = Transaction::default();
    let key = kind.key(&id);
    if !is_fresh(store.get(&key)?.as_ref(), kind, now_ms) {
        let count = store.list(Kind::Config)?.1.len() + store.list(Kind::Secret)?.1.len();
        if count >= MAX_CONTENTS {
            return Err(ContentError::TooMany);
        }
        transaction.ops.push(Op::Put(key, record(store, kind, (&id, content), now_ms)?));
    }
    if let Some((name, replace)) = name {
        let key = kind.name_key(name);
        let there = store.get(&key)?;
        if there.is_some() && !replace {
            return Err(ContentError::Taken { kind, name: name.clone() });
        }
        let bytes = content.expose().len() as u64;
        let value = encode(&key, &ContentNameRecord { content: id, bytes, created_ms: now_ms })?;
        let modified = there.map(|entry| entry.modified);
        transaction.compare.push(Compare { key: key.clone(), modified });
        transaction.ops.push(Op::Put(key, value));
    }
    if !transaction.ops.is_empty() {
        store.commit(transaction).await?;
    }
    Ok(id)
}

/// Whether a content is there and stays long enough for an apply to name it.
fn is_fresh(entry: Option<&Entry>, kind: ContentKind, now_ms: u64) -> bool {
    let touched = entry.and_then(|entry| touched_ms(kind, entry));
    touched.is_some_and(|touched| now_ms.saturating_sub(touched) < GRACE_MS / 2)
}

fn touched_ms(kind: ContentKind, entry: &Entry) -> Option<u64> {
    match kind {
        ContentKind::Config => decode_value::<ConfigRecord>(entry).ok().map(|it| it.touched_ms),
        ContentKind::Secret => decode_value::<SecretRecord>(entry).ok().map(|it| it.touched_ms),
    }
}

fn record(
    store: &Store,
    kind: ContentKind,
    (id, content): (&ContentId, &Secret),
    touched_ms: u64,
) -> Result<Vec<u8>, ContentError> {
    let key = kind.key(id);
    match kind {
        ContentKind::Config => {
            let config = ConfigContent { content: content.expose().to_vec() };
            encode(&key, &ConfigRecord { config, touched_ms })
        }
        ContentKind::Secret => {
            let sealed = store.vault().seal(id, content)?;
            encode(&key, &SecretRecord { sealed, touched_ms })
        }
    }
}

fn encode<T: serde::Serialize>(key: &Key, record: &T) -> Result<Vec<u8>, ContentError> {
    codec::encode_within(record, MAX_VALUE_BYTES)
        .map_err(|source| ContentError::Record { key: key.clone(), source })
}

fn decode_value<T: DeserializeOwned>(entry: &Entry) -> Result<T, CodecError> {
    codec::decode_within(&entry.value, MAX_VALUE_BYTES)
}

/// The content of a config.
pub(crate) fn config(store: &Store, id: &ContentId) -> Result<Option<ConfigContent>, ContentError> {
    let key = ContentKind::Config.key(id);
    let Some(entry) = store.get(&key)? else { return Ok(None) };
    let record: ConfigRecord =
        decode_value(&entry).map_err(|source| ContentError::Record { key, source })?;
    Ok(Some(record.config))
}

/// A secret in clear, for the moment in which it is sealed to a node.
pub(crate) fn secret(store: &Store, id: &ContentId) -> Result<Option<Secret>, ContentError> {
    let key = ContentKind::Secret.key(id);
    let Some(entry) = store.get(&key)? else { return Ok(None) };
    let record: SecretRecord =
        decode_value(&entry).map_err(|source| ContentError::Record { key, source })?;
    Ok(Some(store.vault().open_sealed(id, &record.sealed)?))
}

/// Names of a kind with what they stand for, and the revision at which it was so.
pub(crate) fn named(
    store: &Store,
    kind: ContentKind,
) -> Result<(Revision, Vec<(String, ContentNameRecord)>), ContentError> {
    let (revision, entries) = store.list(kind.names())?;
    let read = |(key, entry): (Key, Entry)| match decode_value(&entry) {
        Ok(record) => Ok((key.name().to_owned(), record)),
        Err(source) => Err(ContentError::Record { key, source }),
    };
    Ok((revision, entries.into_iter().map(read).collect::<Result<_, _>>()?))
}

/// What a name stands for.
pub(crate) fn find(
    store: &Store,
    kind: ContentKind,
    name: &str,
) -> Result<ContentNameRecord, ContentError> {
    let missing = || ContentError::NoName { kind, name: name.to_owned() };
    let key = kind.name_key(&ContentName::new(name).map_err(|_| missing())?);
    let entry = store.get(&key)?.ok_or_else(missing)?;
    decode_value(&entry).map_err(|source| ContentError::Record { key, source })
}

/// Takes a name away. What uses its content keeps it.
pub(crate) async fn forget(
    store: &Store,
    kind: ContentKind,
    name: &str,
    now_ms: u64,
) -> Result<(), ContentError> {
    let missing = || ContentError::NoName { kind, name: name.to_owned() };
    let key = kind.name_key(&ContentName::new(name).map_err(|_| missing())?);
    if store.get(&key)?.is_none() {
        return Err(missing());
    }
    store.commit(Transaction { ops: vec![Op::Delete(key)], ..Transaction::default() }).await?;
    sweep(store, now_ms).await
}

/// What an application needs of the store: that the contents it names are there, and stay until
/// the transaction that has these conditions.
pub(crate) fn require(
    store: &Store,
    application: &Application,
) -> Result<Vec<Compare>, ContentError> {
    let mut conditions = Vec::new();
    for (service, wanted) in &application.services {
        for kind in ContentKind::BOTH {
            for mount in kind.mounts(&wanted.spec) {
                let key = kind.key(&mount.content);
                let entry = store.get(&key)?.ok_or_else(|| ContentError::NoContent {
                    kind,
                    service: service.to_string(),
                    name: mount.name.clone(),
                    id: mount.content,
                })?;
                let condition = Compare { key, modified: Some(entry.modified) };
                if !conditions.contains(&condition) {
                    conditions.push(condition);
                }
            }
        }
    }
    Ok(conditions)
}

/// Removes what nothing needs any more, all of it or, if something changed meanwhile, nothing.
pub(crate) async fn sweep(store: &Store, now_ms: u64) -> Result<(), ContentError> {
    // The revision comes first: a change after it makes the removal void.
    let if_revision = Some(store.revision());
    let mut old = Vec::new();
    for kind in ContentKind::BOTH {
        for (key, entry) in store.list(kind.kind())?.1 {
            let touched = touched_ms(kind, &entry).unwrap_or(0);
            if now_ms.saturating_sub(touched) > GRACE_MS {
                old.push(key);
            }
        }
    }
    if old.is_empty() {
        return Ok(());
    }
    let needed = needed(store)?;
    let ops: Vec<Op> =
        old.into_iter().filter(|key| !needed.contains(key)).map(Op::Delete).collect();
    if ops.is_empty() {
        return Ok(());
    }
    let count = ops.len();
    match store.commit(Transaction { ops, if_revision, ..Transaction::default() }).await {
        Ok(_) => tracing::info!(count, "configs and secrets that nothing needs are removed"),
        Err(CommitError::RevisionConflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The keys of all contents that somebody names.
fn needed(store: &Store) -> Result<BTreeSet<Key>, ContentError> {
    let mut needed = BTreeSet::new();
    let mut of_spec = |spec: &Spec| {
        for kind in ContentKind::BOTH {
            needed.extend(kind.mounts(spec).iter().map(|mount| kind.key(&mount.content)));
        }
    };
    // Earlier revisions too: an undo needs what they name, and a rollback what its spec names.
    let (applications, history) = (store.list(Kind::Application)?.1, store.list(Kind::History)?.1);
    for (key, entry) in applications.into_iter().chain(history) {
        let record: ApplicationRecord =
            decode_value(&entry).map_err(|source| ContentError::Record { key, source })?;
        record.application.services.values().for_each(|service| of_spec(&service.spec));
    }
    for (key, entry) in store.list(Kind::Spec)?.1 {
        let spec = decode_value(&entry).map_err(|source| ContentError::Record { key, source })?;
        of_spec(&spec);
    }
    for kind in ContentKind::BOTH {
        let (_, names) = named(store, kind)?;
        needed.extend(names.iter().map(|(_, record)| kind.key(&record.content)));
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use limpet_protocol::application::{Mode, Service};
    use limpet_protocol::spec::ImageSource;

    use super::*;

    const CLEAR: &[u8] = b"correct horse battery staple";

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        (folder, store)
    }

    fn application(secrets: &[ContentId]) -> Application {
        let image = ImageSource::new("busybox");
        let mut spec = Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), image);
        let mount = |content: &ContentId| ContentMount {
            name: "token".to_owned(),
            content: *content,
            target: "/run/secrets/token".to_owned(),
            uid: 0,
            gid: 0,
            mode: 0o444,
        };
        spec.secrets = secrets.iter().map(mount).collect();
        let service = Service::new(spec, Mode::Replicated { replicas: 1 });
        let services = [("web".parse().unwrap(), service)].into();
        Application { name: "shop".parse().unwrap(), services }
    }

    async fn apply(store: &Store, application: Application) {
        let key = Key::Application(application.name.clone());
        let record = ApplicationRecord {
            application,
            applied_ms: 1,
            change: String::new(),
            changed: vec![],
        };
        let value = codec::encode(&record).unwrap();
        let ops = vec![Op::Put(key, value)];
        store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
    }

    #[tokio::test]
    async fn a_secret_is_nowhere_in_the_store_in_clear() {
        let (folder, store) = store();
        let clear = Secret::new(CLEAR.to_vec());
        let name: ContentName = "db-password".parse().unwrap();
        let id = put(&store, ContentKind::Secret, &clear, Some((&name, false)), 1).await.unwrap();
        assert_eq!(secret(&store, &id).unwrap().unwrap(), clear);
        let again = put(&store, ContentKind::Secret, &clear, None, 2).await.unwrap();
        assert_eq!(again, id, "the same secret has the same id");
        drop(store);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(CLEAR.len()).any(|window| window == CLEAR);
            assert!(!found, "{} holds a secret", path.display());
        }
    }

    #[tokio::test]
    async fn contents_stay_as_long_as_something_names_them() {
        let (_folder, store) = store();
        let given = |text: &str| Secret::new(text.as_bytes().to_vec());
        let name: ContentName = "kept".parse().unwrap();
        let at = |ms| ms;
        let kind = ContentKind::Secret;
        let used = put(&store, kind, &given("used"), None, at(1)).await.unwrap();
        let named = put(&store, kind, &given("named"), Some((&name, false)), 1).await.unwrap();
        let unused = put(&store, kind, &given("unused"), None, 1).await.unwrap();
        let config = put(&store, ContentKind::Config, &given("unused"), None, 1).await.unwrap();
        apply(&store, application(&[used])).await;
        sweep(&store, GRACE_MS).await.unwrap();
        assert!(secret(&store, &unused).unwrap().is_some(), "an apply may still come");
        sweep(&store, GRACE_MS + 2).await.unwrap();
        assert!(secret(&store, &used).unwrap().is_some());
        assert!(secret(&store, &named).unwrap().is_some());
        assert!(secret(&store, &unused).unwrap().is_none());
        assert!(self::config(&store, &config).unwrap().is_none());
        forget(&store, kind, "kept", GRACE_MS + 3).await.unwrap();
        assert!(secret(&store, &named).unwrap().is_none());
        assert!(matches!(find(&store, kind, "kept"), Err(ContentError::NoName { .. })));
    }

    #[tokio::test]
    async fn an_apply_holds_on_to_what_it_names() {
        let (_folder, store) = store();
        let id = put(&store, ContentKind::Secret, &Secret::new(vec![1]), None, 1).await.unwrap();
        let conditions = require(&store, &application(&[id, id])).unwrap();
        assert_eq!(conditions.len(), 1);
        sweep(&store, GRACE_MS + 2).await.unwrap();
        let transaction = Transaction { compare: conditions, ..Transaction::default() };
        let key = Key::Application("shop".parse().unwrap());
        let transaction = Transaction { ops: vec![Op::Put(key, vec![])], ..transaction };
        let refused = store.commit(transaction).await;
        assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
        let missing = require(&store, &application(&[id])).unwrap_err();
        assert!(
            missing.to_string().contains("services.web: secret token has no content"),
            "{missing}"
        );
    }

    #[tokio::test]
    async fn names_are_taken_once_and_sizes_are_bounded() {
        let (_folder, store) = store();
        let kind = ContentKind::Config;
        let name: ContentName = "nginx.conf".parse().unwrap();
        let (one, two) = (Secret::new(vec![1]), Secret::new(vec![2]));
        let first = put(&store, kind, &one, Some((&name, false)), 1).await.unwrap();
        let taken = put(&store, kind, &two, Some((&name, false)), 1).await.unwrap_err();
        assert!(taken.to_string().contains("--replace"), "{taken}");
        let second = put(&store, kind, &two, Some((&name, true)), 1).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(find(&store, kind, "nginx.conf").unwrap().content, second);
        let large = Secret::new(vec![0; MAX_CONTENT_BYTES + 1]);
        let refused = put(&store, kind, &large, None, 1).await.unwrap_err();
        assert!(refused.to_string().contains("put the file into the image"), "{refused}");
        let largest = Secret::new(vec![0; MAX_CONTENT_BYTES]);
        put(&store, kind, &largest, None, 1).await.unwrap();
    }
}
