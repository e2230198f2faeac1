//! Power cuts and damage: whatever happens to the files, a whole assignment is found.

use limpet_protocol::assignment::AssignedService;
use limpet_protocol::codec;
use limpet_protocol::id::Slot;
use limpet_protocol::message::Signed;
use limpet_protocol::spec::ImageSource;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tempfile::TempDir;

use super::identity::Identity;
use super::*;

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn ledger() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let key = key().public_key().as_ref().to_vec();
    let ledger = Ledger::open(dir.path(), "n1".parse().unwrap(), key).unwrap();
    (dir, ledger)
}

fn kept(service: &str, tag: u64) -> KeptSpec {
    let image = ImageSource::new(format!("{service}:{tag}"));
    let spec = Spec::new("shop".parse().unwrap(), service.parse().unwrap(), image);
    KeptSpec { bytes: codec::encode(&spec).unwrap().into(), spec: Arc::new(spec) }
}

/// Generation `number` runs `web` of that tag and a `db` that never changes.
fn accepted(number: u64) -> Accepted {
    let specs = [kept("web", number), kept("db", 0)];
    let services = specs.iter().map(|kept| {
        AssignedService::new(
            kept.spec.application.clone(),
            kept.spec.service.clone(),
            spec_hash(&kept.bytes),
            vec![Slot(1)],
        )
    });
    let assignment = Assignment {
        node: "n1".parse().unwrap(),
        generation: Generation { epoch: 1, number },
        services: services.collect(),
        network: None,
    };
    let signed = sign(&assignment);
    let specs = specs.into_iter().map(|kept| (spec_hash(&kept.bytes), kept)).collect();
    Accepted { signed, assignment, specs, contents: Contents::new() }
}

fn sign(assignment: &Assignment) -> Vec<u8> {
    let payload = codec::encode(assignment).unwrap();
    let signature = key().sign(&Signed::signed_text(&payload)).as_ref().to_vec();
    codec::encode(&Signed { payload, signature }).unwrap()
}

fn found(ledger: &Ledger) -> Option<u64> {
    ledger.load().unwrap().accepted.map(|accepted| accepted.assignment.generation.number)
}

#[test]
fn the_newest_comes_back_and_two_are_kept() {
    let (_dir, ledger) = ledger();
    assert_eq!(found(&ledger), None);
    for number in 1..=4 {
        ledger.store(&accepted(number)).unwrap();
        assert_eq!(ledger.load().unwrap().accepted.unwrap(), accepted(number));
    }
    let mut names = ledger.file_names().unwrap();
    names.sort();
    assert_eq!(names.iter().filter(|name| name.starts_with("spec-")).count(), 3, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("want-")).count(), 2, "{names:?}");
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_or_the_new() {
    let (_dir, probe) = ledger();
    let steps_of_three = |ledger: &Ledger| {
        ledger.store(&accepted(1)).unwrap();
        ledger.store(&accepted(2)).unwrap();
        ledger.writing(&accepted(3)).unwrap()
    };
    let count = steps_of_three(&probe).len();
    for done in 0..=count {
        let (_dir, ledger) = ledger();
        let steps = steps_of_three(&ledger);
        for step in &steps[..done] {
            ledger.run(step).unwrap();
        }
        // The step that the power cut interrupted had written half of its temporary file.
        if let Some(Step::Write { name, bytes }) = steps.get(done) {
            let path = ledger.folder.join(format!("{name}.tmp"));
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }
        let expected = if done < count - 1 { 2 } else { 3 };
        assert_eq!(found(&ledger), Some(expected), "after {done} of {steps:?}");
        // The next life stores the same again and tidies up.
        ledger.store(&accepted(3)).unwrap();
        assert_eq!(found(&ledger), Some(3));
        assert!(!ledger.file_names().unwrap().iter().any(|name| name.ends_with(".tmp")));
    }
}

#[test]
fn a_damaged_file_costs_at_most_one_generation_and_is_told_and_kept() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("empty", Vec::clear),
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| bytes[5] ^= 1),
        ("zeroed", |bytes| bytes.fill(0)),
    ];
    let (_dir, probe) = ledger();
    probe.store(&accepted(1)).unwrap();
    probe.store(&accepted(2)).unwrap();
    for name in probe.file_names().unwrap() {
        for (what, damage) in damages {
            let (_dir, ledger) = ledger();
            ledger.store(&accepted(1)).unwrap();
            ledger.store(&accepted(2)).unwrap();
            let path = ledger.folder.join(&name);
            let mut bytes = std::fs::read(&path).unwrap();
            damage(&mut bytes);
            std::fs::write(&path, &bytes).unwrap();
            let loaded = ledger.load().unwrap();
            let number = loaded.accepted.map(|accepted| accepted.assignment.generation.number);
            let shared = name == spec_file(&spec_hash(&kept("db", 0).bytes));
            let is_newest =
                name == "want-1-2" || name == spec_file(&spec_hash(&kept("web", 2).bytes));
            let expected = if shared { None } else { Some(if is_newest { 1 } else { 2 }) };
            assert_eq!(number, expected, "{name} {what}");
            assert_eq!(loaded.problems.is_empty(), expected == Some(2), "{name} {what}");
            assert!(path.exists(), "{name} {what}: reading deletes nothing");
            // The same generation comes again from the controller and mends everything.
            ledger.store(&accepted(2)).unwrap();
            assert_eq!(found(&ledger), Some(2), "{name} {what}");
        }
    }
}

#[test]
fn only_the_controllers_word_for_this_node_is_believed() {
    let (_dir, ledger) = ledger();
    let good = accepted(1);
    assert_eq!(ledger.open_assignment(&good.signed).unwrap(), good.assignment);
    let kind = |bytes: &[u8]| ledger.open_assignment(bytes).unwrap_err().kind();
    assert_eq!(kind(b""), "undecodable");
    assert_eq!(kind(&[0xff; 100]), "undecodable");
    for at in 10..good.signed.len() {
        let mut forged = good.signed.clone();
        forged[at] ^= 1;
        assert!(ledger.open_assignment(&forged).is_err(), "byte {at}");
    }
    let with = |change: fn(&mut Assignment)| {
        let mut assignment = accepted(1).assignment;
        change(&mut assignment);
        kind(&sign(&assignment))
    };
    assert_eq!(with(|a| a.node = "n2".parse().unwrap()), "node");
    assert_eq!(with(|a| a.services[0].slots.push(Slot(1))), "twice");
    assert_eq!(with(|a| a.services[0].slots = (1..=600).map(Slot).collect()), "instances");
}

#[test]
fn boots_are_counted_once_each_and_a_lost_count_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let count = |id: &str| boot::count(dir.path(), id, 1_700_000_000).unwrap();
    assert_eq!(count("a"), boot::Boot { count: 1, problem: None });
    assert_eq!(count("a").count, 1);
    assert_eq!(count("b").count, 2);
    assert_eq!(count("a").count, 3);
    std::fs::write(dir.path().join("boot.json"), "{").unwrap();
    let lost = count("c");
    assert_eq!(lost.count, 1_700_000_001);
    assert!(lost.problem.unwrap().contains("boot.json"));
    assert_eq!(count("d").count, 1_700_000_002);
}

#[test]
fn the_identity_is_private_and_damage_is_an_error_not_a_new_node() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Identity::read(dir.path()).unwrap(), None);
    let identity = Identity {
        node: "n1".parse().unwrap(),
        secret: "geheim".to_owned(),
        controller_key: vec![1; 32],
        image_host: None,
        image_port: 7080,
    };
    identity.write(dir.path()).unwrap();
    assert_eq!(Identity::read(dir.path()).unwrap(), Some(identity.clone()));
    assert!(!format!("{identity:?}").contains("geheim"));
    let path = dir.path().join("identity.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in ["", "{", &text[..text.len() / 2], &text.replacen("1,", "", 1)] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(Identity::read(dir.path()), Err(identity::IdentityError::Damaged { .. })));
    }
}

#[test]
fn an_assignment_is_taken_when_it_is_whole_and_newer() {
    use super::intake::{Effect, Intake, Part};
    let (_dir, ledger) = ledger();
    let (one, two) = (accepted(1), accepted(2));
    let bytes = |accepted: &Accepted, hash: &SpecHash| accepted.specs[hash].bytes.clone();
    let hashes: Vec<SpecHash> = one.specs.keys().copied().collect();
    let parts = |hashes: &[SpecHash]| hashes.iter().copied().map(Part::Spec).collect::<Vec<_>>();
    let mut intake = Intake::new(ledger, None);
    assert_eq!(intake.want(&one.signed), [Effect::Listen(parts(&hashes))]);
    assert_eq!(intake.want(&one.signed), [], "the same again is no news");
    assert_eq!(intake.missing(), parts(&hashes));
    assert_eq!(
        intake.spec(&hashes[0], &bytes(&one, &hashes[0])),
        [Effect::Ignore(Part::Spec(hashes[0]))]
    );
    let whole = intake.spec(&hashes[1], &bytes(&one, &hashes[1]));
    assert_eq!(
        whole,
        [Effect::Ignore(Part::Spec(hashes[1])), Effect::Store(Box::new(one.clone()))]
    );

    // A newer one comes while that is written; an unwritten one is handed out again.
    let new: Vec<SpecHash> = two.specs.keys().filter(|h| !hashes.contains(h)).copied().collect();
    intake.not_stored(one.clone());
    assert_eq!(intake.retry(), [Effect::Store(Box::new(one.clone()))]);
    assert_eq!(intake.stored(one.clone()), []);
    assert_eq!(intake.want(&two.signed), [Effect::Listen(parts(&new))]);
    let whole = intake.spec(&new[0], &bytes(&two, &new[0]));
    assert_eq!(whole, [Effect::Ignore(Part::Spec(new[0])), Effect::Store(Box::new(two.clone()))]);
    assert_eq!(intake.stored(two.clone()), []);
    assert_eq!(intake.current(), Some(&two));

    // Older ones are refused, once; so are specs of another service.
    assert!(matches!(intake.want(&one.signed)[..], [Effect::Refused { .. }]));
    assert_eq!(intake.want(&one.signed), []);
    let mut crossed = accepted(3).assignment;
    let (first, second) = (crossed.services[0].spec, two.assignment.services[1].spec);
    assert_ne!(first, second);
    crossed.services.truncate(1);
    crossed.services[0].spec = second;
    assert!(matches!(intake.want(&sign(&crossed))[..], [Effect::Refused { .. }]));
    assert_eq!(intake.current(), Some(&two));
}

#[test]
fn what_comes_next_is_kept_like_what_runs() {
    use super::intake::{Effect, Intake, Part};
    let (_dir, ledger) = ledger();
    let mut one = accepted(1);
    let (next, foreign) = (kept("web", 2), kept("db", 0));
    let hash = spec_hash(&next.bytes);
    one.assignment.services[0].next = Some(hash);
    one.signed = sign(&one.assignment);
    let mut intake = Intake::new(ledger.clone(), Some(accepted(0)));
    let listened = intake.want(&one.signed);
    assert!(
        matches!(&listened[..], [Effect::Listen(hashes)] if hashes.contains(&Part::Spec(hash)))
    );
    one.specs.insert(hash, next.clone());
    let mut last = Vec::new();
    for (hash, kept) in &one.specs {
        last = intake.spec(hash, &kept.bytes).into_iter().chain(last).collect();
    }
    assert!(last.contains(&Effect::Store(Box::new(one.clone()))), "{last:?}");
    ledger.store(&one).unwrap();
    assert_eq!(ledger.load().unwrap().accepted, Some(one.clone()));
    // It has to be of the same service.
    intake.stored(one);
    let mut crossed = accepted(2);
    crossed.assignment.services[0].next = Some(spec_hash(&foreign.bytes));
    let taken = intake.want(&sign(&crossed.assignment));
    let refused = taken.iter().any(|effect| matches!(effect, Effect::Refused { .. }));
    assert!(refused || !intake.missing().is_empty());
    let taken = intake.spec(&crossed.assignment.services[0].spec, &kept("web", 2).bytes);
    let told = refused || taken.iter().any(|effect| matches!(effect, Effect::Refused { .. }));
    assert!(told, "{taken:?}");
}
