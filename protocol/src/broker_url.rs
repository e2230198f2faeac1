//! The URL of a broker, as agent and controller are given it: `mqtt://[user[:password]@]host[:port]`.
//!
//! In: text. Out: its parts, checked. `mqtts://` is refused by name until TLS is there.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The port of MQTT without TLS (IANA).
const DEFAULT_PORT: u16 = 1883;

/// Where a broker is, and who its client is there if the broker is not the controller's own.
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
    /// No host, or one with a space in it.
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
        if host.is_empty() || host.contains(char::is_whitespace) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<BrokerUrl, BrokerUrlError> {
        text.parse()
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = |host: &str, port| BrokerUrl { host: host.to_owned(), port, login: None };
        assert_eq!(url("mqtt://a"), Ok(plain("a", 1883)));
        assert_eq!(url("tcp://a:18/"), Ok(plain("a", 18)));
        assert_eq!(url("mqtt://[::1]"), Ok(plain("[::1]", 1883)));
        assert_eq!(url("mqtt://[::1]:9"), Ok(plain("[::1]", 9)));
        let login = Some(("u@x".to_owned(), "p:q".to_owned()));
        assert_eq!(url("mqtt://u%40x:p%3aq@h:2"), Ok(BrokerUrl { login, ..plain("h", 2) }));
        let user_only = Some(("user".to_owned(), String::new()));
        assert_eq!(url("mqtt://user@h"), Ok(BrokerUrl { login: user_only, ..plain("h", 1883) }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let port = |port: &str| Err(BrokerUrlError::Port { port: port.to_owned() });
        assert_eq!(url("mqtts://a"), Err(BrokerUrlError::Scheme));
        assert_eq!(url("a:1883"), Err(BrokerUrlError::Scheme));
        for text in ["mqtt://", "mqtt://:1", "mqtt://a b:1"] {
            assert_eq!(url(text), Err(BrokerUrlError::NoHost), "{text}");
        }
        assert_eq!(url("mqtt://a:0"), port("0"));
        assert_eq!(url("mqtt://a:65536"), port("65536"));
        assert_eq!(url("mqtt://a:x"), port("x"));
        assert_eq!(url("mqtt://a/b"), Err(BrokerUrlError::Rest { rest: "/b".to_owned() }));
        for text in ["mqtt://u%4@h", "mqtt://u%@h", "mqtt://%ff:p@h"] {
            assert_eq!(url(text), Err(BrokerUrlError::Encoding), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let secret = url("mqtt://user:geheim@h").unwrap();
        assert_eq!(alloc::format!("{secret} {secret:?}"), "mqtt://h:1883 BrokerUrl(mqtt://h:1883)");
    }
}
