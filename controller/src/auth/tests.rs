//! Which tokens open which doors, against a real store.

use std::os::unix::fs::PermissionsExt as _;

use limpet_protocol::message::NodeFacts;

use super::*;
use crate::store::{Op, Transaction};

async fn put(store: &Store, key: Key, value: Vec<u8>) {
    let ops = vec![Op::Put(key, value)];
    store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
}

async fn token(store: &Store, text: &str, purpose: TokenPurpose, expires_ms: Option<u64>) {
    let record = TokenRecord { purpose, description: String::new(), created_ms: 1, expires_ms };
    put(store, Key::Token(hash(text)), codec::encode(&record).unwrap()).await;
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

#[tokio::test]
async fn a_token_opens_its_own_door_only_and_only_in_time() {
    let (_folder, store) = open();
    token(&store, "admin", TokenPurpose::Admin, None).await;
    token(&store, "join", TokenPurpose::Join, Some(u64::MAX)).await;
    token(&store, "old", TokenPurpose::Join, Some(1)).await;
    assert!(verify_admin(&store, "admin").is_ok());
    assert!(verify_join(&store, "join").is_ok());
    for wrong in ["join", "old", "", "Admin"] {
        assert!(matches!(verify_admin(&store, wrong), Err(AuthError::Unknown { .. })), "{wrong}");
    }
    assert!(matches!(verify_join(&store, "admin"), Err(AuthError::Unknown { .. })));
    assert!(matches!(verify_join(&store, "old"), Err(AuthError::Expired)));
}

#[tokio::test]
async fn a_proof_holds_for_its_session_only() {
    let (_folder, store) = open();
    let prove = |token: &str, session: &SessionId| {
        let key = digest::digest(&digest::SHA256, token.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        hmac::sign(&key, session.as_str().as_bytes()).as_ref().to_vec()
    };
    token(&store, "join", TokenPurpose::Join, None).await;
    token(&store, "old", TokenPurpose::Join, Some(1)).await;
    token(&store, "admin", TokenPurpose::Admin, None).await;
    let session: SessionId = "abc".parse().unwrap();
    assert!(verify_join_proof(&store, &session, &prove("join", &session)).is_ok());
    let other = "abd".parse().unwrap();
    assert!(verify_join_proof(&store, &other, &prove("join", &session)).is_err());
    assert!(verify_join_proof(&store, &session, &prove("admin", &session)).is_err());
    assert!(verify_join_proof(&store, &session, &[]).is_err());
    let old = verify_join_proof(&store, &session, &prove("old", &session));
    assert!(matches!(old, Err(AuthError::Expired)));
}

#[tokio::test]
async fn a_node_has_its_own_secret() {
    let (_folder, store) = open();
    let node: NodeId = "n1".parse().unwrap();
    let facts = NodeFacts {
        agent_version: "1".to_owned(),
        hostname: "n1".to_owned(),
        os: "linux".to_owned(),
        architecture: "arm64".to_owned(),
        variant: String::new(),
        kernel: "6".to_owned(),
        cpu_millis: 1000,
        memory_bytes: 1,
        labels: std::collections::BTreeMap::new(),
        conditions: Vec::new(),
        devices: None,
        stages: false,
    };
    let record = NodeRecord {
        node: node.clone(),
        secret_sha256: hash("secret"),
        labels: std::collections::BTreeMap::new(),
        facts,
        joined_ms: 1,
        availability: Default::default(),
        seal_key: None,
        mesh: None,
    };
    put(&store, Key::Node(node.clone()), codec::encode(&record).unwrap()).await;
    assert!(verify_node(&store, &node, "secret").is_ok());
    assert!(verify_node(&store, &node, "Secret").is_err());
    assert!(verify_node(&store, &"n2".parse().unwrap(), "secret").is_err());
}

#[tokio::test]
async fn the_first_token_stays_until_its_file_is_removed() {
    let (folder, store) = open();
    let first = admin::ensure_token(&store, folder.path()).await.unwrap();
    assert!(verify_admin(&store, &first).is_ok());
    assert_eq!(admin::ensure_token(&store, folder.path()).await.unwrap(), first);
    let file = folder.path().join(admin::TOKEN_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&file).unwrap();
    let second = admin::ensure_token(&store, folder.path()).await.unwrap();
    assert_ne!(first, second);
    assert!(verify_admin(&store, &second).is_ok());
    assert!(verify_admin(&store, &first).is_err());
    let client = admin::write_client_file(folder.path(), "http://127.0.0.1:1", &second).unwrap();
    assert_eq!(std::fs::metadata(&client).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&client).unwrap().contains(&second));
}
