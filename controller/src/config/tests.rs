//! Which of several values wins, and what is said about wrong ones.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ControllerArgs,
}

fn resolve(arguments: &[&str], file: Option<&str>) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let mut all = vec!["x", "--data", "/d"];
    all.extend(arguments);
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
        all.extend(["--config", path.to_str().unwrap()]);
    }
    let command = Command::try_parse_from(all).map_err(|error| error.to_string())?;
    command
        .args
        .resolve()
        .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "c.toml"))
}

#[test]
fn nothing_said_is_loopback() {
    let config = resolve(&[], None).unwrap();
    assert_eq!(config.api_listen.to_string(), DEFAULT_API_LISTEN);
    assert_eq!(config.broker, Broker::Embedded(DEFAULT_MQTT_LISTEN.parse().unwrap()));
    assert_eq!(config.lost_after, Duration::from_secs(30));
    assert_eq!(config.data, Path::new("/d"));
    assert_eq!(config.network, ("10.128.0.0/10".parse().unwrap(), 24));
}

#[test]
fn flags_win_over_the_file() {
    let file = "api-listen = \"0.0.0.0:1\"\nlost-after = \"2m\"\nbroker = \"mqtt://b\"\n";
    let config = resolve(&["--lost-after", "2s"], Some(file)).unwrap();
    assert_eq!(config.api_listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.lost_after, Duration::from_secs(2));
    assert_eq!(config.broker, Broker::External("mqtt://b".parse().unwrap()));
    let config = resolve(&["--mqtt-listen", "127.0.0.1:7"], Some(file)).unwrap();
    assert_eq!(config.broker, Broker::Embedded("127.0.0.1:7".parse().unwrap()));
}

#[test]
fn mistakes_are_named_where_they_stand() {
    let table = [
        ("\nlost-after = \"soon\"", "c.toml, line 2, key lost-after: \"soon\" is not a duration"),
        ("api-listen = \"here\"", "c.toml, line 1, key api-listen: invalid socket address"),
        ("lost_after = \"1s\"", "c.toml, line 1, key lost_after: unknown field `lost_after`"),
        ("broker = \"mqtts://h\"", "key broker: the URL must begin with mqtt://"),
        ("data", "c.toml, line 1: "),
        ("lost-after = \"1ms\"", "lost-after: must be 500ms at least"),
        ("network-pool = \"10.0.0.1/8\"", "key network-pool: the address has bits behind"),
        ("network-pool = \"10.0.0.0/24\"", "network-pool: expected a range of IPv4 addresses"),
        ("network-node-prefix = 29", "network-node-prefix: expected 2 to 16 more bits"),
        ("broker = \"mqtt://h\"\nmqtt-listen = \"127.0.0.1:1\"", "keep one of them"),
    ];
    for (text, expected) in table {
        let error = resolve(&[], Some(text)).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let error = resolve(&["--config", "/absent/c.toml"], None).unwrap_err();
    assert_eq!(error, "cannot read the configuration file /absent/c.toml");
    assert!(resolve(&["--broker", "mqtt://h", "--mqtt-listen", "127.0.0.1:1"], None).is_err());
    assert!(resolve(&["--api-listen", "x"], None).unwrap_err().contains("--api-listen"));
}

#[test]
fn durations_have_units() {
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
    for wrong in ["", "5", "s", "-1s", "1d", "99999999999999999999s", "18446744073709551615h"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}
