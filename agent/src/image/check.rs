//! What an image says of its health: `HEALTHCHECK` of a Dockerfile.
//!
//! In: the bytes of an image configuration. Out: an [`ImageCheck`], if there is one. The key is
//! Docker's (`config.Healthcheck` of the Docker image specification 1.2; times are nanoseconds); the
//! OCI has none, but images built by Docker and Podman in Docker's format have it.

use serde::Deserialize;

const NS_PER_MS: i64 = 1_000_000;

/// The image's own health check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageCheck {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Between the end of one check and the next.
    pub interval_ms: Option<u64>,
    /// How long one check may take.
    pub timeout_ms: Option<u64>,
    /// After the start failures do not count for so long.
    pub start_period_ms: Option<u64>,
    /// Between checks within the start period.
    pub start_interval_ms: Option<u64>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
    #[serde(default)]
    shell: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Healthcheck {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

/// Reads the health check of an image configuration. One that cannot be read is none: an image is not
/// refused for it.
pub(super) fn image_check(config: &[u8]) -> Option<ImageCheck> {
    let Config { healthcheck, shell } = serde_json::from_slice::<Document>(config).ok()?.config?;
    let check = healthcheck?;
    let mut test = check.test?.into_iter();
    let command: Vec<String> = match test.next()?.as_str() {
        "CMD" => test.collect(),
        // The image's `SHELL`, or Docker's own.
        "CMD-SHELL" => {
            let shell = shell.filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            shell.into_iter().chain(test).collect()
        }
        _ => return None,
    };
    if command.is_empty() {
        return None;
    }
    let ms = |ns: i64| u64::try_from(ns / NS_PER_MS).ok().filter(|&ms| ms > 0);
    Some(ImageCheck {
        command,
        interval_ms: ms(check.interval),
        timeout_ms: ms(check.timeout),
        start_period_ms: ms(check.start_period),
        start_interval_ms: ms(check.start_interval),
        retries: u32::try_from(check.retries).ok().filter(|&retries| retries > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_s_healthcheck_is_read() {
        let read = |json: &str| image_check(json.as_bytes());
        let words = |check: Option<ImageCheck>| check.map(|check| check.command.join(" "));
        let whole = r#"{"config": {"Healthcheck": {"Test": ["CMD", "check", "it"], "Interval": 5000000000,
            "Timeout": 1000000, "StartPeriod": 60000000000, "StartInterval": 999, "Retries": 4}}}"#;
        let expected = ImageCheck {
            command: vec!["check".to_owned(), "it".to_owned()],
            interval_ms: Some(5_000),
            timeout_ms: Some(1),
            start_period_ms: Some(60_000),
            start_interval_ms: None,
            retries: Some(4),
        };
        assert_eq!(read(whole), Some(expected));
        let shell = r#"{"config": {"Healthcheck": {"Test": ["CMD-SHELL", "true || x"]}}}"#;
        assert_eq!(words(read(shell)).as_deref(), Some("/bin/sh -c true || x"));
        let own = r#"{"config": {"Shell": ["/bin/ash", "-ec"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"]}}}"#;
        assert_eq!(words(read(own)).as_deref(), Some("/bin/ash -ec true"));
        for none in [
            "{}",
            "garbage",
            r#"{"config": null}"#,
            r#"{"config": {"Healthcheck": null}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["NONE"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": []}}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["CMD"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": "x"}}}"#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        let odd =
            r#"{"config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": -5, "Retries": -1}}}"#;
        assert_eq!(read(odd).map(|check| (check.interval_ms, check.retries)), Some((None, None)));
    }
}
