//! A secret is sealed to the key that its node proves, and to no other.

use limpet_protocol::id::ContentId;
use limpet_protocol::message::{SealKey, SealedSecret, Signed};
use limpet_protocol::spec::ContentMount;
use limpet_seal::{NodeKey, Secret};
use sha2::Digest as _;

use super::super::fake_agent;
use super::*;
use crate::contents::{self, ContentKind};

/// A node of a few lines that tells a key and hears what is sealed to it.
struct KeyHolder {
    badge: fake_agent::Badge,
    client: rumqttc::v5::AsyncClient,
    eventloop: rumqttc::v5::EventLoop,
}

impl KeyHolder {
    async fn start(rig: &Rig, content: ContentId) -> Self {
        let badge = joined(rig.address, &rig.token().await, "pi").await;
        let node = badge.node.as_str();
        let options = fake_agent::options(rig.address, node, node, &badge.secret);
        let (client, eventloop) = rumqttc::v5::AsyncClient::new(options, 16);
        let topic = Topic::Secret(badge.node.clone(), content).to_string();
        let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        client.subscribe(topic, qos).await.unwrap();
        Self { badge, client, eventloop }
    }

    async fn tell(&self, session: u64, key: SealKey) {
        let facts = Some(fake_agent::facts("pi"));
        let presence =
            NodePresence { online: true, boot: 1, session, facts, key: Some(key), mesh: None };
        let topic = Topic::Up(self.badge.node.clone()).to_string();
        let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        self.client.publish(topic, qos, true, codec::encode(&presence).unwrap()).await.unwrap();
    }

    fn proven(&self, key: &NodeKey) -> SealKey {
        let digest = sha2::Sha256::digest(self.badge.secret.as_bytes()).into();
        limpet_seal::prove(&digest, &self.badge.node, key.public())
    }

    /// The next sealed secret, if its signature is the controller's.
    async fn hear(&mut self) -> SealedSecret {
        use rumqttc::v5::Event;
        use rumqttc::v5::mqttbytes::v5::Packet;
        let heard = async {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) =
                    self.eventloop.poll().await.unwrap()
                {
                    return publish.payload;
                }
            }
        };
        let bytes = tokio::time::timeout(PATIENCE, heard).await.expect("a secret in time");
        let signed: Signed = codec::decode(&bytes).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ED25519,
            &self.badge.controller_key,
        );
        key.verify(&Signed::secret_text(&signed.payload), &signed.signature).unwrap();
        codec::decode(&signed.payload).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_sealed_to_the_key_that_its_node_proves() {
    let mut rig = Rig::start(NEVER).await;
    let clear = Secret::new(b"correct horse battery staple".to_vec());
    let id = contents::put(&rig.store, ContentKind::Secret, &clear, None, 1).await.unwrap();
    let mut pi = KeyHolder::start(&rig, id).await;
    let node = pi.badge.node.clone();
    let (first, second, forged) =
        (NodeKey::make().unwrap(), NodeKey::make().unwrap(), NodeKey::make().unwrap());
    pi.tell(1, pi.proven(&first)).await;
    let mut shop = shop(1);
    let web = shop.services.values_mut().next().unwrap();
    web.spec.secrets = vec![ContentMount {
        name: "token".to_owned(),
        content: id,
        target: "/run/secrets/token".to_owned(),
        uid: 0,
        gid: 0,
        mode: 0o444,
    }];
    rig.apply(shop).await;
    let sealed = pi.hear().await;
    assert_eq!((&sealed.node, sealed.content), (&node, id));
    assert_eq!(first.open(&node, &id, &sealed.sealed).unwrap(), clear);

    // Somebody else's word for a key changes nothing; the node's own does.
    let lie = SealKey { public: forged.public().to_vec(), ..pi.proven(&first) };
    pi.tell(2, lie).await;
    pi.tell(3, pi.proven(&second)).await;
    let sealed = pi.hear().await;
    assert_eq!(sealed.key, second.public());
    assert_eq!(second.open(&node, &id, &sealed.sealed).unwrap(), clear);
    assert_eq!(rig.wait_event("node_key_changed").await, 1);

    // A controller that starts again knows the key, and a node that asks gets it again.
    rig = rig.restart(NEVER).await;
    let topic = Topic::Ask(node.clone()).to_string();
    let ask = Ask { want: false, specs: vec![], configs: vec![], secrets: vec![id] };
    pi.client
        .publish(
            topic,
            rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
            false,
            codec::encode(&ask).unwrap(),
        )
        .await
        .unwrap();
    let hear = async {
        loop {
            match tokio::time::timeout(PATIENCE, pi.eventloop.poll()).await.unwrap() {
                Ok(rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::ConnAck(
                    _,
                ))) => {
                    let topic = Topic::Secret(node.clone(), id).to_string();
                    let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                    pi.client.try_subscribe(topic, qos).unwrap();
                }
                Ok(rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::Publish(
                    publish,
                ))) => return publish.payload,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let bytes = hear.await;
    let signed: Signed = codec::decode(&bytes).unwrap();
    let sealed: SealedSecret = codec::decode(&signed.payload).unwrap();
    assert_eq!(second.open(&node, &id, &sealed.sealed).unwrap(), clear);
    rig.stop().await;
}
