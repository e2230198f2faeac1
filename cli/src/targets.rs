//! What a word on the command line means.
//!
//! For verbs that look ([`resolve`]): `web` is the service of that name in every application,
//! `shop.web` the one of the application shop, `shop.web.2` one instance, `shop` everything of the
//! application. For verbs that change something ([`Target`]) only `shop` and `shop.web`.

use std::fmt;
use std::str::FromStr;

use limpet_controller::api::types::InstanceView;
use limpet_protocol::id::{ApplicationName, ServiceName};

use crate::exit::NotFound;

/// An application, or one service of it: `shop`, `shop.web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The application.
    pub application: ApplicationName,
    /// Its service; none is all of them.
    pub service: Option<ServiceName>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (application, service) = match word.split_once('.') {
            Some((application, service)) => (application, Some(service)),
            None => (word, None),
        };
        let wrong = |error| format!("expected APP or APP.SERVICE: {error}");
        Ok(Self {
            application: ApplicationName::new(application).map_err(wrong)?,
            service: service.map(ServiceName::new).transpose().map_err(wrong)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{}.{service}", self.application),
            None => write!(f, "{}", self.application),
        }
    }
}

impl Target {
    /// All of an application.
    #[must_use]
    pub const fn whole(application: ApplicationName) -> Self {
        Self { application, service: None }
    }

    /// Whether it means this service of its application.
    #[must_use]
    pub fn means(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|own| own.as_str() == service)
    }

    /// What else the word could have been meant as, as advice; for a word that means nothing.
    #[must_use]
    pub fn advice(&self, all: &[InstanceView]) -> Option<String> {
        let word = self.to_string();
        if let Some(one) = all.iter().find(|item| item.instance == word) {
            return Some(format!(
                "{word} is one instance; name its service, {}.{}, and all of them are replaced \
                 under its update rules",
                one.application, one.service
            ));
        }
        let mut services: Vec<String> = all
            .iter()
            .filter(|item| self.service.is_none() && item.service == word)
            .map(|item| format!("{}.{}", item.application, item.service))
            .collect();
        services.dedup();
        (!services.is_empty()).then(|| format!("did you mean {}?", services.join(" or ")))
    }
}

/// The instances that a word means, by name; the closest reading wins.
///
/// # Errors
/// If it means none.
pub fn resolve<'a>(word: &str, all: &'a [InstanceView]) -> Result<Vec<&'a InstanceView>, NotFound> {
    let readings: [fn(&InstanceView, &str) -> bool; 4] = [
        |item, word| item.instance == word,
        |item, word| {
            let rest = word.strip_prefix(&item.application);
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(&item.service)
        },
        |item, word| item.service == word,
        |item, word| item.application == word,
    ];
    for reading in readings {
        let found: Vec<_> = all.iter().filter(|item| reading(item, word)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(NotFound(format!(
        "there is no service, instance or application {word:?}; `limpet ps` shows those that are"
    )))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn instance(application: &str, service: &str, slot: u32) -> InstanceView {
        InstanceView {
            instance: format!("{application}.{service}.{slot}"),
            application: application.into(),
            service: service.into(),
            slot,
            node: None,
            attempt: 1,
            image: "i".into(),
            phase: "running".into(),
            since_ms: 0,
            reason: None,
            exit_code: None,
            out_of_memory: false,
            current: true,
            health: None,
            ready: None,
            address: None,
            ports: vec![],
        }
    }

    #[test]
    fn a_target_is_an_application_or_a_service() {
        for word in ["shop", "shop.web", "shop.web.v1"] {
            assert_eq!(word.parse::<Target>().unwrap().to_string(), word);
        }
        for word in ["", ".", ".web", "shop.", "Shop", "../x", "a b", "shop/web", "ä", "shop.\n"] {
            let refused = word.parse::<Target>().unwrap_err();
            assert!(refused.starts_with("expected APP or APP.SERVICE: "), "{word:?}: {refused}");
        }
    }

    #[test]
    fn a_word_that_means_nothing_gets_advice() {
        let all = [instance("shop", "web", 1), instance("shop", "web", 2)];
        let advice = |word: &str| word.parse::<Target>().unwrap().advice(&all).unwrap_or_default();
        assert!(
            advice("shop.web.2")
                .starts_with("shop.web.2 is one instance; name its service, shop.web,")
        );
        assert_eq!(advice("web"), "did you mean shop.web?");
        assert_eq!(advice("nothing"), "");
    }

    #[test]
    fn the_closest_reading_wins() {
        let all = [
            instance("shop", "web", 1),
            instance("shop", "web", 2),
            instance("shop", "web.v1", 1),
            instance("blog", "web", 1),
            instance("web", "db", 1),
        ];
        let names = |word: &str| -> Vec<String> {
            let found = resolve(word, &all).unwrap_or_default();
            found.iter().map(|item| item.instance.clone()).collect()
        };
        assert_eq!(names("shop.web.2"), ["shop.web.2"]);
        assert_eq!(names("shop.web"), ["shop.web.1", "shop.web.2"]);
        assert_eq!(names("shop.web.v1"), ["shop.web.v1.1"], "a service name may have dots");
        assert_eq!(names("web"), ["shop.web.1", "shop.web.2", "blog.web.1"]);
        assert_eq!(names("blog"), ["blog.web.1"]);
        assert_eq!(names("db"), ["web.db.1"]);
        assert!(resolve("nothing", &all).is_err());
    }
}
