//! Configs and secrets in the ledger: what is believed, what is kept, what a lost key costs.

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::codec;
use limpet_protocol::id::{ContentId, Slot};
use limpet_protocol::limits::MAX_CONTENT_BYTES;
use limpet_protocol::message::{ConfigContent, SealedSecret, Signed};
use limpet_protocol::spec::{ContentMount, ImageSource};
use limpet_seal::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::content::clear;
use super::intake::{Effect, Intake, Part};
use super::*;

const CLEAR: &[u8] = b"correct horse battery staple";
const SECRET: ContentId = ContentId([3; 32]);

fn controller() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn open(data: &Path) -> Ledger {
    Ledger::open(data, "n1".parse().unwrap(), controller().public_key().as_ref().to_vec()).unwrap()
}

fn sign(text: fn(&[u8]) -> Vec<u8>, payload: Vec<u8>) -> Vec<u8> {
    let signature = controller().sign(&text(&payload)).as_ref().to_vec();
    codec::encode(&Signed { payload, signature }).unwrap()
}

/// A config's name and message.
fn config(text: &[u8]) -> (ContentRef, Vec<u8>) {
    let id = ContentId(Sha256::digest(text).into());
    let message = codec::encode(&ConfigContent { content: text.to_vec() }).unwrap();
    (ContentRef::Config(id), message)
}

/// The secret as the controller sends it to a node with the ledger's key.
fn secret(ledger: &Ledger, node: &str, content: ContentId) -> Vec<u8> {
    let node: NodeId = node.parse().unwrap();
    let key = ledger.seal_key("any").public;
    let clear = Secret::new(CLEAR.to_vec());
    let sealed = limpet_seal::seal_to(&key, &node, &content, &clear).unwrap();
    let sealed = SealedSecret { node, content, key, sealed };
    sign(Signed::secret_text, codec::encode(&sealed).unwrap())
}

fn mount(content: ContentRef) -> ContentMount {
    let (ContentRef::Config(id) | ContentRef::Secret(id)) = content;
    let (name, target) = ("x".to_owned(), "/x".to_owned());
    ContentMount { name, content: id, target, uid: 0, gid: 0, mode: 0o444 }
}

/// Assignment `number` of one service with these contents: signed, and its spec.
fn wanted(number: u64, configs: &[ContentRef], secrets: &[ContentRef]) -> (Vec<u8>, Vec<u8>) {
    let image = ImageSource::new("web:1");
    let mut spec = Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), image);
    spec.configs = configs.iter().copied().map(mount).collect();
    spec.secrets = secrets.iter().copied().map(mount).collect();
    let spec = codec::encode(&spec).unwrap();
    let share = AssignedService::new(
        "shop".parse().unwrap(),
        "web".parse().unwrap(),
        spec_hash(&spec),
        vec![Slot(1)],
    );
    let assignment = Assignment {
        node: "n1".parse().unwrap(),
        generation: Generation { epoch: 1, number },
        services: vec![share],
        network: None,
    };
    (sign(Signed::signed_text, codec::encode(&assignment).unwrap()), spec)
}

/// Brings an assignment with a config and the secret into a ledger.
fn stored() -> (TempDir, Ledger, ContentRef) {
    let data = tempfile::tempdir().unwrap();
    let ledger = open(data.path());
    let (config, bytes) = config(b"listen 80");
    let secret_ref = ContentRef::Secret(SECRET);
    let (signed, spec) = wanted(1, &[config], &[secret_ref]);
    let hash = spec_hash(&spec);
    let mut intake = Intake::new(ledger.clone(), None);
    assert_eq!(intake.want(&signed), [Effect::Listen(vec![Part::Spec(hash)])]);
    let parts = vec![Part::Content(config), Part::Content(secret_ref)];
    assert_eq!(
        intake.spec(&hash, &spec),
        [Effect::Ignore(Part::Spec(hash)), Effect::Listen(parts.clone())]
    );
    assert_eq!(intake.missing(), parts);
    assert_eq!(intake.content(config, &bytes), [Effect::Ignore(parts[0])]);
    let effects = intake.content(secret_ref, &secret(&ledger, "n1", SECRET));
    let [Effect::Ignore(_), Effect::Store(accepted)] = &effects[..] else { panic!("{effects:?}") };
    ledger.store(accepted).unwrap();
    assert_eq!(intake.stored((**accepted).clone()), []);
    (data, ledger, config)
}

#[test]
fn an_assignment_waits_for_all_that_its_specs_name_and_keeps_it() {
    let (data, ledger, config) = stored();
    let loaded = open(data.path()).load().unwrap();
    assert_eq!(loaded.problems, [""; 0]);
    let accepted = loaded.accepted.unwrap();
    assert_eq!(accepted.contents.len(), 2);
    assert_eq!(clear(data.path(), config).unwrap().expose(), b"listen 80");
    assert_eq!(clear(data.path(), ContentRef::Secret(SECRET)).unwrap().expose(), CLEAR);

    // What is there need not come again, and goes when no kept assignment names it any more.
    let mut intake = Intake::new(ledger.clone(), Some(accepted));
    let files = || {
        let names = ledger.file_names().unwrap();
        names.into_iter().filter(|name| ContentRef::is_file(name)).count()
    };
    for (number, secrets, left) in
        [(2, &[ContentRef::Secret(SECRET)][..], 2), (3, &[], 1), (4, &[], 0)]
    {
        let (signed, spec) = wanted(number, &[], secrets);
        let effects = [intake.want(&signed), intake.spec(&spec_hash(&spec), &spec)].concat();
        let stored = effects.into_iter().find_map(|effect| match effect {
            Effect::Store(accepted) => Some(*accepted),
            _ => None,
        });
        let accepted = stored.unwrap();
        ledger.store(&accepted).unwrap();
        intake.stored(accepted);
        assert_eq!(files(), left, "after {number}: the assignment before is kept, too");
    }
}

#[test]
fn nothing_in_the_data_folder_is_the_clear_text() {
    let (data, _ledger, _) = stored();
    let mut folders = vec![data.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(CLEAR.len()).any(|window| window == CLEAR);
            assert!(!found, "{} holds a secret", path.display());
        }
    }
    assert!(files >= 5, "the folder was looked at");
}

#[test]
fn only_what_the_controller_sealed_for_this_node_and_name_is_believed() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open(data.path());
    let kind = |content, bytes: &[u8]| ledger.check_content(content, bytes).unwrap_err().kind();
    let (config, bytes) = config(b"a");
    assert!(ledger.check_content(config, &bytes).is_ok());
    assert_eq!(kind(config, &self::config(b"b").1), "hash");
    assert_eq!(kind(config, b""), "undecodable");
    let (large, bytes) = self::config(&vec![0; MAX_CONTENT_BYTES + 1]);
    assert_eq!(kind(large, &bytes), "hash", "no larger one than the controller takes");

    let name = ContentRef::Secret(SECRET);
    let good = secret(&ledger, "n1", SECRET);
    assert!(ledger.check_content(name, &good).is_ok());
    assert_eq!(kind(name, &secret(&ledger, "n2", SECRET)), "node");
    assert_eq!(kind(name, &secret(&ledger, "n1", ContentId([4; 32]))), "secret");
    // An assignment's signature does not make a secret, nor the other way round.
    let signed: Signed = codec::decode(&good).unwrap();
    assert_eq!(kind(name, &sign(Signed::signed_text, signed.payload)), "signature");
    for at in (10..good.len()).step_by(7) {
        let mut forged = good.clone();
        forged[at] ^= 1;
        assert!(ledger.check_content(name, &forged).is_err(), "byte {at}");
    }
}

#[test]
fn a_lost_key_stops_nothing_and_the_secrets_are_asked_for_again() {
    let (data, _old, config) = stored();
    std::fs::remove_file(data.path().join("seal.key")).unwrap();
    let ledger = open(data.path());
    let loaded = ledger.load().unwrap();
    let current = loaded.accepted.expect("the assignment runs on");
    let name = ContentRef::Secret(SECRET);
    let refused = clear(data.path(), name).unwrap_err();
    assert!(refused.contains("a key that this node had before"), "{refused}");
    assert!(clear(data.path(), config).is_ok());

    let mut intake = Intake::new(ledger.clone(), Some(current.clone()));
    assert_eq!(intake.missing(), [Part::Content(name)]);
    // The broker still has what was sealed to the old key: it is told once, and waited on.
    let old = current.contents[&name].to_vec();
    assert!(matches!(&intake.content(name, &old)[..], [Effect::Refused { .. }]));
    assert_eq!(intake.content(name, &old), []);
    let effects = intake.content(name, &secret(&ledger, "n1", SECRET));
    let [Effect::Ignore(_), Effect::Store(accepted)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(accepted.assignment, current.assignment);
    ledger.store(accepted).unwrap();
    intake.stored((**accepted).clone());
    assert_eq!(intake.missing(), []);
    assert_eq!(clear(data.path(), name).unwrap().expose(), CLEAR);
    assert_eq!(ledger.load().unwrap().accepted.unwrap(), **accepted);

    // A newer assignment that comes first waits for the secret, too.
    std::fs::remove_file(data.path().join("seal.key")).unwrap();
    let ledger = open(data.path());
    let mut intake = Intake::new(ledger.clone(), ledger.load().unwrap().accepted);
    let (signed, spec) = wanted(2, &[], &[name]);
    intake.want(&signed);
    intake.spec(&spec_hash(&spec), &spec);
    assert_eq!(intake.missing(), [Part::Content(name)]);
    let effects = intake.content(name, &secret(&ledger, "n1", SECRET));
    assert!(matches!(&effects[..], [Effect::Ignore(_), Effect::Store(_)]), "{effects:?}");
}

#[test]
fn more_than_a_node_holds_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open(data.path());
    let contents: Vec<_> = (0..65_u8).map(|n| config(&vec![n; MAX_CONTENT_BYTES])).collect();
    let names: Vec<ContentRef> = contents.iter().map(|(name, _)| *name).collect();
    let (signed, spec) = wanted(1, &names, &[]);
    let mut intake = Intake::new(ledger, None);
    intake.want(&signed);
    intake.spec(&spec_hash(&spec), &spec);
    let effects: Vec<Effect> =
        contents.iter().flat_map(|(name, bytes)| intake.content(*name, bytes)).collect();
    let is_refused = |effect: &&Effect| matches!(effect, Effect::Refused { .. });
    assert_eq!(effects.iter().filter(is_refused).count(), 1);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Store(_))));
}
