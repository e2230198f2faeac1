//! The broker's URL: `mqtt://[user[:password]@]host[:port]`.
//!
//! In: text. Out: its parts, checked. `mqtts://` is refused by name until TLS is there.

use std::fmt;
use std::str::FromStr;

/// The port of MQTT without TLS (IANA).
const DEFAULT_PORT: u16 = 1883;

/// Where the broker is, and who the agent is there if the broker is not the controller's own.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or address; an IPv6 address in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password for a broker that is not the controller's own.
    pub login: Option<(String, String)>,
}

/// Why a text is not the URL of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// Not `mqtt://`.
    #[error("the URL must begin with mqtt:// (mqtts:// comes with a later version)")]
    Scheme,
    /// No host.
    #[error("the URL names no host; write mqtt://HOST:1883")]
    NoHost,
    /// The port is no number between 1 and 65535.
    #[error("port {port:?} is not a number between 1 and 65535")]
    Port {
        /// As it was given.
        port: String,
    },
    /// Something after the host and port.
    #[error("nothing may come after the host and port, but {rest:?} does")]
    Rest {
        /// What comes after.
        rest: String,
    },
    /// A percent sign without two hexadecimal digits in the user or password.
    #[error("user and password must be percent-encoded UTF-8")]
    Encoding,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let rest = text
            .strip_prefix("mqtt://")
            .or_else(|| text.strip_prefix("tcp://"))
            .ok_or(BrokerUrlError::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(BrokerUrlError::Rest { rest: rest[at..].to_owned() });
        }
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((percent_decode(user)?, percent_decode(password)?)), address)
            }
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        if host.is_empty() {
            return Err(BrokerUrlError::NoHost);
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(number) if number != 0 => number,
                _ => return Err(BrokerUrlError::Port { port: port.to_owned() }),
            },
        };
        Ok(Self { host: host.to_owned(), port, login })
    }
}

fn percent_decode(text: &str) -> Result<String, BrokerUrlError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(BrokerUrlError::Encoding)
    };
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| BrokerUrlError::Encoding)
}

impl fmt::Display for BrokerUrl {
    /// Without user and password: it is for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}
