//! `limpet explain`: why something is not running, not updated, not placed.
//!
//! The controller decides ([`limpet_controller::explain`]); here it is made readable: the matter,
//! what to do, and the chain with the first link that does not hold marked.

use clap::{Args, ValueEnum};
use limpet_controller::explain::{Explanation, Link, Part, State};

use crate::client::Client;
use crate::output::{self, Format};

/// Parts whose chain is shown; of the others a line each.
const MAX_CHAINS: usize = 3;

/// Arguments of `limpet explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
The chain goes from what is wanted to what is: spec, placement, contact, assignment, dependencies, image, start, health,
traffic, update. The first link that does not hold is marked (✗ broken, … on its way); those after it are not looked at.

Examples:
  limpet explain shop.web            why a service is as it is
  limpet explain shop.web.2          one instance
  limpet explain pump-7              a node
  limpet explain shop -o json | jq -r '.parts[].summary'")]
pub struct ExplainArgs {
    /// A service, an instance, an application or a node
    #[arg(value_name = "APP.SERVICE|INSTANCE|NODE")]
    name: String,
    /// What the name means, where it could be several
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What a name can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// An application.
    Application,
    /// A service of one.
    Service,
    /// An instance of a service.
    Instance,
    /// A node.
    Node,
}

impl Kind {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Service => "service",
            Self::Instance => "instance",
            Self::Node => "node",
        }
    }
}

/// Explains.
///
/// # Errors
/// If the controller does not answer, or has nothing of that name.
pub async fn run(args: &ExplainArgs, client: &Client) -> anyhow::Result<()> {
    let it = client.explain(&args.name, args.kind.map(Kind::as_str)).await?;
    match args.output {
        Format::Json | Format::Yaml => output::object(args.output, &it)?,
        Format::Table | Format::Wide => output::print(&text(&it, output::colours()))?,
    }
    Ok(())
}

fn text(it: &Explanation, colours: bool) -> String {
    let mut text = String::new();
    let sign = if it.well { Sign::Ok } else { Sign::of_chain(&it.chain) };
    text += &format!("{} {} {}: {}\n", sign.show(colours), it.kind, it.name, it.summary);
    if let Some(advice) = &it.advice {
        text += &format!("  → {advice}\n");
    }
    chain(&mut text, &it.chain, "  ", colours);
    for (index, part) in it.parts.iter().enumerate() {
        let sign = Sign::of_chain(&part.chain);
        let place = part.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let Part { name, summary, .. } = part;
        text += &format!("\n  {} {name}{place}: {summary}\n", sign.show(colours));
        if let Some(advice) = &part.advice {
            text += &format!("    → {advice}\n");
        }
        if index < MAX_CHAINS {
            chain(&mut text, &part.chain, "    ", colours);
        }
    }
    if it.more > 0 {
        text += &format!("\n  and {} more\n", it.more);
    }
    text
}

#[derive(Clone, Copy)]
enum Sign {
    Ok,
    Waiting,
    Broken,
}

impl Sign {
    fn of_chain(links: &[Link]) -> Self {
        let first = links.iter().find(|link| !link.holds());
        first.map_or(Self::Ok, |link| match link.state {
            State::Ok => Self::Ok,
            State::Waiting | State::Unknown => Self::Waiting,
            State::Broken => Self::Broken,
        })
    }

    fn show(self, colours: bool) -> String {
        let (mark, colour) = match self {
            Self::Ok => ('✓', 32),
            Self::Waiting => ('…', 33),
            Self::Broken => ('✗', 31),
        };
        if colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_string() }
    }
}

fn chain(text: &mut String, links: &[Link], indent: &str, colours: bool) {
    let known = links.iter().filter(|link| link.state != State::Unknown);
    let width = known.clone().map(|link| link.link.len()).max().unwrap_or_default();
    for link in known {
        let sign = Sign::of_chain(std::slice::from_ref(link)).show(colours);
        *text += &format!("{indent}{sign} {:<width$}  {}\n", link.link, link.says);
    }
    let rest: Vec<&str> = links
        .iter()
        .filter(|link| link.state == State::Unknown)
        .map(|link| link.link.as_str())
        .collect();
    if !rest.is_empty() {
        *text += &format!("{indent}· not looked at: {}\n", rest.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(link: &str, state: State, says: &str) -> Link {
        Link { link: link.into(), state, says: says.into(), advice: None }
    }

    #[test]
    fn the_first_link_that_does_not_hold_is_marked() {
        let it = Explanation {
            name: "shop.web.1".into(),
            kind: "instance".into(),
            well: false,
            summary: "nginx:9 cannot be had".into(),
            advice: Some("check the name".into()),
            chain: vec![
                link("spec", State::Ok, "1 of 2"),
                link("image", State::Broken, "nginx:9 cannot be had"),
                link("start", State::Unknown, ""),
                link("health", State::Unknown, ""),
            ],
            parts: vec![],
            more: 0,
        };
        let expected = "✗ instance shop.web.1: nginx:9 cannot be had\n  → check the name\n  ✓ spec   1 of 2\n  ✗ image  nginx:9 cannot be had\n  · not looked at: start, health\n";
        assert_eq!(text(&it, false), expected);
        let part = Part {
            name: it.name.clone(),
            node: Some("n1".into()),
            well: false,
            summary: it.summary.clone(),
            advice: None,
            chain: it.chain.clone(),
        };
        let service = Explanation { parts: vec![part; 4], more: 9, ..it };
        let text = text(&service, false);
        assert_eq!(text.matches("✗ shop.web.1 on n1").count(), 4);
        assert_eq!(text.matches("not looked at").count(), 1 + MAX_CHAINS);
        assert!(text.ends_with("and 9 more\n"));
    }
}
