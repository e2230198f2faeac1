//! What `wpa_supplicant` is told of a board's Wi-Fi. Pure.
//!
//! In: name, password and country as `limpet.toml` has them. Out: its configuration, or what is wrong with the settings.
//! Lengths and characters are those of IEEE 802.11-2020 (9.4.2.2 for names, J.4.1 for passwords).

const MAX_SSID_BYTES: usize = 32;
const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=63;
/// A key itself in the place of a password, in hexadecimal digits.
const KEY_DIGITS: usize = 64;

/// Settings of Wi-Fi that cannot be used. A password is not repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum WifiError {
    /// A name that no network has.
    #[error("network.wifi-ssid: the name of a network has 1 to {MAX_SSID_BYTES} bytes, not {0}")]
    Ssid(usize),
    /// A password that no network has.
    #[error(
        "network.wifi-password: write 8 to 63 letters, digits and signs of ASCII, a key in 64 hexadecimal digits, \
         or nothing for an open network"
    )]
    Password,
    /// No country.
    #[error("network.wifi-country {0:?}: write two letters, such as \"DE\"")]
    Country(String),
    /// A password or a country of no network.
    #[error("network.{0} is set, and network.wifi-ssid is not")]
    NoSsid(&'static str),
    /// The interface is another one.
    #[error(
        "network.interface {0:?} is none of Wi-Fi, and network.wifi-ssid is set: take one of them away"
    )]
    Interface(String),
}

/// The configuration, in the format of `wpa_supplicant.conf`(5).
pub(super) fn configuration(
    ssid: &str,
    password: &str,
    country: Option<&str>,
) -> Result<String, WifiError> {
    if ssid.is_empty() || ssid.len() > MAX_SSID_BYTES {
        return Err(WifiError::Ssid(ssid.len()));
    }
    let mut text = String::new();
    if let Some(country) = country {
        if country.len() != 2 || !country.bytes().all(|it| it.is_ascii_alphabetic()) {
            return Err(WifiError::Country(country.to_owned()));
        }
        text += &format!("country={}\n", country.to_ascii_uppercase());
    }
    let ssid: String = ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Asking for the network by its name finds one that hides it.
    text +=
        &format!("p2p_disabled=1\nnetwork={{\nssid={ssid}\nscan_ssid=1\n{}}}\n", keys(password)?);
    Ok(text)
}

fn keys(password: &str) -> Result<String, WifiError> {
    let is_ascii = password.bytes().all(|it| (b' '..=b'~').contains(&it));
    if password.is_empty() {
        Ok("key_mgmt=NONE\n".to_owned())
    } else if password.len() == KEY_DIGITS && password.bytes().all(|it| it.is_ascii_hexdigit()) {
        Ok(format!("key_mgmt=WPA-PSK WPA-PSK-SHA256\nieee80211w=1\npsk={password}\n"))
    } else if PASSWORD_CHARACTERS.contains(&password.len()) && is_ascii {
        // It ends with the last quote of the line, so those within mean nothing. WPA2, and WPA3 where both have it.
        Ok(format!("key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\nieee80211w=1\npsk=\"{password}\"\n"))
    } else {
        Err(WifiError::Password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_by_the_bytes_of_its_name() {
        let told = configuration("Café 7", "a \"b\" # \\", Some("de")).unwrap();
        let begin = "country=DE\np2p_disabled=1\nnetwork={\nssid=436166c3a92037\nscan_ssid=1\n";
        assert!(told.starts_with(begin), "{told}");
        assert!(told.contains("\npsk=\"a \"b\" # \\\"\n}\n") && told.contains("SAE"), "{told}");
        let key = "0123456789abcdef".repeat(4);
        let told = configuration("a", &key, None).unwrap();
        assert!(told.contains(&format!("\npsk={key}\n")) && !told.contains("SAE"), "{told}");
        assert!(configuration("a", "", None).unwrap().contains("key_mgmt=NONE\n"));
    }

    #[test]
    fn what_no_network_has_is_refused() {
        assert_eq!(configuration("", "", None), Err(WifiError::Ssid(0)));
        assert_eq!(configuration(&"a".repeat(33), "", None), Err(WifiError::Ssid(33)));
        for password in ["1234567", &"z".repeat(64), "pässword", "a line\nand=another"] {
            assert_eq!(configuration("a", password, None), Err(WifiError::Password), "{password}");
        }
        for country in ["D", "DEU", "D1", "D\n"] {
            let refused = Err(WifiError::Country(country.to_owned()));
            assert_eq!(configuration("a", "", Some(country)), refused);
        }
    }
}
