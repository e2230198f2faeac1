//! `image`, `platform`, `pull_policy`.

use limpet_protocol::spec::{ImageSource, PullPolicy};

use super::reader::Reader;

pub(super) fn image(reader: &mut Reader) -> ImageSource {
    let reference = reader.text("image").unwrap_or_default();
    match reader.get("image") {
        None if reader.get("build").is_none() && reader.get("provider").is_none() => {
            let node = reader.node;
            reader.refuse(node, "`image` is missing", "name the image that the service runs");
        }
        Some(node) if reference.is_empty() || reference.contains(char::is_whitespace) => {
            reader.at("image").fail(node, format!("{reference:?} is no image reference"));
        }
        _ => {}
    }
    ImageSource {
        reference,
        digest: None,
        from_controller: false,
        platform: platform(reader),
        pull: pull(reader),
    }
}

fn platform(reader: &mut Reader) -> Option<String> {
    let node = reader.get("platform")?;
    let text = reader.text("platform")?;
    let parts: Vec<&str> = text.split('/').collect();
    let legal = matches!(parts.as_slice(), ["linux", rest @ ..] if (1..=2).contains(&rest.len())
        && rest.iter().all(|part| !part.is_empty()));
    if !legal {
        let message = format!("expected linux/ARCHITECTURE[/VARIANT], found {text:?}");
        reader.at("platform").refuse(node, message, "Limpet runs Linux containers only");
    }
    Some(text)
}

fn pull(reader: &mut Reader) -> PullPolicy {
    let Some(node) = reader.get("pull_policy") else { return PullPolicy::Missing };
    let text = node.scalar().unwrap_or_default();
    match text {
        "always" => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "missing" | "if_not_present" => PullPolicy::Missing,
        text if text == "daily" || text == "weekly" || text.starts_with("every_") => {
            reader.at("pull_policy").warn(
                node,
                format!("{text:?} is taken as `missing`: images are not looked up by the clock"),
                "write `always`, and apply again when a new image is wanted",
            );
            PullPolicy::Missing
        }
        "build" => {
            let message = "Limpet does not build images";
            let advice = "build it with any tool and load it with `limpet image load`";
            reader.at("pull_policy").refuse(node, message, advice);
            PullPolicy::Missing
        }
        other => {
            let message = format!("expected always, missing or never, found {other:?}");
            reader.at("pull_policy").fail(node, message);
            PullPolicy::Missing
        }
    }
}
