//! What a change of single services makes of an application. Deciding code: values in, values out.
//!
//! Restarting is another spec (`Spec::restarts`), so that it keeps the rules of an update: the idea
//! of `kubectl rollout restart`.

use limpet_protocol::application::{Application, Mode, Service};
use limpet_protocol::id::ServiceName;

use super::error::ApiError;
use super::types::{ApplicationPatch, ServicePatch};

/// The application with the change.
pub(super) fn patched(
    old: &Application,
    change: &ApplicationPatch,
) -> Result<Application, ApiError> {
    if let Some(name) = change.services.keys().find(|name| !names(old, name)) {
        let known: Vec<&str> = old.services.keys().map(ServiceName::as_str).collect();
        let message = format!(
            "there is no service {name:?} in application {}; it has {}",
            old.name,
            known.join(", ")
        );
        return Err(ApiError::not_found(message));
    }
    let mut new = old.clone();
    for (name, service) in &mut new.services {
        let own = change.services.get(name.as_str()).or(change.every.as_ref());
        if let Some(own) = own {
            change_service(service, own)
                .map_err(|what| ApiError::bad_request(format!("services.{name}.{what}")))?;
        }
    }
    Ok(new)
}

/// What a change is, in a word for the history.
pub(super) fn in_words(change: &ApplicationPatch) -> &'static str {
    let mut all = change.services.values().chain(&change.every);
    let has = |what: fn(&ServicePatch) -> bool| all.clone().any(what);
    if has(|it| it.restart) {
        "restart"
    } else if has(|it| it.replicas.is_some()) {
        "scale"
    } else if all.all(|it| it.stopped == Some(true)) {
        "stop"
    } else {
        "start"
    }
}

fn names(application: &Application, name: &str) -> bool {
    application.services.keys().any(|known| known.as_str() == name)
}

fn change_service(service: &mut Service, change: &ServicePatch) -> Result<(), String> {
    if let Some(wanted) = change.replicas {
        match &mut service.mode {
            Mode::Replicated { replicas } => *replicas = wanted,
            Mode::ReplicatedJob { completions, .. } => *completions = wanted,
            mode @ (Mode::Global | Mode::GlobalJob) => {
                return Err(format!(
                    "replicas: its mode is {}, one on each node that matches: change its placement",
                    mode.as_str()
                ));
            }
        }
    }
    service.stopped = change.stopped.unwrap_or(service.stopped);
    if change.restart {
        // Another number is another spec; that is all that counts, so it may begin anew.
        service.spec.restarts = service.spec.restarts.wrapping_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use limpet_protocol::spec::{ImageSource, Spec};

    use super::*;

    fn shop(modes: &[(&str, Mode)]) -> Application {
        let name: limpet_protocol::id::ApplicationName = "shop".parse().unwrap();
        let one = |(service, mode): &(&str, Mode)| {
            let service: ServiceName = service.parse().unwrap();
            let spec = Spec::new(name.clone(), service.clone(), ImageSource::new("a"));
            (service, Service::new(spec, *mode))
        };
        Application { name: name.clone(), services: modes.iter().map(one).collect() }
    }

    fn state(application: &Application) -> Vec<(Mode, bool, u32)> {
        let services = application.services.values();
        services.map(|it| (it.mode, it.stopped, it.spec.restarts)).collect()
    }

    #[test]
    fn only_what_is_named_changes() {
        let two = Mode::Replicated { replicas: 2 };
        let job = Mode::ReplicatedJob { completions: 3, parallelism: 1 };
        let old = shop(&[("all", Mode::Global), ("job", job), ("web", two)]);
        let of = |text: &str| {
            let change: ApplicationPatch = serde_json::from_str(text).unwrap();
            patched(&old, &change).map(|new| state(&new)).map_err(|error| error.body.message)
        };
        let same = vec![(Mode::Global, false, 0), (job, false, 0), (two, false, 0)];
        assert_eq!(of("{}"), Ok(same.clone()));
        let with = |at: usize, it: (Mode, bool, u32)| {
            let mut new = same.clone();
            new[at] = it;
            Ok(new)
        };
        let nine = Mode::Replicated { replicas: 9 };
        assert_eq!(of(r#"{"services":{"web":{"replicas":9}}}"#), with(2, (nine, false, 0)));
        let nine = Mode::ReplicatedJob { completions: 9, parallelism: 1 };
        assert_eq!(of(r#"{"services":{"job":{"replicas":9}}}"#), with(1, (nine, false, 0)));
        assert_eq!(
            of(r#"{"services":{"all":{"stopped":true}}}"#),
            with(0, (Mode::Global, true, 0))
        );
        let all = of(r#"{"services":{"web":{}},"every":{"restart":true}}"#);
        assert_eq!(all, Ok(vec![(Mode::Global, false, 1), (job, false, 1), (two, false, 0)]));
        let refused = of(r#"{"services":{"all":{"replicas":1}}}"#).unwrap_err();
        assert!(refused.starts_with("services.all.replicas: its mode is global"), "{refused}");
        let missing = of(r#"{"services":{"db":{}}}"#).unwrap_err();
        assert_eq!(missing, "there is no service \"db\" in application shop; it has all, job, web");
    }

    #[test]
    fn restarts_never_run_out() {
        let mut old = shop(&[("web", Mode::Global)]);
        old.services.values_mut().for_each(|it| it.spec.restarts = u32::MAX);
        let every = Some(ServicePatch { restart: true, ..ServicePatch::default() });
        let change = ApplicationPatch { every, ..ApplicationPatch::default() };
        assert_eq!(state(&patched(&old, &change).unwrap()), [(Mode::Global, false, 0)]);
    }
}
