//! How the MQTT client is set up. TLS will be put in here, in [`connect_to`], and nowhere else.
//!
//! In: settings. Out: options for rumqttc, and words for its errors.

use limpet_protocol::broker_url::BrokerUrl;
use limpet_protocol::limits::MAX_PACKET_BYTES;
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use rumqttc::v5::{ConnectionError, MqttOptions, StateError};

use super::{KEEP_ALIVE, LinkSettings};

/// Unacknowledged messages each way. The client keeps room for every one from the start, and without
/// a limit that is 13 MB.
const IN_FLIGHT: u16 = 16;
/// Until the broker has answered CONNECT.
const CONNECT_TIMEOUT_S: u64 = 10;

/// The seam of the transport: plain TCP now.
fn connect_to(broker: &BrokerUrl, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, broker.host.as_str(), broker.port);
    options.set_transport(Transport::tcp());
    options
}

/// Options for one client of the broker. A login in the URL goes before the client's own.
pub(super) fn for_client(
    broker: &BrokerUrl,
    client_id: &str,
    (user, password): (&str, &str),
) -> MqttOptions {
    let mut options = connect_to(broker, client_id);
    let (user, password) = match &broker.login {
        Some((user, password)) => (user.as_str(), password.as_str()),
        None => (user, password),
    };
    options
        .set_credentials(user, password)
        .set_clean_start(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_receive_maximum(Some(IN_FLIGHT))
        .set_max_packet_size(u32::try_from(MAX_PACKET_BYTES).ok());
    options
}

/// Options for the node that the agent is.
pub(super) fn for_node(settings: &LinkSettings) -> MqttOptions {
    let node = settings.node.as_str();
    for_client(&settings.broker, node, (node, &settings.secret))
}

/// Whether the broker knows who this is and does not want it.
pub(super) fn is_refusal(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{BadUserNamePassword, Banned, NotAuthorized};
    matches!(
        error,
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized | Banned)
    )
}

/// What went wrong, for a person.
pub(super) fn explain(error: &ConnectionError) -> String {
    match error {
        refusal if is_refusal(refusal) => {
            "the broker refused this node's user name and password".to_owned()
        }
        ConnectionError::Timeout(_) => {
            format!("the broker did not answer within {CONNECT_TIMEOUT_S} s")
        }
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker closed the connection".to_owned()
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            "the broker did not answer a ping".to_owned()
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refused: {code:?}"),
        other => other.to_string(),
    }
}
