//! The URL of a broker that is not our own: `mqtt://[user:password@]host[:port]`.
//!
//! In: text. Out: its parts, checked. `mqtts://` is refused by name until TLS is there.

use std::fmt;
use std::str::FromStr;

/// The port of MQTT without TLS (IANA).
const DEFAULT_PORT: u16 = 1883;

/// Where a broker is, and who the controller is there.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or address; an IPv6 address in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// Why a text is not the URL of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// Not `mqtt://`.
    #[error("the URL must begin with mqtt:// (mqtts:// comes with a later version)")]
    Scheme,
    /// No host, or something that is none.
    #[error("the URL must be mqtt://[USER:PASSWORD@]HOST[:PORT]")]
    Shape,
    /// A percent sign without two hexadecimal digits.
    #[error("user and password must be percent-encoded UTF-8")]
    Encoding,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let rest = text.strip_prefix("mqtt://").ok_or(BrokerUrlError::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((percent_decode(user)?, percent_decode(password)?)), address)
            }
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (address, Some(DEFAULT_PORT)),
        };
        match port {
            Some(port) if port != 0 && !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => {
                Ok(Self { host: host.to_owned(), port, login })
            }
            _ => Err(BrokerUrlError::Shape),
        }
    }
}

fn percent_decode(text: &str) -> Result<String, BrokerUrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (pair, after) = rest.split_at_checked(2).ok_or(BrokerUrlError::Encoding)?;
        let digits = std::str::from_utf8(pair).map_err(|_| BrokerUrlError::Encoding)?;
        decoded.push(u8::from_str_radix(digits, 16).map_err(|_| BrokerUrlError::Encoding)?);
        rest = after;
    }
    String::from_utf8(decoded).map_err(|_| BrokerUrlError::Encoding)
}

impl fmt::Display for BrokerUrl {
    /// Without the login, so that it can be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url: BrokerUrl = "mqtt://a%40b:p%3A@[::1]:99".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 99));
        assert_eq!(url.login, Some(("a@b".to_owned(), "p:".to_owned())));
        assert_eq!(url.to_string(), "mqtt://[::1]:99");
        assert_eq!("mqtt://host".parse::<BrokerUrl>().unwrap().port, 1883);
        assert_eq!("mqtts://host".parse::<BrokerUrl>(), Err(BrokerUrlError::Scheme));
        for wrong in ["mqtt://", "mqtt://h:0", "mqtt://h:x", "mqtt://h/t", "mqtt://h:1:2:x"] {
            assert_eq!(wrong.parse::<BrokerUrl>(), Err(BrokerUrlError::Shape), "{wrong}");
        }
        assert_eq!("mqtt://a%4:b@h".parse::<BrokerUrl>(), Err(BrokerUrlError::Encoding));
    }
}
