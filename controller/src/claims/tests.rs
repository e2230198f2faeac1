//! Ports and addresses that one service of the fleet has, in a real store.

use limpet_protocol::application::Mode;
use limpet_protocol::spec::{Attachment, ImageSource, Spec};

use super::*;

type Ports<'a> = &'a [(&'a str, Option<(u16, u16)>)];

fn application(name: &str, services: Ports<'_>) -> Application {
    let name: ApplicationName = name.parse().unwrap();
    let one = |(service, published): &(&str, Option<(u16, u16)>)| {
        let service: ServiceName = service.parse().unwrap();
        let mut spec = Spec::new(name.clone(), service.clone(), ImageSource::new("a"));
        let published = *published;
        let port =
            PublishedPort { target: 80, published, host_ip: None, udp: false, host_mode: false };
        spec.ports = vec![port];
        (service, Service::new(spec, Mode::Replicated { replicas: 1 }))
    };
    Application { name: name.clone(), services: services.iter().map(one).collect() }
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

async fn commit(store: &Store, stakes: Stakes) -> Result<(), CommitError> {
    let Stakes { compare, ops } = stakes;
    store.commit(Transaction { compare, ops, if_revision: None }).await.map(drop)
}

fn ports(application: &Application) -> Vec<u16> {
    application.services.values().map(|it| it.spec.ports[0].published.unwrap().0).collect()
}

#[tokio::test]
async fn of_two_at_the_same_moment_one_has_it_and_the_other_learns_who() {
    let (_folder, store) = open();
    let shop = application("shop", &[("web", Some((8080, 8080)))]);
    let blog = application("blog", &[("front", Some((8080, 8080)))]);
    let first = stake(&store, None, Some(&shop)).unwrap();
    let second = stake(&store, None, Some(&blog)).unwrap();
    commit(&store, first).await.unwrap();
    let late = commit(&store, second).await;
    assert!(matches!(late, Err(CommitError::Conflict { .. })), "{late:?}");
    let told = stake(&store, None, Some(&blog)).unwrap_err().to_string();
    assert!(told.starts_with("services.front.spec.ports: port 8080/tcp"), "{told}");
    assert!(told.contains("shop.web already"), "{told}");
    // Whoever goes gives it back.
    let gone = stake(&store, Some(&shop), None).unwrap();
    commit(&store, gone).await.unwrap();
    let taken = stake(&store, None, Some(&blog)).unwrap();
    commit(&store, taken).await.unwrap();
    assert_eq!(stake(&store, Some(&blog), Some(&blog)).unwrap().ops, [], "it has it already");
}

#[tokio::test]
async fn a_port_of_a_range_is_chosen_once_and_kept() {
    let (_folder, store) = open();
    let range = Some((8000, 8002));
    let file = application("shop", &[("a", range), ("b", range), ("c", None)]);
    let mut shop = file.clone();
    choose_ports(&store, None, &mut shop).unwrap();
    let chosen = ports(&shop);
    assert!(chosen[..2].iter().all(|port| (8000..=8002).contains(port)) && chosen[0] != chosen[1]);
    assert!((ANY_PORT.0..=ANY_PORT.1).contains(&chosen[2]));
    commit(&store, stake(&store, None, Some(&shop)).unwrap()).await.unwrap();
    let mut again = file.clone();
    choose_ports(&store, Some(&shop), &mut again).unwrap();
    assert_eq!(again, shop);
    // Others get what is left, until nothing is.
    let mut blog = application("blog", &[("x", range)]);
    choose_ports(&store, None, &mut blog).unwrap();
    let left = ports(&blog)[0];
    assert!((8000..=8002).contains(&left) && !chosen.contains(&left));
    commit(&store, stake(&store, None, Some(&blog)).unwrap()).await.unwrap();
    let full = choose_ports(&store, None, &mut application("more", &[("y", range)]));
    let told = full.unwrap_err().to_string();
    assert!(told.starts_with("services.y.spec.ports: every port from 8000 to 8002"), "{told}");
}

#[tokio::test]
async fn a_fixed_address_is_claimed_like_a_port() {
    let (_folder, store) = open();
    let fixed = |name: &str| {
        let mut application = application(name, &[("db", None)]);
        let service = application.services.values_mut().next().unwrap();
        service.spec.ports.clear();
        let attachment = Attachment {
            ipv4_address: Some("172.28.0.9".parse().unwrap()),
            ipv6_address: Some("fd12::9".parse().unwrap()),
            ..Attachment::default()
        };
        service.spec.network.networks.insert("n".parse().unwrap(), attachment);
        application
    };
    let shop = fixed("shop");
    commit(&store, stake(&store, None, Some(&shop)).unwrap()).await.unwrap();
    let told = stake(&store, None, Some(&fixed("blog"))).unwrap_err().to_string();
    assert_eq!(
        told,
        "services.db.spec.network: 172.28.0.9 is the address of shop.db already: take another"
    );
    let within = Application {
        services: [("a", "db"), ("b", "db")]
            .map(|(name, of)| {
                let name: ServiceName = name.parse().unwrap();
                (name, shop.services[&of.parse::<ServiceName>().unwrap()].clone())
            })
            .into(),
        ..shop.clone()
    };
    assert!(check(&within).unwrap_err().to_string().contains("the address of shop.a"));
    for claim in of(&shop).unwrap().into_keys() {
        assert_eq!(Claim::of_key(claim.key().name()), Some(claim));
    }
}

#[tokio::test]
async fn what_was_applied_before_there_were_claims_has_them_at_the_next_start() {
    let (_folder, store) = open();
    let record = |application: Application| ApplicationRecord {
        application,
        applied_ms: 1,
        change: String::new(),
        changed: vec![],
    };
    let port = Some((8080, 8080));
    let shop = application("shop", &[("web", port)]);
    for one in [shop.clone(), application("twin", &[("web", port)])] {
        let key = Key::Application(one.name.clone());
        let value = codec::encode(&record(one)).unwrap();
        store
            .commit(Transaction { ops: vec![Op::Put(key, value)], ..Transaction::default() })
            .await
            .unwrap();
    }
    complete(&store).await.unwrap();
    complete(&store).await.unwrap();
    let told = stake(&store, None, Some(&application("blog", &[("x", port)]))).unwrap_err();
    assert!(told.to_string().contains("shop.web already"), "the first has it: {told}");
}
