//! When runs of a job begin: `deploy.x-schedule`.
//!
//! The time zone's name becomes its rule here, from the time zone database of this machine, so that nodes
//! need none. Other keys that begin with `x-` are free; this one is checked like the rest of the file.

use std::io;
use std::path::Path;

use limpet_protocol::application::{Application, Service};
use limpet_protocol::cron::Cron;
use limpet_protocol::spec::{MissedRuns, Overlap, RestartCondition, Schedule};
use limpet_protocol::zone::Zone;

use super::reader::Reader;
use crate::canonical::join;
use crate::diagnostic::Problems;
use crate::files::Files;
use crate::node::{Mapping, Node};
use crate::project::services;
use crate::units;

const KEY: &str = "deploy.x-schedule";
const KEYS: [&str; 5] = ["cron", "time_zone", "missed", "deadline", "overlap"];
/// Where every Linux keeps the time zone database (tzfile(5)).
const DATABASE: &str = "/usr/share/zoneinfo";
/// Its list of names.
const NAMES: &str = "tzdata.zi";

/// Gives the services of an application their schedules.
pub(crate) fn schedules(
    tree: &Node,
    files: &dyn Files,
    application: &mut Application,
    problems: &mut Problems,
) {
    for (name, node) in services(tree) {
        let Some(service) = application.services.iter_mut().find(|(it, _)| it.as_str() == name)
        else {
            continue;
        };
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems: &mut *problems };
        if let Some(schedule) = schedule(&mut reader, files) {
            ends(&mut reader, service.1);
            service.1.spec.schedule = Some(schedule);
        }
    }
}

/// A run ends by itself and is not started again when it succeeded.
fn ends(reader: &mut Reader, service: &mut Service) {
    let policy = ["deploy.restart_policy.condition", "restart"];
    match policy.into_iter().find_map(|key| Some((key, reader.get(key)?))) {
        None if !service.mode.is_job() => service.spec.restart.condition = RestartCondition::None,
        Some((key, node)) if service.spec.restart.condition == RestartCondition::Any => {
            let message = "runs of a schedule end by themselves";
            let advice = "write `on-failure` to try a failed run again, or `no`";
            reader.at(key).refuse(node, message, advice);
        }
        _ => {}
    }
}

fn schedule(reader: &mut Reader, files: &dyn Files) -> Option<Schedule> {
    let node = reader.get(KEY)?;
    let mapping = known(reader, node)?;
    let cron = text(reader, mapping, "cron");
    let Some(cron) = cron else {
        reader.at(KEY).fail(
            node,
            "`cron` is missing: five fields as crontab(5) has them, such as \"0 3 * * *\"",
        );
        return None;
    };
    if let (Err(error), Some(entry)) = (Cron::parse(&cron), mapping.get("cron")) {
        reader.at(&join(KEY, "cron")).fail(&entry.node, error.to_string());
    }
    let zone = text(reader, mapping, "time_zone").and_then(|name| {
        let wrong = zone(&name, files).map_err(|why| (why, mapping.get("time_zone")));
        match wrong {
            Ok(zone) => Some(zone),
            Err(((message, advice), entry)) => {
                let at = entry.map_or(node, |entry| &entry.node);
                reader.at(&join(KEY, "time_zone")).refuse(at, message, &advice);
                None
            }
        }
    });
    let missed = choice(
        reader,
        mapping,
        "missed",
        [("skip", MissedRuns::Skip), ("once", MissedRuns::Once), ("all", MissedRuns::All)],
    );
    let overlap = choice(
        reader,
        mapping,
        "overlap",
        [("forbid", Overlap::Forbid), ("replace", Overlap::Replace)],
    );
    if (missed, overlap) == (Some(MissedRuns::All), Some(Overlap::Replace)) {
        let message = "runs that are made up for one after the other would stop each other";
        reader.at(KEY).refuse(node, message, "write `overlap: forbid`, or `missed: once`");
    }
    Some(Schedule {
        cron,
        zone: zone.unwrap_or_default(),
        missed: missed.unwrap_or_default(),
        deadline_ms: deadline(reader, mapping),
        overlap: overlap.unwrap_or_default(),
    })
}

fn known<'a>(reader: &mut Reader<'a, '_>, node: &'a Node) -> Option<&'a Mapping> {
    let Some(mapping) = node.as_mapping() else {
        let message = format!("expected {}, found {}", KEYS.join(", "), node.kind());
        reader.at(KEY).fail(node, message);
        return None;
    };
    for (name, entry) in mapping {
        if !KEYS.contains(&name.as_str()) {
            let advice = match units::nearest(name, KEYS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", KEYS.join(", ")),
            };
            let message = format!("unknown key `{name}`");
            reader.at(&join(KEY, name)).refuse(&entry.node, message, &advice);
        }
    }
    Some(mapping)
}

fn text(reader: &mut Reader, mapping: &Mapping, key: &str) -> Option<String> {
    let node = &mapping.get(key)?.node;
    if node.is_null() {
        return None;
    }
    let found = node.scalar();
    if found.is_none() {
        let message = format!("expected a text, found {}", node.kind());
        reader.at(&join(KEY, key)).fail(node, message);
    }
    found.map(str::to_owned)
}

fn choice<T: Copy, const N: usize>(
    reader: &mut Reader,
    mapping: &Mapping,
    key: &str,
    choices: [(&str, T); N],
) -> Option<T> {
    let word = text(reader, mapping, key)?;
    let found = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    if let (None, Some(entry)) = (found, mapping.get(key)) {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("expected one of {}, found {word:?}", names.join(", "));
        reader.at(&join(KEY, key)).fail(&entry.node, message);
    }
    found
}

fn deadline(reader: &mut Reader, mapping: &Mapping) -> Option<u64> {
    let word = text(reader, mapping, "deadline")?;
    let found = units::duration_ms(&word);
    if let (None, Some(entry)) = (found, mapping.get("deadline")) {
        let message = format!("expected a duration such as 1h, found {word:?}");
        reader.at(&join(KEY, "deadline")).fail(&entry.node, message);
    }
    found
}

/// The rule of a time zone, or what is wrong with its name and what to do.
pub(super) fn zone(name: &str, files: &dyn Files) -> Result<String, (String, String)> {
    if matches!(name, "UTC" | "Etc/UTC" | "Z") {
        return Ok(String::new());
    }
    if name.contains(|c: char| c.is_ascii_digit()) && Zone::parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    let legal = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+');
        !part.is_empty() && part.bytes().all(plain)
    };
    let found = match name.split('/').all(legal) {
        true => files.read_bytes(&Path::new(DATABASE).join(name)),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    let unknown = || {
        let message = format!("there is no time zone {name:?}");
        (message, advice(name, files))
    };
    let rule = footer(&found.map_err(|_| unknown())?).ok_or_else(unknown)?;
    match Zone::parse(&rule) {
        Ok(_) => Ok(rule),
        Err(error) => {
            let message =
                format!("the rule {rule:?} of time zone {name:?} cannot be used: {error}");
            Err((message, "write another name, or the rule itself as POSIX.1 has it".to_owned()))
        }
    }
}

/// The rule at the end of a TZif file, for all times after its tables (RFC 8536, section 3.3).
fn footer(bytes: &[u8]) -> Option<String> {
    let body = bytes.strip_prefix(b"TZif")?.strip_suffix(b"\n")?;
    let rule = body.rsplit(|byte| *byte == b'\n').next()?;
    String::from_utf8(rule.to_vec()).ok().filter(|rule| !rule.is_empty())
}

fn advice(name: &str, files: &dyn Files) -> String {
    let Ok(text) = files.read(&Path::new(DATABASE).join(NAMES)) else {
        return "this machine has no time zone database: install tzdata, or write the rule as POSIX.1 has it \
                (CET-1CEST,M3.5.0,M10.5.0/3)"
            .to_owned();
    };
    // `Z NAME ...` is a zone, `L TARGET NAME` another name of one (zic(8)).
    let names = text.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["Z", name, ..] | ["L", _, name] => Some(name),
        _ => None,
    });
    match units::nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write it as the time zone database does, such as Europe/Berlin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, MemoryFiles, load};

    fn read(keys: &str) -> Result<Service, Vec<String>> {
        let text = format!("name: app\nservices:\n  s: {{image: i, {keys}}}\n");
        let files = MemoryFiles::new()
            .with("compose.yaml", &text)
            .with(
                "/usr/share/zoneinfo/Europe/Berlin",
                "TZif2\0\0\n...\nCET-1CEST,M3.5.0,M10.5.0/3\n",
            )
            .with("/usr/share/zoneinfo/Old", "TZif\0")
            .with(
                "/usr/share/zoneinfo/tzdata.zi",
                "# version 2024a\nR A 1\nZ Europe/Berlin 0:53\nL Europe/Berlin Europe/Oslo\n",
            );
        let lines = |errors: Vec<crate::Diagnostic>| {
            errors.iter().map(|e| e.one_line()).collect::<Vec<String>>()
        };
        let project = load(&LoadOptions::default(), &files).map_err(lines)?;
        let application = project.to_application().map_err(lines)?;
        application.services.into_values().next().ok_or_else(Vec::new)
    }

    #[test]
    fn a_schedule_has_five_keys() {
        let service = read(
            "deploy: {x-schedule: {cron: '*/5 * * * *', time_zone: Europe/Berlin, missed: all, \
             deadline: 1h30m, overlap: forbid}}",
        )
        .unwrap();
        let schedule = service.spec.schedule.unwrap();
        assert_eq!(
            (schedule.cron.as_str(), schedule.zone.as_str()),
            ("*/5 * * * *", "CET-1CEST,M3.5.0,M10.5.0/3")
        );
        assert_eq!((schedule.missed, schedule.overlap), (MissedRuns::All, Overlap::Forbid));
        assert_eq!(schedule.deadline_ms, Some(5_400_000));
        assert_eq!(service.spec.restart.condition, RestartCondition::None, "it runs to its end");

        let service = read("restart: on-failure, deploy: {x-schedule: {cron: '@daily'}}").unwrap();
        let schedule = service.spec.schedule.unwrap();
        assert_eq!((schedule.missed, schedule.overlap), (MissedRuns::Once, Overlap::Forbid));
        assert_eq!((schedule.zone.as_str(), schedule.deadline_ms), ("", None));
        assert_eq!(service.spec.restart.condition, RestartCondition::OnFailure);
        let posix = read("deploy: {x-schedule: {cron: '@daily', time_zone: '<+03>-3'}}").unwrap();
        assert_eq!(posix.spec.schedule.unwrap().zone, "<+03>-3");
        assert_eq!(read("deploy: {x-schedule: }").unwrap().spec.schedule, None);
    }

    #[test]
    fn what_is_wrong_is_named_where_it_stands() {
        let with = |keys: &str| format!("deploy: {{x-schedule: {{cron: '@daily', {keys}}}}}");
        for (keys, expected) in [
            ("deploy: {x-schedule: {}}".to_owned(), "x-schedule: `cron` is missing"),
            ("deploy: {x-schedule: daily}".to_owned(), "x-schedule: expected cron, time_zone"),
            (
                "deploy: {x-schedule: {cron: '61 * * * *'}}".to_owned(),
                "x-schedule.cron: minute \"61\": write 0 to 59",
            ),
            ("deploy: {x-schedule: {cron: '0 0 30 2 *'}}".to_owned(), "no such day"),
            (with("time_zone: Europe/Berlni"), "did you mean `Europe/Berlin`?"),
            (with("time_zone: Europe/Osl"), "did you mean `Europe/Oslo`?"),
            (with("time_zone: ../../etc/passwd"), "there is no time zone"),
            (with("time_zone: Old"), "there is no time zone \"Old\""),
            (with("missed: twice"), "missed: expected one of skip, once, all, found \"twice\""),
            (with("overlap: allow"), "overlap: expected one of forbid, replace"),
            (with("deadline: soon"), "deadline: expected a duration"),
            (with("timezone: UTC"), "did you mean `time_zone`?"),
            (with("missed: all, overlap: replace"), "would stop each other"),
            (
                format!("restart: always, {}", with("missed: once")),
                "runs of a schedule end by themselves",
            ),
        ] {
            let errors = read(&keys).expect_err(&keys);
            assert!(
                errors.iter().any(|line| line.contains(expected)),
                "{keys}: {expected}: {errors:#?}"
            );
            assert!(errors.iter().all(|line| line.starts_with("compose.yaml:3:")), "{errors:#?}");
        }
    }
}
