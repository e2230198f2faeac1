//! Which instances a word on the command line means.
//!
//! `web` is the service of that name in every application, `shop.web` the one of the application
//! shop, `shop.web.2` one instance, `shop` everything of the application.

use limpet_controller::api::types::InstanceView;

use crate::exit::NotFound;

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
        }
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
