//! The store against a model, its watches and caps, and what it does with bad files.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn key(number: u8) -> Key {
    match number % 4 {
        0 => Key::Application(format!("a{number}").parse().unwrap()),
        1 => Key::Node(format!("n{number}").parse().unwrap()),
        2 => Key::Assignment(format!("n{number}").parse().unwrap()),
        _ => Key::Token(format!("{number:02x}")),
    }
}

fn put(number: u8, value: u8) -> Transaction {
    Transaction { ops: vec![Op::Put(key(number), vec![value])], ..Transaction::default() }
}

fn event(number: u64) -> EventRecord {
    EventRecord { at_ms: number, kind: "test".to_owned(), ..EventRecord::default() }
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, value: u8, expect: Expect },
    Delete { key: u8, expect: Expect },
    Both { put: u8, delete: u8 },
    Compact { back: u64 },
    Event,
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Nothing,
    Truth,
    Absent,
    Wrong,
    WrongRevision,
}

fn expects() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Nothing),
        2 => Just(Expect::Truth),
        1 => Just(Expect::Absent),
        1 => Just(Expect::Wrong),
        1 => Just(Expect::WrongRevision),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..12_u8, any::<u8>(), expects()).prop_map(|(key, value, expect)| Step::Put { key, value, expect }),
        4 => (0..12_u8, expects()).prop_map(|(key, expect)| Step::Delete { key, expect }),
        2 => (0..12_u8, 0..12_u8).prop_map(|(put, delete)| Step::Both { put, delete }),
        1 => (0..9_u64).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Event),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the store should be.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Key, Entry>,
    log: Vec<Change>,
    revision: u64,
    compacted: u64,
    events: u64,
}

impl Model {
    fn conditions(&self, key: &Key, expect: Expect) -> (Vec<Compare>, Option<Revision>) {
        let modified = self.entries.get(key).map(|entry| entry.modified);
        let modified = match expect {
            Expect::Nothing => return (vec![], None),
            Expect::WrongRevision => return (vec![], Some(Revision(self.revision + 7))),
            Expect::Truth => modified,
            Expect::Absent => None,
            Expect::Wrong => Some(Revision(self.revision + 1)),
        };
        (vec![Compare { key: key.clone(), modified }], Some(Revision(self.revision)))
    }

    /// Whether the store should take it, and if so, what it is then.
    fn apply(&mut self, transaction: &Transaction) -> bool {
        let holds = transaction.compare.iter().all(|compare| {
            self.entries.get(&compare.key).map(|entry| entry.modified) == compare.modified
        });
        if !holds || transaction.if_revision.is_some_and(|r| r.0 != self.revision) {
            return false;
        }
        let revision = Revision(self.revision + 1);
        let before = self.log.len();
        for op in &transaction.ops {
            match op {
                Op::Put(key, value) => {
                    let old = self.entries.get(key);
                    let entry = Entry {
                        value: value.clone(),
                        created: old.map_or(revision, |old| old.created),
                        modified: revision,
                        version: old.map_or(1, |old| old.version + 1),
                    };
                    self.entries.insert(key.clone(), entry);
                    let value = Some(value.clone());
                    self.log.push(Change { revision, key: key.clone(), value });
                }
                Op::Delete(key) if self.entries.remove(key).is_some() => {
                    self.log.push(Change { revision, key: key.clone(), value: None });
                }
                Op::Delete(_) => {}
            }
        }
        if self.log.len() > before {
            self.revision += 1;
        }
        true
    }
}

async fn compare(store: &Store, model: &Model) {
    assert_eq!(store.revision(), Revision(model.revision));
    for kind in Kind::ALL {
        let expected = model.entries.iter().filter(|(key, _)| key.kind() == kind);
        let expected: Vec<_> = expected.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let (revision, mut found) = store.list(kind).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((revision.0, found), (model.revision, expected));
    }
    for number in 0..12 {
        assert_eq!(store.get(&key(number)).unwrap().as_ref(), model.entries.get(&key(number)));
    }
    let mut watch = store.watch(Revision(model.compacted));
    for change in model.log.iter().filter(|change| change.revision.0 > model.compacted) {
        assert_eq!(watch.next().await.unwrap(), *change);
    }
    if model.compacted > 0 {
        let behind = store.watch(Revision(model.compacted - 1)).next().await;
        let oldest = Revision(model.compacted);
        assert!(matches!(behind, Err(WatchError::Compacted { oldest: o }) if o == oldest));
    }
    let events = store.events(0, 100).unwrap();
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=model.events).collect::<Vec<_>>());
}

async fn take(store: &mut Store, model: &mut Model, path: &Path, step: Step) {
    let transaction = match step {
        Step::Put { key: number, value, expect } => {
            let (compare, if_revision) = model.conditions(&key(number), expect);
            Transaction { compare, if_revision, ..put(number, value) }
        }
        Step::Delete { key: number, expect } => {
            let (compare, if_revision) = model.conditions(&key(number), expect);
            Transaction { compare, if_revision, ops: vec![Op::Delete(key(number))] }
        }
        Step::Both { put: a, delete: b } => {
            let ops = vec![Op::Put(key(a), vec![1]), Op::Delete(key(b)), Op::Delete(key(b))];
            Transaction { ops, ..Transaction::default() }
        }
        Step::Compact { back } => {
            let keep_from = (model.revision + 1).saturating_sub(back);
            let upto = keep_from.saturating_sub(1).min(model.revision);
            model.compacted = model.compacted.max(upto);
            let oldest = store.compact(Revision(keep_from)).await.unwrap();
            assert_eq!(oldest.0, model.compacted);
            return;
        }
        Step::Event => {
            model.events += 1;
            assert_eq!(store.append_events(vec![event(1)]).await.unwrap(), model.events);
            return;
        }
        Step::Reopen => {
            let (epoch, key) = (store.identity().epoch(), store.identity().public_key().to_vec());
            // The only clone is replaced, so that the file is free when it is opened again.
            let (_other_folder, other) = open();
            drop(std::mem::replace(store, other));
            *store = Store::open(path).unwrap();
            assert_eq!((store.identity().epoch(), store.identity().public_key()), (epoch, &*key));
            return;
        }
    };
    let expected = model.apply(&transaction);
    match store.commit(transaction).await {
        Ok(revision) => assert_eq!((expected, revision.0), (true, model.revision)),
        Err(CommitError::Conflict { .. } | CommitError::RevisionConflict { .. }) => {
            assert!(!expected)
        }
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_the_model_is(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut store = Store::open(&path).unwrap();
        let mut model = Model::default();
        runtime.block_on(async {
            for step in steps {
                take(&mut store, &mut model, &path, step).await;
            }
            compare(&store, &model).await;
        });
    }
}

#[tokio::test]
async fn many_writers_share_commits_and_each_gets_its_own_revision() {
    let (_folder, store) = open();
    let writes = (0..500_u32).map(|number| {
        let key = Key::Node(format!("n{number}").parse().unwrap());
        let ops = vec![Op::Put(key.clone(), vec![0; 100])];
        let compare = vec![Compare { key, modified: None }];
        store.commit(Transaction { compare, ops, if_revision: None })
    });
    let mut revisions: Vec<u64> =
        futures_util::future::join_all(writes).await.into_iter().map(|r| r.unwrap().0).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=500).collect::<Vec<_>>());
    // Of many who expect the same, one wins.
    let claims = (0..50).map(|value| {
        store.commit(Transaction { if_revision: Some(Revision(500)), ..put(1, value) })
    });
    let won = futures_util::future::join_all(claims).await;
    assert_eq!(won.iter().filter(|claim| claim.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_watch_waits_and_ends_with_the_writer_only() {
    let (_folder, store) = open();
    let mut watch = store.watch(Revision(0));
    let waiting = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
    assert!(waiting.is_err(), "there is nothing to see yet");
    store.commit(put(1, 7)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().value, Some(vec![7]));
    let both = Transaction {
        ops: vec![Op::Put(key(1), vec![8]), Op::Put(key(2), vec![9])],
        ..Transaction::default()
    };
    store.commit(both).await.unwrap();
    assert_eq!(watch.next_revision().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_log_and_the_events_are_capped() {
    let (_folder, store) = open();
    let mut events = store.subscribe_events();
    for batch in 0..24_u64 {
        let batch = (0..500).map(|number| event(batch * 500 + number)).collect();
        store.append_events(batch).await.unwrap();
    }
    assert_eq!(*events.borrow_and_update(), 12_000);
    let kept = store.events(0, usize::MAX).unwrap();
    assert!(kept.len() >= 10_000 && kept.len() < 10_100, "{}", kept.len());
    assert_eq!(kept.last().map(|event| (event.id, event.at_ms)), Some((12_000, 11_999)));
    assert_eq!(store.events(11_990, 3).unwrap().len(), 3);
    for _ in 0..24 {
        let writes = (0..500).map(|_| store.commit(put(1, 1)));
        for written in futures_util::future::join_all(writes).await {
            written.unwrap();
        }
    }
    let behind = store.watch(Revision(0)).next().await;
    let Err(WatchError::Compacted { oldest }) = behind else { panic!("{behind:?}") };
    assert!((1_000..=2_000).contains(&oldest.0), "{oldest:?}");
    let mut watch = store.watch(oldest);
    assert_eq!(watch.next().await.unwrap().revision, Revision(oldest.0 + 1));
}

#[tokio::test]
async fn too_much_is_refused_and_harms_nobody() {
    let (_folder, store) = open();
    let large = Op::Put(key(1), vec![0; MAX_VALUE_BYTES + 1]);
    let refused = store.commit(Transaction { ops: vec![large], ..Transaction::default() }).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })));
    let many = vec![Op::Delete(key(1)); MAX_OPS + 1];
    let refused = store.commit(Transaction { ops: many, ..Transaction::default() }).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })));
    let message = "x".repeat(1_000_000);
    let refused = store.append_events(vec![EventRecord { message, ..event(1) }]).await;
    assert!(matches!(refused, Err(StoreError::Event)));
    store.commit(put(1, 1)).await.unwrap();
}

#[test]
fn a_second_opening_is_refused_and_idle_writes_nothing() {
    let (folder, store) = open();
    let path = folder.path().join("store");
    assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    store.list(Kind::Node).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn bad_files_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for bytes in [&b"this is no store"[..], &[0; 100_000], &[0xff; 4096]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let absent = Store::open(&folder.path().join("no/store")).unwrap_err();
    assert!(matches!(absent, StoreError::Open { .. }), "{absent:?}");
    let is_folder = Store::open(folder.path()).unwrap_err();
    assert!(matches!(is_folder, StoreError::Open { .. }), "{is_folder:?}");
}

#[tokio::test]
async fn a_flipped_byte_gives_an_error_or_does_no_harm() {
    let (folder, store) = open();
    for number in 0..200 {
        store.commit(put(number % 12, number)).await.unwrap();
    }
    drop(store);
    let path = folder.path().join("store");
    let sound = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..sound.len()).step_by(sound.len() / 60) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(&path) {
            Ok(store) => drop(store.list(Kind::Node)),
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
    assert!(refused > 0, "some of these bytes matter");
}

#[test]
fn a_newer_schema_is_refused() {
    let (folder, store) = open();
    drop(store);
    let path = folder.path().join("store");
    let database = Database::create(&path).unwrap();
    let writing = database.begin_write().unwrap();
    let newer = 99_u64.to_be_bytes();
    writing.open_table(layout::META).unwrap().insert(layout::SCHEMA, &newer[..]).unwrap();
    writing.commit().unwrap();
    drop(database);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::UnknownSchema { found: 99, .. }), "{error:?}");
}
